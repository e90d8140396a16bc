"""The fault suites take protections out of the product by their names in it."""

import subprocess
import sys

import pytest

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
