"""Environment variables: a former or misspelt name is refused, and the right one is named."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    """``deploylog version`` with these variables."""
    return subprocess.run(
        [sys.executable, "-m", "deploylog", "version"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environ,
        },
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


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
def test_a_former_or_misspelt_variable_is_refused(name: str, right: str):
    done = run(**{name: "1"})

    assert (done.returncode, done.stdout) == (2, "")
    assert name in done.stderr
    assert right in done.stderr
    assert done.stderr.count("\n") == 1


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
def test_variables_of_others_and_of_every_command_pass(name: str):
    done = run(**{name: "1"})

    assert (done.returncode, done.stderr) == (0, "")
