"""The goals, and what was measured of them."""

import re
from collections.abc import Iterator

import msgspec

from bench.report import Report

#: Rows of the table: the part, the goal, what was measured, and whether that meets it.
Row = tuple[str, str, str, str]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A bound for a figure, or for the ratio of ours to a peer's."""

    part: str
    text: str
    case: str
    figure: str
    minimum: float | None = None
    maximum: float | None = None
    #: A ratio, not a figure.
    peer: str | None = None

    def measured(self, report: Report) -> float | None:
        """What was measured, if anything was."""
        if self.peer is None:
            return report.median(self.case, self.figure)
        return report.ratio(self.case, self.figure, self.peer)

    def is_met(self, value: float) -> bool:
        """Whether this value is within the bound."""
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )


def _at_least(part: str, case: str, peer: str, minimum: float, figure: str = "rate") -> Goal:
    text = f"{case}: {figure} ≥ {minimum} of {peer}'s"
    return Goal(part=part, text=text, case=case, figure=figure, minimum=minimum, peer=peer)


def _at_most(part: str, case: str, peer: str, maximum: float, figure: str) -> Goal:
    text = f"{case}: {figure} ≤ {maximum} of {peer}'s"
    return Goal(part=part, text=text, case=case, figure=figure, maximum=maximum, peer=peer)


def _below(part: str, case: str, figure: str, maximum: float) -> Goal:
    return Goal(
        part=part, text=f"{case}: {figure} ≤ {maximum}", case=case, figure=figure, maximum=maximum
    )


_RATIOS = (
    _at_least("P1", "P1 batch", "sqlite", 1.0),
    _at_least("P1", "P1 batch", "jetstream", 15.0),
    _at_least("P2", "P2 single", "jetstream", 3.0),
    _at_least("P2", "P2 single", "postgresql", 2.0),
    _at_least("P2", "P2 single", "sqlite", 0.35),
    _at_least("P3", "P3 burst single", "nchan", 2.0),
    _at_least("P3", "P3 burst", "nchan", 10.0),
    *(
        _at_most("P4", f"P4 {pace}/s paced", "nchan", 1.0, figure)
        for pace in (50, 100)
        for figure in ("p50_ms", "p99_ms")
    ),
    *(
        _at_least("P6", f"P6 {case}", peer, minimum)
        for case in ("per_deployment", "strict")
        for peer, minimum in (("aiohttp", 0.5), ("alertmanager", 1.5))
    ),
    _at_least("P9", "P9 batch", "copy", 0.8),
    _at_least("P9", "P9 single", "row-by-row", 2.0),
    *(
        _at_least("P9", f"P9 {case}, 3 processes", "one process", 1.0)
        for case in ("batch", "single")
    ),
)

_PAGE_MS, _COUNT_MS, _GROWTH = 5.0, 20.0, 1.5


def rows(report: Report) -> Iterator[Row]:
    """Every goal of which something was measured."""
    for goal in (*_RATIOS, *_of_cases(report)):
        value = goal.measured(report)
        if value is not None:
            yield goal.part, goal.text, f"{value:.3g}", _verdict(goal.is_met(value))
    yield from _growth(report)


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _of_cases(report: Report) -> Iterator[Goal]:
    for case in report.cases("P7 "):
        yield _at_most("P7", case, "sockets", 2.0, "seconds")
    largest = _largest(report)
    for case in report.cases("P5 page: "):
        if _size(case) == largest:
            yield _below("P5", case, "p99_ms", _PAGE_MS)
    for case in report.cases("P5 count: "):
        if _size(case) == largest:
            yield _below("P5", case, "p50_ms", _COUNT_MS)
    for case in report.cases("P9 page: "):
        yield _at_most("P9", case, "sqlite", 2.0, "p50_ms")
    for case in report.cases("P8 start"):
        yield _below("P8", case, "first_answer_s", 0.7)
    for case in report.cases("P8 memory"):
        yield _below("P8", case, "rss_mb", 150.0)
    for case in report.cases("P8 disk"):
        yield _below("P8", case, "bytes_an_event", 450.0)
    for case in report.cases("curve idle"):
        yield _below("curve", case, "percent_of_a_core", 0.2)


def _growth(report: Report) -> Iterator[Row]:
    """How much longer a page takes in the largest log than in the smallest."""
    largest = _largest(report)
    for case in report.cases("P5 page: "):
        name, size = case[: case.rindex(", ")], f"{_size(case):,}"
        if _size(case) != largest:
            continue
        small = report.median(f"{name}, 10,000", "p50_ms")
        large = report.median(case, "p50_ms")
        if small and large:
            growth = large / small
            text = f"{name}: p50 at {size} ≤ {_GROWTH} of that at 10,000"
            yield "P5", text, f"{growth:.3g}", _verdict(growth <= _GROWTH)


def _largest(report: Report) -> int:
    return max(map(_size, report.cases("P5 page: ")), default=0)


def _size(case: str) -> int:
    found = re.search(r", (\d[\d,]*)$", case)
    return int(found[1].replace(",", "")) if found else 0
