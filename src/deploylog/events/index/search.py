"""Searches: the events that an expression selects, segment by segment.

A search goes through the segments newest or oldest first, and stops where its caller has enough.
Nothing here reads or writes; ``EventRows`` is asked for the few rows that decide what bitmaps
cannot: the time of an event whose block is only partly in the range, and phrases.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec
from pyroaring import BitMap

from deploylog.events.filters import Filter
from deploylog.events.index.bitmap_cache import BitmapCache
from deploylog.events.index.expression import (
    All,
    Any,
    Expression,
    Prefix,
    Term,
    compile_query,
    leaves,
)
from deploylog.events.index.listed import ListedTerms
from deploylog.events.index.sealed import SealedSegment, SegmentRows, read_term
from deploylog.events.index.segments import (
    BLOCK_BITS,
    SEGMENT_BITS,
    SEGMENT_SIZE,
    GrowingSegment,
    Segment,
    Times,
    segment_of,
    union,
)
from deploylog.events.index.terms import EVERY, WORDY, is_listed
from deploylog.events.index.trace import Trace
from deploylog.events.store import Query

#: Segments whose rows are read at once: few at first, for the page that is full at once.
_FIRST_BATCH, _LARGEST_BATCH, _GROWTH = 1, 64, 4

_BLOCK = 1 << BLOCK_BITS


class EventRows(Protocol):
    """What a backend knows of the events at some positions."""

    def times(self, positions: Sequence[int]) -> Iterable[tuple[int, int]]:
        """Position and time of each event that is there."""
        ...

    def matching(self, positions: Sequence[int], filter: Filter) -> Iterable[int]:
        """The positions whose events match the filter, or are damaged."""
        ...


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The segments as one moment knows them, and the newest position of it."""

    head: int
    #: Everything at or below this position is no longer retained.
    floor: int
    #: The sealed segments by number.
    sealed: dict[int, Times]
    growing: tuple[GrowingSegment, ...]
    rows: SegmentRows
    listed: ListedTerms
    bitmaps: BitmapCache


class Selected(msgspec.Struct, frozen=True):
    """What a search selects in one segment; offsets, not positions."""

    segment: Segment
    offsets: BitMap

    @property
    def positions(self) -> list[int]:
        """The positions, oldest first."""
        first = self.segment.number << SEGMENT_BITS
        return [first + offset for offset in self.offsets.to_array()]


class Search:
    """One query over the segments of one moment."""

    def __init__(self, moment: Moment, query: Query, trace: Trace) -> None:
        """``trace`` counts what is read."""
        self._moment = moment
        self._query = query
        self.trace = trace
        self._expression = compile_query(query)
        self._low = max(query.after if query.after is not None else 0, moment.floor)
        high = moment.head + 1
        self._high = min(query.before, high) if query.before is not None else high

    def selected(self) -> Iterator[Selected]:
        """What may match, segment by segment in the query's order, never empty.

        Time is decided for whole blocks only, and phrases by the words in them.
        """
        for segment in self._segments():
            self.trace.segments += 1
            offsets = self._cut(segment, select(self._expression, segment))
            if offsets:
                self.trace.hits += 1
                yield Selected(segment, offsets)

    def exact(self, rows: EventRows) -> Iterator[Selected]:
        """The same, decided by rows where bitmaps do not decide."""
        for each in self.selected():
            offsets = self._decided(each, rows)
            if offsets:
                yield Selected(each.segment, offsets)

    # Segments

    def _segments(self) -> Iterator[Segment]:
        if self._high - self._low < 2:
            return
        numbers = range(segment_of(self._low + 1), segment_of(self._high - 1) + 1)
        sealed = [number for number in sorted(self._moment.sealed) if number in numbers]
        growing = [
            each
            for each in self._moment.growing
            if each.number in numbers and each.number not in self._moment.sealed
        ]
        growing.sort(key=lambda segment: segment.number)
        if self._query.order == "newest":
            yield from reversed(growing)
            yield from self._sealed(sealed[::-1])
        else:
            yield from self._sealed(sealed)
            yield from growing

    def _sealed(self, numbers: Sequence[int]) -> Iterator[SealedSegment]:
        size = _FIRST_BATCH
        wanted = [n for n in numbers if self._touches(self._moment.sealed[n])]
        while wanted:
            yield from self._prefetched([self._sealed_segment(n) for n in wanted[:size]])
            wanted = wanted[size:]
            size = min(size * _GROWTH, _LARGEST_BATCH)

    def _sealed_segment(self, number: int) -> SealedSegment:
        moment = self._moment
        return SealedSegment(number, moment.sealed[number], moment.rows, moment.bitmaps)

    def _prefetched(self, batch: Sequence[SealedSegment]) -> Sequence[SealedSegment]:
        """Those of the segments that may have an event with every term that it needs, with what is
        asked of them.

        What is stored of a term is not read where the terms before it meet in no event.
        """
        needed = [terms for part in self._expression.of if (terms := _alternatives(part))]
        met: dict[int, BitMap] = {}
        for terms in sorted(needed, key=_expected_cost):
            for term in terms:
                self._read(batch, term)
            for segment in batch:
                having = union([segment.having(term) for term in terms])
                met[segment.number] = met.get(segment.number, having) & having
            batch = [segment for segment in batch if met[segment.number]]
        others = {leaf.text for leaf in leaves(self._expression) if isinstance(leaf, Term)}
        if not self._expression.of:
            others.add(EVERY)
        for term in others.difference(*needed):
            self._read(batch, term)
        return batch

    def _read(self, batch: Sequence[SealedSegment], term: str) -> None:
        rows, numbers = self._moment.rows, tuple(segment.number for segment in batch)
        if is_listed(term):
            numbers = tuple(self._moment.listed.narrowed(rows, term, numbers))
        read_term(batch, term, rows, among=numbers)

    def _touches(self, times: Times) -> bool:
        """Whether the range of time has something of this segment."""
        return not self._is_timed or any(
            self._overlaps(earliest, latest) for earliest, latest in times.blocks()
        )

    # Positions and time

    def _cut(self, segment: Segment, offsets: BitMap) -> BitMap:
        first = segment.number << SEGMENT_BITS
        low, high = self._low + 1 - first, self._high - first
        if low > 0 or high < SEGMENT_SIZE:
            offsets = offsets & _range(max(low, 0), min(high, SEGMENT_SIZE))
        return self._in_blocks(segment, offsets, self._overlaps) if self._is_timed else offsets

    @property
    def _is_timed(self) -> bool:
        filter = self._query.filter
        return filter.since is not None or filter.until is not None

    def _overlaps(self, earliest: int, latest: int) -> bool:
        filter = self._query.filter
        return (
            earliest <= latest
            and (filter.since is None or latest >= filter.since)
            and (filter.until is None or earliest < filter.until)
        )

    def _covers(self, earliest: int, latest: int) -> bool:
        filter = self._query.filter
        return (filter.since is None or earliest >= filter.since) and (
            filter.until is None or latest < filter.until
        )

    def _in_blocks(
        self, segment: Segment, offsets: BitMap, is_wanted: Callable[[int, int], bool]
    ) -> BitMap:
        wanted = BitMap()
        for block, (earliest, latest) in enumerate(segment.times.blocks()):
            if is_wanted(earliest, latest):
                wanted.add_range(block << BLOCK_BITS, (block + 1) << BLOCK_BITS)
        return offsets & wanted

    def unread(self, each: Selected) -> BitMap:
        """Of what was selected, the events whose phrases only their rows decide."""
        phrases = self._query.filter.phrases
        if all(phrase.is_word for phrase in phrases):
            return each.offsets & each.segment.having(WORDY) if phrases else BitMap()
        return each.offsets

    def _undated(self, each: Selected) -> BitMap:
        """Those whose time only their rows decide."""
        if not self._is_timed:
            return BitMap()
        return each.offsets - self._in_blocks(each.segment, each.offsets, self._covers)

    def _decided(self, each: Selected, rows: EventRows) -> BitMap:
        doubtful = self.unread(each) | self._undated(each)
        if not doubtful:
            return each.offsets
        first = each.segment.number << SEGMENT_BITS
        positions = Selected(each.segment, doubtful).positions
        matching = BitMap([p - first for p in rows.matching(positions, self._query.filter)])
        self.trace.rows += len(doubtful)
        self.trace.rows_in_vain += len(doubtful) - len(matching)
        return (each.offsets - doubtful) | matching


def _alternatives(part: Expression) -> tuple[str, ...]:
    """Terms of which an event needs one; none where other things would do."""
    terms = part.of if isinstance(part, Any) else (part,)
    texts = tuple(each.text for each in terms if isinstance(each, Term))
    return texts if len(texts) == len(terms) else ()


def _expected_cost(terms: Sequence[str]) -> tuple[bool, bool, int]:
    """In the order of this, little is read: what the process knows first, and long words, which
    are rare, before short ones.
    """
    return len(terms) > _FEW, not is_listed(terms[0]), -len(terms[0])


#: A word with its other spelling, or an event with too many words.
_FEW = 3


def _range(low: int, high: int) -> BitMap:
    offsets = BitMap()
    if low < high:
        offsets.add_range(low, high)
    return offsets


def select(expression: Expression, segment: Segment) -> BitMap:
    """The events of a segment that an expression selects. The caller must not change it."""
    match expression:
        case Term(text=text):
            return segment.having(text)
        case Prefix(text=text):
            return segment.starting(text)
        case Any(of=parts):
            return BitMap.union(BitMap(), *(select(part, segment) for part in parts))
        case All(of=parts, without=excluded):
            return _all(parts, excluded, segment)


def _all(parts: Sequence[Expression], excluded: Sequence[Expression], segment: Segment) -> BitMap:
    found: BitMap | None = None
    for part in parts:
        selected = select(part, segment)
        found = selected if found is None else found & selected
        if not found:
            return found
    if found is None:
        found = segment.having(EVERY)
    for part in excluded:
        found = found - select(part, segment)
    return found
