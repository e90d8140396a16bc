"""Two deployments side by side: every resource is under exactly one difference."""

from deploylog.events.times import SECOND
from deploylog.ui.comparison import compare_diagnostics, compare_rows
from deploylog.ui.timeline import Diagnostic, State
from deploylog.ui.waterfall import Row


def row(address: str, seconds: float, *, action: str = "create", state: State = "completed") -> Row:
    return Row(
        address=address,
        type="server",
        action=action,
        state=state,
        duration=int(seconds * SECOND),
        spans=(),
        is_critical=False,
        before=None,
        message=None,
    )


def error(message: str, *, id: str = "1", address: str | None = None) -> Diagnostic:
    return Diagnostic(
        id=id, time=0, severity="error", message=message, address=address, source=None
    )


def test_each_resource_is_under_what_differs():
    earlier = [row("gone", 1), row("db", 10), row("lb", 30), row("web", 5), row("dns", 5)]
    later = [row("new", 1), row("db", 30), row("lb", 10), row("web", 5, state="failed")]

    groups = compare_rows(earlier, [*later, row("dns", 5.5)])

    found = {name: [pair.address for pair in pairs] for name, pairs in groups.items()}
    assert found == {
        "outcome": ["web"],
        "later": ["new"],
        "earlier": ["gone"],
        "slower": ["db"],
        "faster": ["lb"],
        "same": ["dns"],
    }


def test_another_action_is_another_outcome():
    groups = compare_rows([row("web", 5)], [row("web", 5, action="replace")])

    assert [pair.address for pair in groups["outcome"]] == ["web"]


def test_the_greatest_difference_in_time_comes_first():
    earlier = [row("a", 1), row("b", 1), row("c", 1)]

    slower = compare_rows(earlier, [row("a", 5), row("b", 50), row("c", 20)])["slower"]

    assert [pair.longer // SECOND for pair in slower] == [49, 19, 4]


def test_deployments_without_resources_have_no_difference():
    assert not any(compare_rows([], []).values())


def test_diagnostics_that_say_the_same_of_the_same_place_are_one():
    earlier = [error("quota", id="1", address="db"), error("gone", id="2")]
    later = [error("quota", id="3", address="db"), error("quota", id="4", address="web")]

    diagnosed = compare_diagnostics(earlier, later)

    assert [each.id for each in diagnosed.both] == ["3"]
    assert [each.id for each in diagnosed.later] == ["4"]
    assert [each.id for each in diagnosed.earlier] == ["2"]
