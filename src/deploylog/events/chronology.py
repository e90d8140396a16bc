"""Chronology: pages of events in the order of their time, from a log in the order of positions.

The log's index is by position, and holds the earliest and latest time of each block of positions.
So a page is read by position first, and then checked: a second read searches the rest of the log
for events of the page's span of time, and only visits blocks that may contain some. Where events
arrive in the order of their time, there are none.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from deploylog.events.event import Event
from deploylog.events.store import Page, Query, following
from deploylog.events.times import LATEST

#: Reads by position before the search halves the span of time instead. Each means a longer run of
#: events that arrived in another order than they happened.
_MAX_READS = 8

Read = Callable[[Query], Awaitable[Page]]


class Moment(msgspec.Struct, frozen=True, order=True):
    """An event's place in the order of time; events of the same time are ordered by position."""

    #: ns since 1970 (UTC).
    time: int
    position: int


class TimePage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order of time, and whether more may follow."""

    events: list[Event]
    more: bool


def moment_of(event: Event) -> Moment:
    """The event's place in the order of time."""
    return Moment(event.time, event.position)


async def read_by_time(read: Read, query: Query, *, beyond: Moment | None = None) -> TimePage:
    """Read the first events of ``query`` after ``beyond``, in the order of their time.

    There are at most ``limit``, and fewer where a page of the log has fewer. No event is skipped,
    in whatever order the events arrived.
    """
    found: Sequence[Event] = ()
    if beyond is not None:
        same = await _some(read, _at(query, beyond))
        if same.next is not None:
            return TimePage(events=list(same), more=True)
        found = same
        query = _after(query, beyond.time)
    rest = await _Search(read, query, query.limit - len(found)).run()
    return TimePage(events=[*found, *rest.events], more=rest.more)


async def _some(read: Read, query: Query) -> Page:
    """The first page that has events, or the last one."""
    page = await read(query)
    while not page and page.next is not None:
        page = await read(following(query, page.next))
    return page


class _Search:
    """One search for the first events in the order of time."""

    def __init__(self, read: Read, query: Query, limit: int) -> None:
        self._read = read
        self._query = msgspec.structs.replace(query, limit=limit)
        self._limit = limit
        self._newest = query.order == "newest"

    async def run(self) -> TimePage:
        page = await _some(self._read, self._query)
        found, edge = list(page), page.next
        if edge is None or not found:
            return self._page(found, more=False)
        # A page that the limit in bytes made shorter stays as short.
        self._limit = len(found)
        self._pin(found)
        for _ in range(_MAX_READS):
            found = self._ordered(found)
            earlier = _before(self._query, found[-1].time)
            page = await self._read(following(earlier, edge))
            found, edge = [*found, *page], page.next
            if edge is None:
                return self._page(found, more=True)
        return await self._halve(self._ordered(found)[-1].time)

    async def _halve(self, far: int) -> TimePage:
        """Halve the span of time up to ``far``, which has enough, until one read covers it."""
        near, last = self._bounds()
        found: list[Event] = []
        while len(found) < self._limit:
            half = abs(far - near) // 2
            middle = near - half if self._newest else near + half
            page = await _some(self._read, _between(self._query, near, middle))
            if page.next is None:
                found += self._ordered(page)
                if middle == last:
                    return self._page(found, more=False)
                # Retention may have deleted events that were in the span.
                far = last if middle == far else far
                near = middle - 1 if self._newest else middle + 1
            elif near == middle:
                found += page
                break
            else:
                far = middle
        return self._page(found, more=True)

    def _pin(self, found: list[Event]) -> None:
        """Leave out events that are recorded during the search."""
        if found and self._newest and self._query.before is None:
            before = found[0].position + 1
            self._query = msgspec.structs.replace(self._query, before=before)

    def _bounds(self) -> tuple[int, int]:
        """The first and the last time that an event of the query may have, in its order."""
        since, until = self._query.filter.since, self._query.filter.until
        low = since if since is not None else 0
        high = until - 1 if until is not None else LATEST
        return (high, low) if self._newest else (low, high)

    def _ordered(self, events: Iterable[Event]) -> list[Event]:
        return sorted(events, key=moment_of, reverse=self._newest)[: self._limit]

    def _page(self, found: list[Event], *, more: bool) -> TimePage:
        events = self._ordered(found)
        return TimePage(events=events, more=more or len(events) < len(found))


def _at(query: Query, moment: Moment) -> Query:
    """What follows ``moment`` at the same time."""
    same = _between(query, moment.time, moment.time)
    return following(same, moment.position)


def _after(query: Query, time: int) -> Query:
    """What happened strictly after ``time``, in the order of the query."""
    filter = query.filter
    if query.order == "newest":
        until = time if filter.until is None else min(time, filter.until)
        filter = msgspec.structs.replace(filter, until=until)
    else:
        since = time + 1 if filter.since is None else max(time + 1, filter.since)
        filter = msgspec.structs.replace(filter, since=since)
    return msgspec.structs.replace(query, filter=filter)


def _before(query: Query, time: int) -> Query:
    """What happened strictly before ``time``, in the order of the query."""
    filter = query.filter
    if query.order == "newest":
        since = time + 1 if time < LATEST else LATEST
        filter = msgspec.structs.replace(filter, since=since)
    else:
        filter = msgspec.structs.replace(filter, until=time)
    return msgspec.structs.replace(query, filter=filter)


def _between(query: Query, one: int, other: int) -> Query:
    """What happened from the one time to the other, both included."""
    low, high = min(one, other), max(one, other)
    until = high + 1 if high < LATEST else query.filter.until
    return msgspec.structs.replace(
        query, filter=msgspec.structs.replace(query.filter, since=low, until=until)
    )
