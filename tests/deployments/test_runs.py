"""Runs: the deployment under one key that an event belongs to."""

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.runs import run_of
from support.factories import deployment

FAILED = deployment(id="1", status="failed", started=10, ended=20)
RUNNING = deployment(id="2", started=30)
COMPLETED = deployment(id="2", status="completed", started=30, ended=40)


def found(runs: list[Deployment], type: str, time: int) -> str | None:
    run = run_of(runs, f"deployment.{type}", time)
    return run.id if run is not None else None


def test_the_first_event_begins_a_run():
    assert found([], "queued", 10) is None
    assert found([], "failed", 10) is None


def test_a_run_that_goes_on_has_every_event():
    assert [found([RUNNING], type, 35) for type in ("queued", "progress", "log", "failed")] == [
        "2"
    ] * 4


def test_an_event_from_before_the_end_is_late():
    assert [found([FAILED], type, 15) for type in ("queued", "waiting", "progress")] == ["1"] * 3
    assert found([FAILED], "progress", 20) == "1"


def test_work_after_the_end_begins_the_next_run():
    assert found([FAILED], "progress", 21) is None
    assert found([FAILED, COMPLETED], "queued", 41) is None


def test_another_end_after_the_end_is_an_run_of_its_own():
    assert found([FAILED], "completed", 30) is None
    assert found([COMPLETED], "failed", 20) is None


def test_the_same_end_again_is_a_repetition():
    assert found([FAILED], "failed", 20) == "1"
    assert found([FAILED], "failed", 35) == "1"
    assert found([FAILED, COMPLETED], "completed", 50) == "2"


def test_a_repeated_end_does_not_end_the_next_run():
    assert found([FAILED, RUNNING], "failed", 20) == "1"
    assert found([FAILED, RUNNING], "failed", 15) == "1"


def test_the_next_run_ends_by_itself():
    assert found([FAILED, RUNNING], "failed", 50) == "2"
    assert found([FAILED, RUNNING], "completed", 50) == "2"


def test_what_is_neither_work_nor_an_end_belongs_to_the_newest_run():
    assert found([FAILED, COMPLETED], "inactive", 60) == "2"
    assert found([FAILED, COMPLETED], "log", 5) == "2"
