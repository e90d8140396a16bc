"""An index in memory: sealed segments in dictionaries, events in a list."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from deploylog.events.event import NewEvent
from deploylog.events.facets import Facets
from deploylog.events.filters import Field, Filter
from deploylog.events.index.bitmap_cache import BitmapCache
from deploylog.events.index.blobs import verified
from deploylog.events.index.counting import count, facets, histogram
from deploylog.events.index.listed import ListedTerms
from deploylog.events.index.sealed import seal, unpack_times
from deploylog.events.index.search import Moment, Search, Selected
from deploylog.events.index.segments import SEGMENT_SIZE, GrowingSegment, segment_of
from deploylog.events.index.trace import Trace
from deploylog.events.store import Query


class MemoryIndex:
    """Events by position, and their index; both protocols of a backend."""

    def __init__(self) -> None:
        self.events: dict[int, NewEvent] = {}
        self._growing: dict[int, GrowingSegment] = {}
        self._bitmaps: dict[int, dict[str, bytes]] = {}
        self._buckets: dict[int, dict[int, bytes]] = {}
        self._pages: dict[int, list[tuple[str, bytes]]] = {}
        self._times: dict[int, bytes] = {}
        self.floor = 0

    def add(self, position: int, event: NewEvent) -> None:
        self.events[position] = event
        number = segment_of(position)
        segment = self._growing.setdefault(number, GrowingSegment(number))
        segment.add(position % SEGMENT_SIZE, event)

    def seal(self) -> None:
        """Seal every segment, the newest included."""
        for number, segment in self._growing.items():
            sealed = seal(segment)
            self._bitmaps[number] = dict(sealed.bitmaps)
            self._buckets[number] = dict(sealed.buckets)
            self._pages[number] = list(sealed.pages)
            self._times[number] = sealed.times
        self._growing.clear()

    # Asking

    def search(self, query: Query) -> Search:
        moment = Moment(
            head=max(self.events, default=0),
            floor=self.floor,
            sealed={
                number: unpack_times(verified(stored, number))
                for number, stored in self._times.items()
            },
            growing=tuple(self._growing.values()),
            rows=self,
            listed=ListedTerms(),
            bitmaps=BitmapCache(),
        )
        return Search(moment, query, Trace())

    def positions(self, query: Query) -> list[int]:
        found: list[int] = []
        for each in self.search(query).exact(self):
            found += each.positions if query.order == "oldest" else each.positions[::-1]
        return found

    def selected(self, query: Query) -> list[Selected]:
        return list(self.search(query).selected())

    def count(self, query: Query) -> int:
        return count(self.search(query), self)

    def facets(self, query: Query, field: Field, top: int) -> Facets:
        return facets(self.search(query), self, field, top)

    def histogram(self, query: Query, edges: Sequence[int]) -> list[int]:
        return histogram(self.search(query), self, edges)

    # ``SegmentRows`` and ``EventRows``

    def terms(self, prefix: str, number: int, limit: int) -> Iterator[str]:
        found = (term for term in self._bitmaps[number] if term.startswith(prefix))
        yield from islice(found, limit)

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            if (stored := self._bitmaps[number].get(term)) is not None:
                yield number, stored

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            if (stored := self._buckets[number].get(bucket)) is not None:
                yield number, stored

    def listed(self, prefix: str, number: int) -> Iterator[tuple[str, bytes]]:
        for term, stored in sorted(self._bitmaps[number].items()):
            if term.startswith(prefix):
                yield term, stored

    def pages(self, prefix: str, number: int) -> Iterator[bytes]:
        for _, page in self._pages[number]:
            yield page

    def times(self, positions: Sequence[int]) -> Iterable[tuple[int, int]]:
        return [(p, self.events[p].time) for p in positions if p in self.events]

    def matching(self, positions: Sequence[int], filter: Filter) -> Iterable[int]:
        return [p for p in positions if p in self.events and filter.matches(self.events[p])]
