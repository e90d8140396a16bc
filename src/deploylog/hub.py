"""Live tail: follow the log once, and let any number of readers follow the hub.

A reader holds a position, not a queue. Readers that want the same share a *view*, which keeps
the newest events that they want; who is behind it reads the log, however far behind. So nobody
is cut off for being slow, nothing is skipped, and history and live are one loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import msgspec

from deploylog.errors import StoreUnavailable
from deploylog.events import Event
from deploylog.filters import Filter
from deploylog.principals import Visibility
from deploylog.scope import Scope, contains
from deploylog.store.base import EventLog, Query

#: Seconds before the log is followed again after the store failed.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)

#: How long the hub rests between two rounds for each reader: somewhat longer than a send takes.
REST_SECONDS = 0.00003

#: A shorter rest is none.
SHORTEST_REST_SECONDS = 0.001

#: Events a view keeps. A reader further behind reads the log.
KEPT = 4_096

#: Events of one read from the log.
PAGE = 500


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events after ``after`` that nobody can have any more; the next one is after ``floor``."""

    after: int
    floor: int
    reason: Literal["expired", "unknown"]


class Batch:
    """Events in order, to be sent together; none at all is a sign of life."""

    def __init__(self, events: Sequence[Event] = (), gap: Gap | None = None) -> None:
        """``gap`` comes before ``events``."""
        self.events = events
        self.gap = gap
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


class Interest(msgspec.Struct, frozen=True, kw_only=True):
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


class View:
    """The newest events that some readers want: all of them after ``floor``."""

    def __init__(self, interest: Interest, floor: int) -> None:
        """Begin after ``floor``."""
        self.interest = interest
        self.floor = floor
        self.readers = 0
        self._kept: deque[Event] = deque()
        self._batches: dict[int, Batch] = {}

    def extend(self, events: Sequence[Event]) -> None:
        """New events, in order."""
        self._batches.clear()
        self._kept.extend(event for event in events if self.interest.matches(event))
        while len(self._kept) > KEPT:
            self.floor = self._kept.popleft().position

    def skip(self, head: int) -> None:
        """There were too many new events up to ``head``: whoever wants them reads the log."""
        self._batches.clear()
        self._kept.clear()
        self.floor = head

    def after(self, position: int) -> Batch:
        """The kept events after ``position``, the same batch for everybody who asks."""
        batch = self._batches.get(position)
        if batch is None:
            events = []
            for event in reversed(self._kept):
                if event.position <= position:
                    break
                events.append(event)
            batch = self._batches[position] = Batch(events[::-1])
        return batch


class Reader:
    """One reader's place in the log."""

    def __init__(self, hub: "Hub", view: View, position: int) -> None:
        """Begin after ``position``."""
        self._hub = hub
        self._view = view
        self.position = position
        self._woken: asyncio.Future[None] | None = None
        self._closed = False

    async def next(self) -> Batch | None:
        """The next events; an empty batch when nothing happened for a while; ``None`` at the end,
        when the reader was closed or the hub was.
        """
        while not (self._closed or self._hub.closed):
            if self.position < self._view.floor:
                batch = await self._from_log()
            elif self.position < self._hub.head:
                batch = self._view.after(self.position)
                self.position = self._hub.head
            elif await self._wait():
                return Batch()
            else:
                continue
            if batch.events or batch.gap:
                return batch
        return None

    def close(self) -> None:
        """End: ``next`` gives ``None``, at once if it is waiting."""
        self._closed = True
        self.wake()

    def wake(self) -> None:
        """Let ``next`` look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _from_log(self) -> Batch:
        """A page of what lies before the view."""
        start, floor = self.position, self._view.floor
        interest = self._view.interest
        page = await self._hub.log.read(
            Query(
                scope=interest.scope,
                filter=interest.filter,
                visibility=interest.visibility,
                after=start,
                before=floor + 1,
                order="oldest",
                limit=PAGE,
            )
        )
        # Looked up after the read: what is forgotten from now on was in it.
        retained = await self._hub.log.floor()
        if start < retained:
            self.position = retained
            return Batch(gap=Gap(after=start, floor=retained, reason="expired"))
        self.position = page.next if page.next is not None else floor
        return Batch(page)

    async def _wait(self) -> bool:
        """Whether nothing but time made an end to the waiting."""
        beats = self._hub.beats
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None
        return self._hub.beats > beats and self.position >= self._hub.head and not self._closed


class Hub:
    """Follows the log, and wakes those who follow it."""

    def __init__(self, log: EventLog) -> None:
        """Follow ``log`` while ``following``."""
        self.log = log
        self.head = 0
        #: How often everybody was woken for a sign of life.
        self.beats = 0
        self.closed = False
        self._views: dict[Interest, View] = {}
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
    def reader(self, interest: Interest, *, after: int) -> Iterator[Reader]:
        """A reader that begins after position ``after``."""
        view = self._views.setdefault(interest, View(interest, self.head))
        view.readers += 1
        reader = Reader(self, view, after)
        self._readers.add(reader)
        try:
            yield reader
        finally:
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
                async for head in self.log.changes():
                    while self.head < head:
                        await self._advance(head)
                        self._wake()
                        await self._rest()
            except StoreUnavailable:
                _LOGGER.exception("cannot follow the log; trying again")
                await asyncio.sleep(RETRY_SECONDS)

    async def _advance(self, head: int) -> None:
        if not self._views or head - self.head > KEPT:
            for view in self._views.values():
                view.skip(head)
            self.head = head
            return
        page = await self.log.read(
            Query(after=self.head, before=head + 1, order="oldest", limit=PAGE)
        )
        for view in self._views.values():
            view.extend(page)
        self.head = page.next if page.next is not None else head

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
