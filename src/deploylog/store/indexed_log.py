"""The event log of every backend: appends by its writer, and answers from its index and rows."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from deploylog.errors import EventDamaged, EventNotFound
from deploylog.events.event import Event, NewEvent
from deploylog.events.facets import Facets
from deploylog.events.filters import Field
from deploylog.events.index.counting import count, facets, histogram
from deploylog.events.index.search import EventRows, Search
from deploylog.events.index.trace import Trace
from deploylog.events.store import IdempotencyKey, Page, Query
from deploylog.store.admission import Append, event_of
from deploylog.store.commit_queue import CommitQueue
from deploylog.store.contract import CommitObserver
from deploylog.store.live_index import LiveIndex
from deploylog.store.mending import IndexMender
from deploylog.store.prepared_event import prepare_event
from deploylog.store.readers import ReaderPools
from deploylog.store.rows import Unreadable

#: How many damaged events are logged, once each.
MAX_REPORTED = 10_000

ConnectionT = TypeVar("ConnectionT")

_Counted = TypeVar("_Counted")

_Answer = TypeVar("_Answer")

_LOGGER = logging.getLogger(__name__)


class IndexedLog(ABC, Generic[ConnectionT]):
    """What an ``EventLog`` does the same in every backend. A backend adds its statements."""

    def __init__(
        self,
        writer: CommitQueue[ConnectionT],
        readers: ReaderPools[ConnectionT],
        index: LiveIndex[ConnectionT],
        *,
        epoch: int,
        mender: IndexMender[ConnectionT],
        observer: CommitObserver,
    ) -> None:
        """``observer`` learns of damaged events, and of the rows that reads take."""
        self.epoch = epoch
        self._writer = writer
        self._readers = readers
        self._index = index
        self._mender = mender
        self._observer = observer
        #: Positions of the damaged events that were reported.
        self._reported: set[int] = set()

    @abstractmethod
    def _read(self, connection: ConnectionT, query: Query, trace: Trace) -> Page:
        """The page that a query asks for."""

    @abstractmethod
    def _rows(self, connection: ConnectionT) -> EventRows:
        """The rows of events."""

    @abstractmethod
    def _event_at(self, connection: ConnectionT, position: int) -> Event | None:
        """The event at a position, if there is one. Raises Unreadable for a damaged one."""

    async def append(
        self, events: Sequence[NewEvent], *, request: IdempotencyKey | None = None
    ) -> list[Event]:
        entries = await self._writer.append(
            Append([prepare_event(event) for event in events], request)
        )
        return [event_of(entry, self.epoch) for entry in entries]

    async def read(self, query: Query) -> Page:
        trace = Trace()
        page = await self._run(query, lambda connection: self._read(connection, query, trace))
        self._observer.rows_read(trace.rows, in_vain=trace.rows_in_vain)
        for each in page.damaged:
            self._report_damage(each.position, each.reason)
        return page

    async def count(self, query: Query) -> int:
        return await self._search(query, count)

    async def facets(self, query: Query, field: Field, top: int) -> Facets:
        return await self._search(query, lambda search, rows: facets(search, rows, field, top))

    async def histogram(self, query: Query, edges: Sequence[int]) -> list[int]:
        return await self._search(query, lambda search, rows: histogram(search, rows, edges))

    async def explain(self, query: Query) -> Trace:
        trace = Trace()
        await self._run(query, lambda connection: self._read(connection, query, trace))
        return trace

    async def _search(
        self, query: Query, count: Callable[[Search, EventRows], _Counted]
    ) -> _Counted:
        trace = Trace()

        def read(connection: ConnectionT) -> _Counted:
            search = Search(self._index.moment(connection), query, trace)
            return count(search, self._rows(connection))

        counted = await self._run(query, read)
        self._observer.rows_read(trace.rows, in_vain=trace.rows_in_vain)
        return counted

    async def _run(self, query: Query, read: Callable[[ConnectionT], _Answer]) -> _Answer:
        pool = self._readers.of(query.purpose)
        return await self._mender.run(pool, read, caller=query.caller)

    async def get(self, position: int) -> Event:
        try:
            event = await self._readers.run(lambda connection: self._event_at(connection, position))
        except Unreadable as error:
            self._report_damage(position, error.reason)
            raise EventDamaged from error
        if event is None:
            raise EventNotFound
        return event

    def _report_damage(self, position: int, reason: str) -> None:
        """Report a damaged event once, however often it is read."""
        if position in self._reported or len(self._reported) >= MAX_REPORTED:
            return
        self._reported.add(position)
        self._observer.damaged(reason)
        _LOGGER.error("the event at position %d is damaged (%s); skipping it", position, reason)
