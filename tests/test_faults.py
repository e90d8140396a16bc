"""The fault suites take protections out of the product by their names in it."""

import subprocess
import sys

import pytest
from faults.runs import Result, Run, result_of, table_of

from support.paths import ROOT

_TAKE_OUT = """
import faults.weakened

for take_out in faults.weakened.PROTECTIONS.values():
    take_out()
"""


@pytest.mark.process
def test_every_protection_can_be_taken_out():
    done = subprocess.run(
        [sys.executable, "-c", _TAKE_OUT], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def result(code: int | None, *, without: str | None = None) -> Result:
    return Result(Run("kill", "sqlite", without), 1.0, code)


@pytest.mark.parametrize("code", [1, 2, 3, -9, None])
def test_a_suite_that_did_not_end_well_kept_no_promise(code: int | None):
    assert not result(code).is_right


@pytest.mark.parametrize("code", [0, 2, 3, -9, None])
def test_a_suite_that_found_nothing_has_proven_nothing(code: int | None):
    assert not result(code, without="keys").is_right


def test_the_table_marks_what_is_not_as_it_should_be():
    text = table_of([result(0), result(1, without="keys"), result(None)])

    kept, proven, stopped = text.splitlines()[1:]
    assert kept.split() == ["kill", "sqlite", "-", "1", "kept"]
    assert proven.split() == ["kill", "sqlite", "keys", "1", "found"]
    assert stopped.endswith("took too long  <- not as it should be")


@pytest.mark.process
def test_a_suite_that_takes_too_long_is_stopped():
    ended = result_of(Run("kill", "sqlite"), max_seconds=0.5)

    assert ended.code is None
