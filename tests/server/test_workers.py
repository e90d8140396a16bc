"""How soon a worker is started again, and the metrics of several workers as one."""

from prometheus_client.parser import text_string_to_metric_families

from deploylog.server.metrics import Metrics
from deploylog.server.worker_metrics import merge
from deploylog.server.workers import LAST_DELAY_SECONDS, SHORT_LIFE_SECONDS, _Slot


def delays(*lives: float) -> list[float]:
    """The delays after lives of so many seconds."""
    slot, now, found = _Slot(1), 0.0, []
    for life in lives:
        slot.started = now
        now += life
        found.append(slot.ended(now))
        now = slot.due
    return found


def test_a_worker_that_lived_long_is_started_again_at_once():
    assert delays(SHORT_LIFE_SECONDS, 3600) == [0, 0]


def test_a_worker_that_dies_again_and_again_waits_twice_as_long_each_time():
    assert delays(1, 1, 1, 1) == [0.5, 1, 2, 4]
    assert delays(*[0] * 20)[-1] == LAST_DELAY_SECONDS


def test_a_long_life_ends_the_delays():
    assert delays(0, 0, SHORT_LIFE_SECONDS, 0) == [0.5, 1, 0, 0.5]


def test_the_metrics_of_workers_are_told_apart_by_a_label():
    first, second = Metrics(), Metrics()
    first.committed(0.1, 2)
    second.committed(0.1, 3)

    merged = merge({"1": first.render().decode(), "2": second.render().decode()}).decode()

    families = {each.name: each for each in text_string_to_metric_families(merged)}
    samples = families["deploylog_events_appended"].samples
    assert {(each.labels["worker"], each.value) for each in samples} == {("1", 2), ("2", 3)}
    assert merged.count("# TYPE deploylog_events_appended_total counter") == 1
