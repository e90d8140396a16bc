"""Timelines and their drawings: every action, what never ends, and whatever producers send."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.event import Resource
from deploylog.events.times import SECOND
from deploylog.ui.timeline import MAX_DIAGNOSTICS, Timeline
from deploylog.ui.waterfall import Waterfall, draw
from support.factories import event

START = 1_000 * SECOND


def timeline_of(*steps: tuple[float, str, str], **fields: object) -> Timeline:
    """What events say: each at so many seconds after the start, of a type, about a name."""
    timeline = Timeline()
    for position, (seconds, type, name) in enumerate(steps, 1):
        time = START + int(seconds * SECOND)
        timeline.add(event(position, type=type, resource=name, time=time, **fields))
    return timeline


def drawn(
    *steps: tuple[float, str, str], ended: float | None = None, now: float = 100, **how: object
) -> Waterfall:
    end = START + int(ended * SECOND) if ended is not None else None
    return draw(
        timeline_of(*steps),
        start=START,
        end=end,
        now=START + int(now * SECOND),
        **how,  # type: ignore[arg-type]
    )


def test_a_resource_is_a_bar_from_its_start_to_its_end():
    waterfall = drawn(
        (2, "resource.create.started", "web"), (6, "resource.create.completed", "web"), ended=10
    )

    [row] = waterfall.rows
    [span] = row.spans
    assert (row.address, row.action, row.state) == ("terraform_data.web", "create", "completed")
    assert (span.start, span.length) == (pytest.approx(0.2), pytest.approx(0.4))
    assert row.duration == 4 * SECOND


def test_a_replacement_is_a_delete_and_a_create_on_one_row():
    [row] = drawn(
        (1, "resource.delete.started", "db"),
        (3, "resource.delete.completed", "db"),
        (3, "resource.create.started", "db"),
        (9, "resource.create.completed", "db"),
        ended=10,
    ).rows

    assert row.action == "replace"
    assert [span.action for span in row.spans] == ["delete", "create"]


def test_what_has_not_ended_lasts_until_now():
    [row] = drawn((5, "resource.create.started", "web"), now=25).rows

    assert (row.state, row.duration) == ("running", 20 * SECOND)
    assert row.spans[0].start + row.spans[0].length == pytest.approx(1)


def test_what_never_ended_lasts_until_the_deployment_did():
    [row] = drawn((5, "resource.create.started", "web"), ended=15, now=1_000).rows

    assert (row.state, row.duration) == ("unfinished", 10 * SECOND)


def test_an_end_without_a_start_uses_what_it_says_it_took():
    timeline = timeline_of((8, "resource.create.completed", "web"), elapsed=3 * SECOND)

    [row] = draw(timeline, start=START, end=START + 10 * SECOND, now=START).rows

    assert row.duration == 3 * SECOND


def test_an_end_before_its_start_is_a_bar_without_length():
    [row] = drawn(
        (9, "resource.create.started", "web"), (2, "resource.create.failed", "web"), ended=10
    ).rows

    assert (row.state, row.duration) == ("failed", 0)


def test_the_slowest_come_first_when_asked_for():
    waterfall = drawn(
        (0, "resource.create.started", "fast"),
        (1, "resource.create.completed", "fast"),
        (1, "resource.create.started", "slow"),
        (9, "resource.create.completed", "slow"),
        ended=10,
        order="slowest",
    )

    assert [row.address for row in waterfall.rows] == ["terraform_data.slow", "terraform_data.fast"]


def test_the_critical_path_is_what_the_end_waited_for():
    waterfall = drawn(
        (0, "resource.create.started", "network"),
        (4, "resource.create.completed", "network"),
        (0, "resource.create.started", "aside"),
        (2, "resource.create.completed", "aside"),
        (4.1, "resource.create.started", "database"),
        (9, "resource.create.completed", "database"),
        ended=10,
    )

    critical = {row.address for row in waterfall.rows if row.is_critical}
    assert critical == {"terraform_data.network", "terraform_data.database"}
    assert waterfall.critical / SECOND == pytest.approx(8.9)


def test_a_long_gap_is_folded_and_nothing_else_is():
    waterfall = drawn(
        (0, "resource.create.started", "before"),
        (10, "resource.create.completed", "before"),
        (3610, "resource.create.started", "after"),
        (3620, "resource.create.completed", "after"),
        ended=3620,
    )

    [fold] = waterfall.folds
    assert fold.duration == 3600 * SECOND
    assert fold.length < 0.05
    assert [round(row.spans[0].length, 1) for row in waterfall.rows] == [0.5, 0.5]
    assert not [tick for tick in waterfall.ticks if 10 < tick.elapsed / SECOND < 3600]


def test_slower_than_before_is_what_took_much_longer():
    steps = [
        (0.0, "resource.create.started", "web"),
        (30.0, "resource.create.completed", "web"),
        (0.0, "resource.create.started", "db"),
        (31.0, "resource.create.completed", "db"),
    ]
    baseline = {
        ("terraform_data.web", "create"): 10 * SECOND,
        ("terraform_data.db", "create"): 30 * SECOND,
    }

    waterfall = drawn(*steps, ended=31, baseline=baseline)

    assert {r.address: r.before for r in waterfall.rows} == {
        "terraform_data.web": 10 * SECOND,
        "terraform_data.db": None,
    }
    assert waterfall.slower == 1


def test_nothing_at_all_can_be_drawn():
    waterfall = draw(Timeline(), start=START, end=START, now=START)

    assert waterfall.rows == ()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {"severity": 3},
        {"severity": "error", "range": "main.tf"},
        {"severity": "error", "range": {"filename": 1}},
        {"severity": "error", "range": {"filename": "main.tf", "start": {"line": "x"}}},
    ],
)
def test_an_error_with_any_data_is_a_diagnostic(data: object):
    timeline = Timeline()

    timeline.add(event(type="deployment.error", message="broken", data=data))

    assert [each.message for each in timeline.diagnostics] == ["broken"]


def test_an_error_names_its_source_line():
    timeline = Timeline()
    data = {"severity": "error", "range": {"filename": "main.tf", "start": {"line": 12}}}

    for position in range(MAX_DIAGNOSTICS + 5):
        timeline.add(event(position, type="deployment.error", message="broken", data=data))

    assert timeline.diagnostics[0].source == "main.tf:12"
    assert len(timeline.diagnostics) == MAX_DIAGNOSTICS


def test_a_log_line_is_no_diagnostic_but_a_warning_is():
    timeline = Timeline()

    timeline.add(event(1, type="deployment.log", message="fine"))
    timeline.add(event(2, type="deployment.log", message="careful", data={"severity": "warning"}))

    assert [each.message for each in timeline.diagnostics] == ["careful"]


_phases = st.sampled_from(["started", "progress", "completed", "failed", "skipped", "odd"])
_actions = st.sampled_from(["create", "delete", "update", "noop", "", "<b>"])
_times = st.integers(0, (1 << 63) - 1)
_elapsed = st.none() | st.integers(0, (1 << 63) - 1)


@given(
    st.lists(st.tuples(_actions, _phases, st.sampled_from("abc"), _times, _elapsed), max_size=20),
    _times,
    st.none() | _times,
    _times,
)
def test_whatever_producers_send_is_drawn_on_the_axis(steps, start, end, now):
    timeline = Timeline()
    for position, (action, phase, name, time, elapsed) in enumerate(steps):
        about = Resource(type="t", name=name)
        type = f"resource.{action}.{phase}"
        timeline.add(event(position, type=type, resource=about, time=time, elapsed=elapsed))

    waterfall = draw(timeline, start=start, end=end, now=now)

    for row in waterfall.rows:
        assert row.duration >= 0
        for span in row.spans:
            assert -1e-9 <= span.start <= 1 + 1e-9
            assert -1e-9 <= span.length <= 1 + 1e-9
    assert all(left.at < right.at for left, right in pairwise(waterfall.ticks))
    assert len(waterfall.ticks) < 50
