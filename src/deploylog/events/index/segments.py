"""Segments: runs of positions of one length, and for each term the positions that have it.

The newest segments grow in memory, as a ``GrowingSegment``. One that is full is sealed: what it
holds is stored once and never changes, and a ``SealedSegment`` reads it back.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Protocol

from pyroaring import BitMap

from deploylog.events.event import NewEvent
from deploylog.events.index.terms import EVERY, WORDY, is_listed, terms_of

#: Positions of a segment, as a power of two. Roaring bitmaps have containers of this size.
SEGMENT_BITS = 16
SEGMENT_SIZE = 1 << SEGMENT_BITS

#: Positions of a block, of which the earliest and the latest time are known; a power of two.
BLOCK_BITS = 10
BLOCKS = 1 << (SEGMENT_BITS - BLOCK_BITS)

#: A term of fewer positions than this is rare. Rare terms share rows.
COMMON = 8

#: Terms of a growing segment, above which it takes in no more words.
MAX_TERMS = 1_000_000

_NOTHING = BitMap()


def segment_of(position: int) -> int:
    """The number of the segment that holds a position."""
    return position >> SEGMENT_BITS


class Times:
    """The earliest and the latest time of each block of a segment, in ns."""

    def __init__(self, bounds: "array[int] | None" = None) -> None:
        """``bounds`` are the two times of each block, the later first where it has no events."""
        self.bounds = bounds or array("q", (_LATEST, _EARLIEST) * BLOCKS)

    def widen(self, offset: int, time: int) -> None:
        """Take in the time of the event at ``offset``."""
        block = offset >> BLOCK_BITS << 1
        bounds = self.bounds
        if time < bounds[block]:
            bounds[block] = time
        if time > bounds[block + 1]:
            bounds[block + 1] = time

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The bounds of each block, in order."""
        return zip(self.bounds[::2], self.bounds[1::2], strict=True)


_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1


class Segment(Protocol):
    """What a search reads. Positions are offsets within the segment."""

    #: Which run of positions it is: ``segment_of`` each of them.
    number: int
    times: Times

    def having(self, term: str) -> BitMap:
        """The events that have the term. The caller must not change it."""
        ...

    def starting(self, prefix: str) -> BitMap:
        """The events that have a term which starts with ``prefix``."""
        ...

    def values(self, prefix: str) -> Iterable[tuple[str, BitMap]]:
        """Every term that starts with ``prefix``, and the events that have it."""
        ...


#: Positions of a term: the only one, fewer than ``COMMON`` in order, or a bitmap. Most terms have
#: one or two, of which a bitmap would be large and slow to make.
Offsets = int | tuple[int, ...] | BitMap


class GrowingSegment:
    """A segment in memory. Events are added in the order of their positions."""

    def __init__(self, number: int) -> None:
        """It is empty."""
        self.number = number
        self.times = Times()
        self._positions: dict[str, Offsets] = {}
        #: The listed ones among them, in which most prefixes are looked for.
        self._listed: list[str] = []

    def add(self, offset: int, event: NewEvent) -> None:
        """Add the event that has the position ``offset`` in this segment."""
        self.add_terms(offset, event.time, terms_of(event))

    def add_terms(self, offset: int, time: int, terms: Iterable[str]) -> None:
        """Add an event of which the time and the terms are known."""
        self.times.widen(offset, time)
        positions = self._positions
        if len(positions) > MAX_TERMS:
            # Its memory is bounded: the rows of later events decide about their words.
            terms = [*(term for term in terms if not term.startswith("word:")), WORDY]
        for term in terms:
            there = positions.get(term)
            if there is None:
                positions[term] = offset
                if is_listed(term):
                    self._listed.append(term)
            elif isinstance(there, BitMap):
                there.add(offset)
            else:
                positions[term] = _with(there, offset)

    def __len__(self) -> int:
        """How many events were added."""
        return len(self.having(EVERY))

    def having(self, term: str) -> BitMap:
        there = self._positions.get(term)
        return bitmap_of(there) if there is not None else _NOTHING

    def starting(self, prefix: str) -> BitMap:
        return union(positions for _, positions in self.values(prefix))

    def values(self, prefix: str) -> Iterator[tuple[str, BitMap]]:
        # A copy: another thread may add events meanwhile.
        for term in tuple(self._listed if is_listed(prefix) else self._positions):
            if term.startswith(prefix):
                yield term, self.having(term)

    def terms(self) -> Iterable[tuple[str, Offsets]]:
        """Every term, and the events that have it. Nothing may be added meanwhile."""
        return self._positions.items()


def _with(offsets: int | tuple[int, ...], offset: int) -> Offsets:
    """These offsets and the next one, which may be the last of them again."""
    there = (offsets,) if isinstance(offsets, int) else offsets
    if there[-1] == offset:
        return offsets
    more = (*there, offset)
    return BitMap(more) if len(more) >= COMMON else more


def bitmap_of(offsets: Offsets) -> BitMap:
    """The offsets as a bitmap. The caller must not change it."""
    if isinstance(offsets, BitMap):
        return offsets
    return BitMap((offsets,) if isinstance(offsets, int) else offsets)


def union(bitmaps: Iterable[BitMap]) -> BitMap:
    """What is in one of these."""
    found = tuple(bitmaps)
    return BitMap.union(*found) if len(found) > 1 else found[0] if found else _NOTHING
