"""History: pages of the log that several readers ask for, read and rendered once for all."""

import asyncio
from bisect import bisect_right, insort
from collections.abc import Awaitable, Callable

import msgspec

from deploylog.events.batch import Batch
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.ring import Ring

#: Seconds for which a page is shared. Events that are deleted meanwhile are in it still.
PAGE_SECONDS = 1.0

#: Seconds that readers wait for a read that another reader started. A read that takes longer may be
#: waiting for its caller's turn, which is no concern of theirs.
PATIENCE_SECONDS = 0.05

#: Bytes of an event in memory besides its texts, about.
_EVENT_BYTES = 1024

#: A batch, and the position that it ends at.
Found = tuple[Batch, int]

_Key = tuple[Ring, int]


class _Page(msgspec.Struct, frozen=True):
    batch: Batch
    end: int
    #: When it may be used no longer, by the event loop's clock.
    expires: float

    @property
    def weight(self) -> int:
        """The bytes of the events, and of two renderings of them, about."""
        return 3 * self.batch.size + _EVENT_BYTES * len(self.batch.events)


class History:
    """The pages that the readers of a ring have read from the log, for the others that follow."""

    def __init__(self, max_bytes: int) -> None:
        self._pages: BoundedMap[_Key, _Page] = BoundedMap(max_bytes, weigh=lambda page: page.weight)
        #: The positions after which the pages of each ring start, in order.
        self._starts: dict[Ring, list[int]] = {}
        #: The readers that wait for a running read.
        self._reads: dict[_Key, list[asyncio.Future[Found | None]]] = {}

    async def get(self, ring: Ring, start: int, read: Callable[[int], Awaitable[Found]]) -> Found:
        """The events after ``start``: those of a page in memory, or else what ``read`` returns."""
        key = (ring, start)
        found = self._find(ring, start)
        while found is None and key in self._reads:
            found = await self._join(key) or self._find(ring, start)
        return found or await self._read(key, read)

    def expire(self) -> None:
        """Drop the pages that may be used no longer."""
        now = asyncio.get_running_loop().time()
        for key in list(self._pages):
            page = self._pages.get(key)
            if page is not None and page.expires <= now:
                self._drop(key)

    def discard(self, ring: Ring) -> None:
        """Drop the pages of a ring that has no more readers."""
        for start in self._starts.pop(ring, ()):
            self._pages.drop((ring, start))

    def _find(self, ring: Ring, start: int) -> Found | None:
        """The part after ``start`` of the page that it is in."""
        starts = self._starts.get(ring)
        if not starts:
            return None
        number = bisect_right(starts, start)
        if not number:
            return None
        key = (ring, starts[number - 1])
        page = self._pages.get(key)
        if page is None or page.end <= start:
            return None
        if page.expires <= asyncio.get_running_loop().time():
            self._drop(key)
            return None
        if key[1] == start:
            return page.batch, page.end
        return None if page.batch.gap is not None else (page.batch.after(start), page.end)

    async def _join(self, key: _Key) -> Found | None:
        """What the running read finds; ``None`` if it fails or takes long."""
        waiting: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._reads[key].append(waiting)
        return await waiting

    async def _read(self, key: _Key, read: Callable[[int], Awaitable[Found]]) -> Found:
        waiting: list[asyncio.Future[Found | None]] = []
        self._reads[key] = waiting
        loop = asyncio.get_running_loop()
        late = loop.call_later(PATIENCE_SECONDS, self._end, key, waiting, None)
        found = None
        try:
            found = await read(key[1])
        finally:
            late.cancel()
            self._end(key, waiting, found)
        self._put(key, _Page(*found, expires=loop.time() + PAGE_SECONDS))
        return found

    def _end(
        self, key: _Key, waiting: list[asyncio.Future[Found | None]], found: Found | None
    ) -> None:
        """Tell those that wait for the read what it found."""
        if self._reads.get(key) is waiting:
            del self._reads[key]
        for each in waiting:
            if not each.done():
                each.set_result(found)
        waiting.clear()

    def _put(self, key: _Key, page: _Page) -> None:
        self._drop(key)
        dropped = self._pages.put(key, page)
        insort(self._starts.setdefault(key[0], []), key[1])
        for each in dropped:
            self._remove_start(each)

    def _drop(self, key: _Key) -> None:
        if key in self._pages:
            self._pages.drop(key)
            self._remove_start(key)

    def _remove_start(self, key: _Key) -> None:
        ring, start = key
        starts = self._starts[ring]
        starts.pop(bisect_right(starts, start) - 1)
        if not starts:
            del self._starts[ring]
