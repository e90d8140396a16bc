"""Environment variables: a former or misspelt name is refused, and the right one is named."""

import os
from pathlib import Path

import pytest

from support.cli import Result
from support.preloaded import preloaded

pytestmark = pytest.mark.process


def run(tmp_path: Path, **environ: str) -> Result:
    """``deploylog version`` with these variables."""
    code, out, err = preloaded().run(
        ["version"], environ={"PATH": os.environ["PATH"], **environ}, cwd=tmp_path
    )
    return Result(code, out.decode(), err.decode())


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("DEPLOYLOG_RETENTION_DAYS", "DEPLOYLOG_EVENT_RETENTION_DAYS"),
        ("DEPLOYLOG_CHANGESET_DAYS", "DEPLOYLOG_CHANGESET_RETENTION_DAYS"),
        ("DEPLOYLOG_ATTEMPT_DAYS", "DEPLOYLOG_ATTEMPT_RETENTION_DAYS"),
        ("DEPLOYLOG_DELIVERY_NETWORKS", "DEPLOYLOG_DELIVERY_ALLOWED_NETWORKS"),
        ("DEPLOYLOG_MAX_STREAMS", "DEPLOYLOG_MAX_STREAMS_PER_PRINCIPAL"),
        ("DEPLOYLOG_MAX_UNPACKED_BYTES", "DEPLOYLOG_MAX_DECOMPRESSED_BYTES"),
        ("DEPLOYLOG_GIVE_UP_AFTER", "DEPLOYLOG_RETRY_TIMEOUT"),
        ("DEPLOYLOG_PLAN_FOLDER", "DEPLOYLOG_PLAN_FOLDERS"),
        ("DEPLOYLOG_SEVER", "DEPLOYLOG_SERVER"),
    ],
)
def test_a_former_or_misspelt_variable_is_refused(name: str, right: str, tmp_path: Path):
    done = run(tmp_path, **{name: "1"})

    assert (done.code, done.out) == (2, "")
    assert name in done.err
    assert right in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "DEPLOYLOG_SERVICE_HOST",
        "DEPLOYLOG_PORT_8325_TCP_ADDR",
        "DEPLOYLOG_EVENTS_LIMIT",
        "DEPLOYLOG_STACK",
        "DEPLOYLOG_KEY",
    ],
)
def test_variables_of_others_and_of_every_command_pass(name: str, tmp_path: Path):
    done = run(tmp_path, **{name: "1"})

    assert (done.code, done.err) == (0, "")
