"""Live tail: follow the log once, and let any number of readers follow the hub.

A reader holds a position, not a queue. Readers that want the same share a *view*, which keeps
the newest events that they want; who is behind it reads the log, however far behind. So nobody
is cut off for being slow, nothing is skipped, and history and live are one loop.

What all views keep, and what is being sent, is limited in bytes. Who does not fit reads the log, or
waits with nothing but a position.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import msgspec

from deploylog.errors import StoreUnavailable
from deploylog.events.access import Visibility
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event, size_of
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope, contains
from deploylog.events.shares import Shares
from deploylog.events.store import EventLog, Page, Query

#: Seconds before the log is followed again after the store failed.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)

#: How long the hub rests between two rounds for each reader: somewhat longer than a send takes.
REST_SECONDS = 0.00003

#: A shorter rest is none.
SHORTEST_REST_SECONDS = 0.001

#: Events a view keeps. A reader further behind reads the log.
RING_SIZE = 4_096

#: Events of one read from the log.
PAGE = 500

#: Bytes of one batch, about. A larger event is a batch of its own.
BATCH_BYTES = 64 * 1024

#: Bytes that all streams take, where nothing else is set, and the parts of it in eighths: what the
#: views keep, the batches that readers share, and the large events that are being sent.
MEMORY_BYTES = 128 * 1024 * 1024
_KEPT_EIGHTHS, _SHARED_EIGHTHS, _SENDING_EIGHTHS = 3, 1, 4

#: Positions that one read from the log looks at: at first, and at least. A filter that is slow to
#: check looks at few in a read, so that other readers get their turn.
_FIRST_WINDOW, _LEAST_WINDOW = 20_000, 4_096

#: Seconds that a read should take, at least and at most.
_QUICK_SECONDS, _SLOW_SECONDS = 0.05, 0.2


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events after ``after`` that nobody can have any more; the next one is after ``floor``."""

    after: int
    floor: int
    reason: Literal["expired", "unknown", "damaged"]


class Batch:
    """Events in order, to be sent together; none at all is a sign of life."""

    def __init__(
        self, events: Sequence[Event] = (), gap: Gap | None = None, *, size: int = 0
    ) -> None:
        """``gap`` comes before ``events``, which take ``size`` bytes, about."""
        self.events = events
        self.gap = gap
        self.size = size
        self._frames: dict[Callable[[Event], bytes], list[bytes]] = {}
        self._joined: dict[Callable[[Event], bytes], bytes] = {}

    def frames(self, render: Callable[[Event], bytes]) -> Iterator[bytes]:
        """The rendered events, as they are asked for: done once for all readers that got this
        very batch.
        """
        rendered = self._frames.setdefault(render, [])
        for number, event in enumerate(self.events):
            if number == len(rendered):
                rendered.append(render(event))
            yield rendered[number]

    def joined(self, render: Callable[[Event], bytes]) -> bytes:
        """The same in one piece."""
        joined = self._joined.get(render)
        if joined is None:
            joined = self._joined[render] = b"".join(self.frames(render))
        return joined


class StreamFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader wants to see, and may."""

    scope: Scope
    filter: Filter
    visibility: Visibility

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted."""
        return (
            any(contains(self.scope, scope) for scope in event.scopes)
            and self.visibility.shows(event)
            and self.filter.matches(event)
        )


class Ring:
    """The newest events that some readers want: all of them after ``floor``."""

    def __init__(self, interest: StreamFilter, floor: int) -> None:
        """Begin after ``floor``."""
        self.interest = interest
        self.floor = floor
        self.readers = 0
        self._kept: deque[Event] = deque()

    def extend(self, events: Sequence[Event]) -> list[Event]:
        """Keep the new events, given in order, that are wanted, and return them."""
        wanted = [event for event in events if self.interest.matches(event)]
        self._kept.extend(wanted)
        while len(self._kept) > RING_SIZE:
            self.floor = self._kept.popleft().position
        return wanted

    def skip(self, head: int) -> None:
        """There were too many new events up to ``head``: whoever wants them reads the log."""
        self._kept.clear()
        self.floor = head

    def forget(self, position: int) -> None:
        """Forget the events up to ``position``."""
        while self._kept and self._kept[0].position <= position:
            self._kept.popleft()
        self.floor = max(self.floor, position)

    def after(self, position: int) -> tuple[Batch, int | None]:
        """The first kept events after ``position``, and where they end; ``None`` at the newest."""
        events = []
        for event in reversed(self._kept):
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


class _Kept:
    """How many bytes of events the views keep together: an event in many views is there once."""

    def __init__(self, most: int) -> None:
        #: By position.
        self._sizes: BoundedMap[int, int] = BoundedMap(most, weigh=int)

    def add(self, events: Iterable[Event]) -> int | None:
        """Count ``events``, in order; the position up to which views must forget, if any."""
        dropped = [each for e in events for each in self._sizes.put(e.position, size_of(e))]
        return dropped[-1] if dropped else None

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._sizes.clear()


#: A batch, and the position that it ends at: ``None`` at the newest event.
_Found = tuple[Batch, int | None]


class _Shared:
    """Batches that several readers ask for, until there are new events or too many bytes."""

    def __init__(self, most: int) -> None:
        # The events, and two renderings of them.
        self._batches: BoundedMap[tuple[Ring, int], _Found] = BoundedMap(
            most, weigh=lambda found: 3 * found[0].size
        )

    def get(self, view: Ring, position: int) -> _Found:
        """What ``view.after`` gives, the same batch for everybody."""
        if view.readers < 2:
            return view.after(position)
        known = self._batches.get((view, position))
        if known is None:
            known = view.after(position)
            self._batches.put((view, position), known)
        return known

    def clear(self) -> None:
        """There are new events, which every batch lacks."""
        self._batches.clear()


class Reader:
    """One reader's place in the log."""

    def __init__(self, hub: "Hub", view: Ring, position: int, caller: str) -> None:
        """Begin after ``position``, and use ``caller``'s share of what is limited."""
        self._hub = hub
        self._view = view
        self.position = position
        self._caller = caller
        self._woken: asyncio.Future[None] | None = None
        self._closed = False
        self._when_closed: Callable[[], None] = _nothing
        self._window = _FIRST_WINDOW
        #: Bytes of large events under way, for which the last batch has room.
        self._held = 0

    async def next(self) -> Batch | None:
        """The next events; an empty batch when nothing happened for a while; ``None`` at the end,
        when the reader was closed or the hub was.

        Ask only once the last batch has been sent: until then its bytes count as under way.
        """
        self.release()
        beats = self._hub.beats
        while not (self._closed or self._hub.closed):
            start = self.position
            if start < self._view.floor:
                batch = await self._from_log()
            elif start < self._hub.head:
                batch, end = self._hub.shared.get(self._view, start)
                self.position = self._hub.head if end is None else end
            elif await self._wait():
                return Batch()
            else:
                continue
            if not self._has_room(batch.size):
                # Nothing is kept while waiting: it is read again.
                self.position, size = start, batch.size
                del batch
                self._held = await self._hub.sending.take(self._caller, size)
            elif batch.events or batch.gap or self._hub.beats > beats:
                return batch
        return None

    def _has_room(self, size: int) -> bool:
        """Whether a batch of this size may be sent now; a small one always may."""
        if size <= BATCH_BYTES or self._held:
            return True
        self._held = self._hub.sending.take_now(self._caller, size)
        return bool(self._held)

    def release(self) -> None:
        """Let others have the room of the last batch."""
        if self._held:
            self._hub.sending.give(self._caller, self._held)
            self._held = 0

    def close(self) -> None:
        """End: ``next`` gives ``None``, at once if it is waiting."""
        self._closed = True
        self.wake()
        self._when_closed()

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call this, instead of what was given before, when the reader is closed."""
        self._when_closed = call

    def wake(self) -> None:
        """Let ``next`` look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _from_log(self) -> Batch:
        """A page of what lies before the view."""
        start, end = self.position, min(self._view.floor, self.position + self._window)
        interest = self._view.interest
        began = asyncio.get_running_loop().time()
        page = await self._hub.log.read(
            Query(
                scope=interest.scope,
                filter=interest.filter,
                visibility=interest.visibility,
                after=start,
                before=end + 1,
                order="oldest",
                limit=PAGE,
                bytes=BATCH_BYTES,
                purpose="background",
                caller=self._caller,
            )
        )
        self._adapt(asyncio.get_running_loop().time() - began)
        # Looked up after the read: what is forgotten from now on was in it.
        retained = await self._hub.log.floor()
        if start < retained:
            self.position = retained
            return Batch(gap=Gap(after=start, floor=retained, reason="expired"))
        end = page.next if page.next is not None else end
        batch, self.position = _before_damage(page, end)
        return batch

    def _adapt(self, seconds: float) -> None:
        """Look at more positions in the next read, or at fewer, by how long this one took."""
        if seconds < _QUICK_SECONDS:
            self._window *= 4
        elif seconds > _SLOW_SECONDS:
            self._window = max(self._window // 2, _LEAST_WINDOW)

    async def _wait(self) -> bool:
        """Whether nothing but time made an end to the waiting."""
        beats = self._hub.beats
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None
        return self._hub.beats > beats and self.position >= self._hub.head and not self._closed


def _before_damage(page: Page, end: int) -> tuple[Batch, int]:
    """What of the page can be sent before or after its first damaged events, and up to where."""
    if not page.damaged:
        return Batch(page, size=page.size), end
    first = page.damaged[0].position
    before = [event for event in page if event.position < first]
    if before:
        return Batch(before, size=sum(map(size_of, before))), first - 1
    good = page[0].position if page else end + 1
    last = max(each.position for each in page.damaged if each.position < good)
    return Batch(gap=Gap(after=first - 1, floor=last, reason="damaged")), last


def _nothing() -> None:
    pass


class Hub:
    """Follows the log, and wakes those who follow it."""

    def __init__(self, log: EventLog, *, memory: int = MEMORY_BYTES) -> None:
        """Follow ``log`` while ``following``, and keep ``memory`` bytes at most, about."""
        self.log = log
        eighth = memory // 8
        self._kept = _Kept(_KEPT_EIGHTHS * eighth)
        self.shared = _Shared(_SHARED_EIGHTHS * eighth)
        #: The large events that are being sent.
        self.sending = Shares(_SENDING_EIGHTHS * eighth, share=_SENDING_EIGHTHS * eighth // 2)
        self.head = 0
        #: How often everybody was woken for a sign of life.
        self.beats = 0
        self.closed = False
        self._views: dict[StreamFilter, Ring] = {}
        self._readers: set[Reader] = set()

    @property
    def readers(self) -> int:
        """How many follow."""
        return len(self._readers)

    @asynccontextmanager
    async def following(self, *, heartbeat: float) -> AsyncIterator[None]:
        """Follow the log while in the block; a sign of life every ``heartbeat`` seconds."""
        self.head = await self.log.head()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._follow()), tasks.create_task(self._beat(heartbeat))]
            try:
                yield
            finally:
                self.close()
                for task in running:
                    task.cancel()

    @contextmanager
    def reader(self, interest: StreamFilter, *, after: int, caller: str = "") -> Iterator[Reader]:
        """A reader that begins after position ``after``; ``caller`` as ``Query`` has it."""
        view = self._views.setdefault(interest, Ring(interest, self.head))
        view.readers += 1
        reader = Reader(self, view, after, caller)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            reader.release()
            self._readers.discard(reader)
            view.readers -= 1
            if not view.readers:
                del self._views[interest]

    def close(self) -> None:
        """Let every reader come to its end."""
        self.closed = True
        self._wake()

    async def _follow(self) -> None:
        while True:
            try:
                async for head in self.log.heads():
                    while self.head < head:
                        await self._advance(head)
                        self._wake()
                        await self._rest()
            except StoreUnavailable:
                _LOGGER.exception("cannot follow the log; trying again")
                await asyncio.sleep(RETRY_SECONDS)

    async def _advance(self, head: int) -> None:
        if not self._views or head - self.head > RING_SIZE:
            self._skip(head)
            self._move(head)
            return
        page = await self.log.read(
            Query(after=self.head, before=head + 1, order="oldest", limit=PAGE, purpose="lookup")
        )
        end = page.next if page.next is not None else head
        if page.damaged:
            # Only the store can say who would have seen the damaged ones.
            self._skip(end)
        else:
            self._keep(page)
        self._move(end)

    def _move(self, head: int) -> None:
        # Together: a batch shared in between would end at one head, and count for the other.
        self.shared.clear()
        self.head = head

    def _skip(self, head: int) -> None:
        """Let whoever wants the events up to ``head`` read the log."""
        self._kept.clear()
        for view in self._views.values():
            view.skip(head)

    def _keep(self, page: Page) -> None:
        """Keep what the views want of the page, in the bytes that there are."""
        wanted = {
            event.position: event for view in self._views.values() for event in view.extend(page)
        }
        forgotten = self._kept.add(wanted[position] for position in sorted(wanted))
        if forgotten is not None:
            for view in self._views.values():
                view.forget(forgotten)

    async def _rest(self) -> None:
        """Let the readers be served before they are woken again.

        One send of two events costs half of what two sends do, and appends need their turn, too.
        """
        seconds = len(self._readers) * REST_SECONDS
        if seconds > SHORTEST_REST_SECONDS:
            await asyncio.sleep(seconds)

    async def _beat(self, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(heartbeat)
            self.beats += 1
            self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()
