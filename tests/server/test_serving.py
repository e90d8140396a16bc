"""Two services on one store: the second one is told of the first."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploylog.server.serving import claim

CLAIM = """
import sys
from pathlib import Path
from deploylog.server.serving import claim
with claim(Path(sys.argv[1]), "http://127.0.0.1:1") as other:
    print(other, flush=True)
    sys.stdin.read()
"""


def test_the_first_service_of_a_store_is_told_of_none(tmp_path: Path):
    with claim(tmp_path / "log.serving", "http://127.0.0.1:8325") as other:
        assert other is None


def test_a_service_that_has_ended_is_not_told_of(tmp_path: Path):
    with claim(tmp_path / "log.serving", "http://127.0.0.1:8325"):
        pass

    with claim(tmp_path / "log.serving", "http://127.0.0.1:8326") as other:
        assert other is None


@pytest.mark.process
def test_the_second_service_is_told_of_the_first_until_that_is_killed(tmp_path: Path):
    file = tmp_path / "log.serving"
    first = subprocess.Popen(
        [sys.executable, "-c", CLAIM, file],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline() == "None\n"

    with claim(file, "http://127.0.0.1:2") as beside:
        first.kill()
        first.communicate()
    with claim(file, "http://127.0.0.1:2") as after:
        assert (beside, after) == (f"process {first.pid} at http://127.0.0.1:1", None)


@pytest.mark.process
def test_a_worker_is_not_told_of_its_parent(tmp_path: Path):
    file = tmp_path / "log.serving"

    with claim(file, "http://127.0.0.1:1"):
        worker = subprocess.run(
            [sys.executable, "-c", CLAIM, file], input="", capture_output=True, text=True,
            check=True,
        )  # fmt: skip

    assert worker.stdout == "None\n"


def test_a_folder_that_does_not_exist_is_left_to_the_store(tmp_path: Path):
    with claim(tmp_path / "missing" / "log.serving", "http://127.0.0.1:1") as other:
        assert other is None
