"""Events, for principals: append, read, follow."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from deploylog.errors import (
    AnswerTooLarge,
    CursorExpired,
    EventDamaged,
    EventNotFound,
    InvalidCursor,
    InvalidEvent,
)
from deploylog.events.access import Principal
from deploylog.events.batch import Gap
from deploylog.events.chronology import Moment, TimePage, read_by_time
from deploylog.events.event import SOURCE, Event, NewEvent, check_event, is_reserved
from deploylog.events.facets import Facets
from deploylog.events.filters import Field, Filter
from deploylog.events.hub import Hub, Reader
from deploylog.events.ids import parse_event_id
from deploylog.events.index.trace import Trace
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT, Scope, segments
from deploylog.events.store import EventLog, IdempotencyKey, Page, Query, following
from deploylog.events.streams import OpenStreams

#: Bytes of the largest response that has all events, in APIs without pages.
RESPONSE_BYTES = 128 * 1024 * 1024

#: Events of one read, where a query takes several.
_READ = 1_000


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream starts."""

    after: int
    gap: Gap | None = None


class EventService:
    """Appends, reads and follows events, within what the principal may do."""

    def __init__(self, log: EventLog, hub: Hub, *, open_streams: OpenStreams) -> None:
        self._log = log
        self._hub = hub
        self._open_streams = open_streams

    async def append(
        self,
        principal: Principal,
        events: Sequence[NewEvent],
        *,
        request: IdempotencyKey | None = None,
    ) -> list[Event]:
        """Record all of ``events`` or none.

        Raises Forbidden, or InvalidEvent with the event's ``line``: also for the log's own source.
        """
        for line, event in enumerate(events, 1):
            check_source(event, line)
        return await self.append_any(principal, events, request=request)

    async def append_any(
        self,
        principal: Principal,
        events: Sequence[NewEvent],
        *,
        request: IdempotencyKey | None = None,
    ) -> list[Event]:
        """Record all of ``events`` or none, whatever their source; raises what ``append`` does."""
        allowed: set[tuple[Scope, ...]] = set()
        for line, event in enumerate(events, 1):
            try:
                check_event(event)
            except InvalidEvent as error:
                raise InvalidEvent(error.message, field=error.field, line=line) from error
            if event.scopes not in allowed:
                for path in event.scopes:
                    principal.require("write", path)
                allowed.add(event.scopes)
        return await self._log.append(events, request=request)

    async def read(self, principal: Principal, query: Query) -> Page:
        """The events of ``query`` that the principal may see."""
        return await self._log.read(_visible_to(principal, query))

    async def page(self, principal: Principal, query: Query) -> Page:
        """Read a page whose cursors are ``after`` and ``before`` of ``query``.

        Raises CursorExpired when a cursor is below the floor.
        """
        page = await self.read(principal, query)
        # Checked after the read: events that are deleted from now on were in it.
        await self.require_retained(query.after, query.before)
        return page

    async def page_by_time(
        self, principal: Principal, query: Query, *, beyond: Moment | None
    ) -> TimePage:
        """Read the events of ``query`` after ``beyond``, in the order of their time.

        Raises CursorExpired when ``beyond`` is below the floor.
        """
        page = await read_by_time(partial(self.read, principal), query, beyond=beyond)
        await self.require_retained(beyond.position if beyond is not None else None)
        return page

    async def require_retained(self, *positions: int | None) -> None:
        """Raise CursorExpired when a position is below the floor."""
        cursors = [position for position in positions if position is not None]
        if cursors and min(cursors) < await self._log.floor():
            raise CursorExpired

    async def count(self, principal: Principal, query: Query) -> int:
        """How many events of ``query`` the principal may see."""
        return await self._log.count(_visible_to(principal, query))

    async def facets(self, principal: Principal, query: Query, field: Field, top: int) -> Facets:
        """The ``top`` most frequent values of a field among what the principal may see."""
        return await self._log.facets(_visible_to(principal, query), field, top)

    async def histogram(
        self, principal: Principal, query: Query, edges: Sequence[int]
    ) -> list[int]:
        """How many events that the principal may see happened between each two of the ``edges``.

        Edges are times in ns and rise.
        """
        return await self._log.histogram(_visible_to(principal, query), edges)

    async def explain(self, principal: Principal, query: Query) -> Trace:
        """How ``query`` is answered, for those who may read the whole log. Raises Forbidden."""
        principal.require("read", ROOT)
        return await self._log.explain(_visible_to(principal, query))

    async def pages(self, principal: Principal, query: Query) -> AsyncIterator[Page]:
        """The events of ``query`` up to its limit, in as many pages as it takes."""
        async for page in _pages(self._log, _visible_to(principal, query)):
            yield page

    async def read_all(self, principal: Principal, query: Query) -> list[Event]:
        """The same as one list; raises AnswerTooLarge above ``RESPONSE_BYTES``."""
        found: list[Event] = []
        size = 0
        async for page in self.pages(principal, query):
            found += page
            size += page.size
            if size > RESPONSE_BYTES:
                raise AnswerTooLarge
        return found

    async def read_for_writer(self, principal: Principal, query: Query) -> list[Event]:
        """Read events for a producer that must know what it has recorded before.

        The principal needs the right to write the scope, not to read it, so the events must not
        go into a response. Raises Forbidden.
        """
        principal.require("write", query.scope)
        needed = msgspec.structs.replace(query, purpose="lookup")
        return [event async for page in _pages(self._log, needed) for event in page]

    async def event(self, principal: Principal, id: str) -> Event:
        """Get an event; raises EventNotFound unless it is visible, or EventDamaged."""
        position = self.position(id)
        try:
            event = await self._log.get(position)
        except EventDamaged:
            if await self._shows_damaged(principal, position):
                raise
            raise EventNotFound from None
        if event.id != id.lower() or not principal.visibility.shows(event):
            raise EventNotFound
        return event

    async def _shows_damaged(self, principal: Principal, position: int) -> bool:
        """Whether the principal could see the event at ``position`` if it were not damaged."""
        page = await self.read(principal, Query(after=position - 1, before=position + 1, limit=1))
        return bool(page.damaged)

    @property
    def epoch(self) -> int:
        """The log's epoch: positions are valid in one log only, and a restored log is another."""
        return self._log.epoch

    async def floor(self) -> int:
        """Everything at or below this position is no longer retained."""
        return await self._log.floor()

    def position(self, id: str) -> int:
        """The position of an event id of this log; raises InvalidCursor."""
        cursor = parse_event_id(id)
        if cursor.epoch != self._log.epoch:
            raise InvalidCursor(f"{id!r} is not an event id of this log")
        return cursor.position

    # Following

    @contextmanager
    def follow(
        self, principal: Principal, *, scope: Scope, filter: Filter, start: Start
    ) -> Iterator[Reader]:
        """Open a reader of the visible events, history first, then live; raises TooMany."""
        stream_filter = StreamFilter(scope=scope, filter=filter, visibility=principal.visibility)
        with (
            self._hub.reader(stream_filter, after=start.after, caller=principal.identity) as reader,
            self._open_streams.track(principal, reader),
        ):
            yield reader

    async def start_at_oldest(self) -> Start:
        """Start at the oldest event that is retained."""
        return Start(after=await self._log.floor())

    async def start_now(self) -> Start:
        """Start at the next event to be recorded."""
        return Start(after=await self._log.head())

    async def start_at(self, recorded: int) -> Start:
        """Start at the first event recorded at this time (ns) or later."""
        return Start(after=await self._log.position_before(recorded))

    async def start_after(self, principal: Principal, id: str) -> Start:
        """Start after the event; with an unknown id, at the oldest event after a gap.

        Unknown are ids of another log, and ids of events that the principal cannot see: a client
        could guess one, and must not learn whether it guessed right.
        """
        head, floor = await self._log.head(), await self._log.floor()
        try:
            position = self.position(id)
        except InvalidCursor:
            return Start(after=floor, gap=Gap(after=0, floor=floor, reason="unknown"))
        if position > head or not await self._has_seen(principal, id, position):
            return Start(after=floor, gap=Gap(after=position, floor=floor, reason="unknown"))
        return Start(after=position)

    async def _has_seen(self, principal: Principal, id: str, position: int) -> bool:
        """Whether the event at ``position``, if any, has this ``id`` and is visible.

        A log that was restored from a backup assigns positions a second time.
        """
        try:
            event = await self._log.get(position)
            return event.id == id.lower() and principal.visibility.shows(event)
        except EventNotFound:
            return True


def check_source(event: NewEvent, line: int) -> None:
    """Raise InvalidEvent with the event's ``line`` if its source is the log's own."""
    if is_reserved(event.source) and not _is_lost_run(event):
        message = f"source {SOURCE!r} is reserved for the log itself: use a source of your own"
        raise InvalidEvent(message, field="source", line=line)


def _visible_to(principal: Principal, query: Query) -> Query:
    """``query`` for the events that the principal may see, in its share of the readers."""
    return msgspec.structs.replace(
        query, visibility=principal.visibility, caller=principal.identity
    )


async def _pages(log: EventLog, query: Query) -> AsyncIterator[Page]:
    remaining = query.limit
    position: int | None = None
    while remaining > 0:
        part = msgspec.structs.replace(query, limit=min(remaining, _READ))
        page = await log.read(part if position is None else following(part, position))
        yield page
        position, remaining = page.next, remaining - len(page)
        if position is None:
            return


def _is_lost_run(event: NewEvent) -> bool:
    """Whether it is the end that recorders up to version 0.1 send for a run they lost.

    They use the log's source, which has no such ids itself.
    """
    id, _, end = (event.producer_id or "").rpartition("/")
    return (
        end == "lost"
        and (event.source, event.type) == (SOURCE, "deployment.failed")
        and any(segments(path)[-2:] == ("deployment", id) for path in event.scopes)
    )
