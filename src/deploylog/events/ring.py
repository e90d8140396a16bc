"""Rings: the newest events that a stream filter matches, within limits of number and bytes."""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from deploylog.events.access import Visibility
from deploylog.events.batch import Batch
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event, size_of
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope, contains

#: Events in a ring. A reader further behind reads the log.
RING_SIZE = 4_096

#: Positions that the first read from the log covers.
INITIAL_WINDOW = 20_000

#: Bytes of one batch, about. A larger event is a batch of its own.
BATCH_BYTES = 64 * 1024


class StreamFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader asks for, and may see."""

    scope: Scope
    filter: Filter
    visibility: Visibility

    def matches(self, event: Event) -> bool:
        return (
            any(contains(self.scope, scope) for scope in event.scopes)
            and self.visibility.shows(event)
            and self.filter.matches(event)
        )


class Ring:
    """The newest events that a stream filter matches: all of them after ``floor``."""

    def __init__(self, stream_filter: StreamFilter, floor: int) -> None:
        self.stream_filter = stream_filter
        self.floor = floor
        self.readers = 0
        #: Positions that the next read from the log covers.
        self.window = INITIAL_WINDOW
        self._events: deque[Event] = deque()

    def extend(self, events: Sequence[Event]) -> list[Event]:
        """Add the events that match, given in order, and return them."""
        matching = [event for event in events if self.stream_filter.matches(event)]
        self._events.extend(matching)
        while len(self._events) > RING_SIZE:
            self.floor = self._events.popleft().position
        return matching

    def skip(self, head: int) -> None:
        """Leave out the events up to ``head``: readers take them from the log."""
        self._events.clear()
        self.floor = head

    def drop(self, position: int) -> None:
        """Drop the events up to ``position``."""
        while self._events and self._events[0].position <= position:
            self._events.popleft()
        self.floor = max(self.floor, position)

    def after(self, position: int) -> tuple[Batch, int | None]:
        """The first events after ``position``, and where they end; ``None`` at the newest."""
        events = []
        for event in reversed(self._events):
            if event.position <= position:
                break
            events.append(event)
        size, number = 0, 0
        for event in reversed(events):
            event_size = size_of(event)
            if size and size + event_size > BATCH_BYTES:
                break
            size, number = size + event_size, number + 1
        taken = events[::-1][:number]
        end = taken[-1].position if number < len(events) else None
        return Batch(taken, size=size), end


class RingBudget:
    """The bytes of the events in all rings; an event in several rings counts once."""

    def __init__(self, max_bytes: int) -> None:
        #: By position.
        self._sizes: BoundedMap[int, int] = BoundedMap(max_bytes, weigh=int)

    def add(self, events: Iterable[Event]) -> int | None:
        """Count ``events``, in order; return the position up to which rings must drop theirs."""
        dropped = [each for e in events for each in self._sizes.put(e.position, size_of(e))]
        return dropped[-1] if dropped else None

    def clear(self) -> None:
        self._sizes.clear()


#: A batch, and the position that it ends at: ``None`` at the newest event.
_BatchAndEnd = tuple[Batch, int | None]


class BatchCache:
    """Batches that several readers ask for.

    A batch that ends at the newest event is cached until there are new events.
    """

    def __init__(self, max_bytes: int) -> None:
        # The events, and two renderings of them.
        self._batches: BoundedMap[tuple[Ring, int], _BatchAndEnd] = BoundedMap(
            max_bytes, weigh=lambda found: 3 * found[0].size
        )
        #: Those that end at the newest event.
        self._newest: list[tuple[Ring, int]] = []

    def get(self, ring: Ring, position: int) -> _BatchAndEnd:
        """What ``ring.after`` returns, the same batch for every reader."""
        if ring.readers < 2:
            return ring.after(position)
        cached = self._batches.get((ring, position))
        if cached is None:
            cached = ring.after(position)
            self._batches.put((ring, position), cached)
            if cached[1] is None:
                self._newest.append((ring, position))
        return cached

    def advance(self) -> None:
        """Drop the batches that no longer end at the newest event."""
        for key in self._newest:
            self._batches.drop(key)
        self._newest.clear()

    def discard(self, ring: Ring) -> None:
        """Drop the batches of a ring that has no more readers."""
        for key in list(self._batches):
            if key[0] is ring:
                self._batches.drop(key)
