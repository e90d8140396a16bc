"""A timeline as a drawing: rows of bars on one axis, whose idle gaps are folded."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from deploylog.events.times import SECOND
from deploylog.ui.timeline import Bar, State, Timeline

Order = Literal["started", "slowest"]

#: An idle gap is folded when it lasts this long, and longer than this part of the rest.
_MIN_GAP = 20 * SECOND
_GAP_PART = 0.15

#: What a folded gap takes of the axis.
_FOLDED_PART = 0.03

#: ns between the end of one bar and the start of the next that waited for it.
_HANDOVER = 1 * SECOND

#: How much longer than before is worth a word.
_LONGER_FACTOR = 1.5
_LONGER_BY = 2 * SECOND

#: Steps between two marks of the axis, in seconds.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MAX_TICKS = 8

#: Median duration (ns) in earlier deployments, by address and action.
Baseline = Mapping[tuple[str, str], int]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A bar on the axis: where it begins and how long it is, as parts of the whole."""

    action: str
    state: State
    start: float
    length: float
    duration: int
    started: int
    is_critical: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A resource."""

    address: str
    type: str
    #: ``create``, ``update``, …, or ``replace`` for a delete and a create.
    action: str
    state: State
    #: ns of all its bars.
    duration: int
    spans: tuple[Span, ...]
    is_critical: bool
    #: Its duration before, if it is much slower now.
    before: int | None
    message: str | None


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A mark of the axis."""

    at: float
    time: int
    elapsed: int


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the axis in which nothing happened."""

    at: float
    length: float
    duration: int


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """The drawing."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    folds: tuple[Fold, ...]
    start: int
    end: int
    #: ns on the critical path.
    critical: int
    slower: int


class Axis:
    """Maps times to parts of the whole, in which folded gaps are short."""

    def __init__(self, start: int, end: int, busy: Sequence[tuple[int, int]]) -> None:
        """``busy`` are the times in which something happened."""
        self.start = start
        self.end = max(end, start + 1)
        gaps = _gaps(busy, self.start, self.end)
        rest = self.end - self.start - sum(end - start for start, end in gaps)
        self.gaps = [gap for gap in gaps if gap[1] - gap[0] > max(_MIN_GAP, rest * _GAP_PART)]
        shown = self.end - self.start - sum(end - start for start, end in self.gaps)
        folded = shown * _FOLDED_PART / (1 - min(_FOLDED_PART * len(self.gaps), 0.5))
        #: Times, and how far along the axis each is.
        self._knots = [(self.start, 0.0)]
        for gap_start, gap_end in self.gaps:
            time, along = self._knots[-1]
            along += gap_start - time
            self._knots += [(gap_start, along), (gap_end, along + folded)]
        time, along = self._knots[-1]
        self._knots.append((self.end, along + (self.end - time)))
        self._length = self._knots[-1][1] or 1.0

    def at(self, time: int) -> float:
        """Where ``time`` is, from 0 to 1."""
        for (left, before), (right, after) in pairwise(self._knots):
            if time <= right:
                part = (time - left) / (right - left) if right > left else 0.0
                return max(before + (after - before) * part, 0.0) / self._length
        return 1.0


def draw(
    timeline: Timeline,
    *,
    start: int,
    end: int | None,
    now: int,
    order: Order = "started",
    baseline: Baseline | None = None,
) -> Waterfall:
    """Draw what is known ``now``; ``end`` is when the deployment ended, if it has."""
    # Without any bar ``min`` and ``max`` have the deployment's own times.
    until = max(end if end is not None else now, start)
    bars = {
        address: [_closed(bar, end, until) for bar in found]
        for address, found in timeline.bars.items()
    }
    every = [bar for found in bars.values() for bar in found]
    first = min((start, *(bar.started for bar in every)))
    last = max((until, *(bar.ended or 0 for bar in every)))
    axis = Axis(first, last, [(bar.started, bar.ended or last) for bar in every])
    path = _critical_path(every)
    rows = [
        _row(address, timeline.types.get(address, ""), found, axis, path, baseline or {})
        for address, found in bars.items()
    ]
    if order == "slowest":
        rows.sort(key=lambda row: -row.duration)
    else:
        rows.sort(key=lambda row: row.spans[0].started)
    return Waterfall(
        rows=tuple(rows),
        ticks=tuple(_ticks(axis)),
        folds=tuple(
            Fold(at=axis.at(left), length=axis.at(right) - axis.at(left), duration=right - left)
            for left, right in axis.gaps
        ),
        start=first,
        end=last,
        critical=sum((bar.ended or last) - bar.started for bar in every if id(bar) in path),
        slower=sum(row.before is not None for row in rows),
    )


def _closed(bar: Bar, end: int | None, until: int) -> Bar:
    """The bar with an end: an open one lasts until now, or until the deployment ended."""
    if bar.ended is not None:
        return bar
    state: State = "running" if end is None else "unfinished"
    return msgspec.structs.replace(bar, ended=max(until, bar.started), state=state)


def _row(
    address: str, type: str, bars: list[Bar], axis: Axis, path: set[int], baseline: Baseline
) -> Row:
    spans = tuple(_span(bar, axis, is_critical=id(bar) in path) for bar in bars)
    slower = [before for bar in bars if (before := _slower(address, bar, baseline)) is not None]
    return Row(
        address=address,
        type=type,
        action=_action(bars),
        state=_state(bars),
        duration=sum(span.duration for span in spans),
        spans=spans,
        is_critical=any(span.is_critical for span in spans),
        before=max(slower) if slower else None,
        message=next((bar.message for bar in reversed(bars) if bar.state == "failed"), None),
    )


def _span(bar: Bar, axis: Axis, *, is_critical: bool) -> Span:
    ended = bar.ended if bar.ended is not None else axis.end
    start = axis.at(bar.started)
    return Span(
        action=bar.action,
        state=bar.state,
        start=start,
        length=axis.at(ended) - start,
        duration=ended - bar.started,
        started=bar.started,
        is_critical=is_critical,
    )


def _action(bars: list[Bar]) -> str:
    actions = {bar.action for bar in bars}
    return "replace" if {"create", "delete"} <= actions else bars[-1].action


def _state(bars: list[Bar]) -> State:
    states = [bar.state for bar in bars]
    for state in ("failed", "running", "unfinished"):
        if state in states:
            return state
    return states[-1]


def _slower(address: str, bar: Bar, baseline: Baseline) -> int | None:
    """The duration before, of a bar that has taken much longer."""
    before = baseline.get((address, bar.action))
    if before is None or bar.ended is None:
        return None
    return before if is_much_longer(bar.ended - bar.started, before) else None


def is_much_longer(duration: int, other: int) -> bool:
    """Whether a duration (ns) is worth a word beside another one."""
    return duration > other * _LONGER_FACTOR and duration - other > _LONGER_BY


def _critical_path(bars: list[Bar]) -> set[int]:
    """The ids of the bars that the end had to wait for: each began when the next to last ended.

    Tools do not say what depended on what. They begin a resource as soon as they can, so the
    times tell.
    """
    by_end = sorted((bar for bar in bars if bar.ended is not None), key=lambda bar: bar.ended or 0)
    path: set[int] = set()
    current = by_end.pop() if by_end else None
    while current is not None:
        path.add(id(current))
        while by_end and (by_end[-1].ended or 0) > current.started:
            by_end.pop()
        is_handover = by_end and current.started - (by_end[-1].ended or 0) <= _HANDOVER
        current = by_end.pop() if is_handover else None
    return path


def _gaps(busy: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The times in which nothing was busy."""
    gaps: list[tuple[int, int]] = []
    reached = start
    for left, right in sorted(busy):
        if left > reached:
            gaps.append((reached, left))
        reached = max(reached, right)
    if end > reached:
        gaps.append((reached, end))
    return gaps


def _ticks(axis: Axis) -> Iterable[Tick]:
    """Marks at round elapsed times, none of them in a fold."""
    shown = axis.end - axis.start - sum(right - left for left, right in axis.gaps)
    steps = (step * SECOND for step in _STEPS)
    step = next((each for each in steps if shown // each <= _MAX_TICKS), _STEPS[-1] * SECOND)
    elapsed, previous = 0, -1.0
    number = 0
    while axis.start + elapsed <= axis.end and number < 4 * _MAX_TICKS:
        time = axis.start + elapsed
        at = axis.at(time)
        if at - previous > 0.5 / _MAX_TICKS and not any(
            left < time < right for left, right in axis.gaps
        ):
            yield Tick(at=at, time=time, elapsed=elapsed)
            previous = at
        fold = next((right for left, right in axis.gaps if left <= time < right), None)
        elapsed = step * (elapsed // step + 1)
        if fold is not None:
            elapsed = max(elapsed, step * -(-(fold - axis.start) // step))
        number += 1
