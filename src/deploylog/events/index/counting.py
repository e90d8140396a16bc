"""Counting: how many events a search finds, by the values of a field, and over time."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from pyroaring import BitMap

from deploylog.errors import QueryTooExpensive
from deploylog.events.facets import Facet, Facets
from deploylog.events.filters import Field
from deploylog.events.index.search import EventRows, Search, Selected
from deploylog.events.index.segments import BLOCK_BITS, SEGMENT_BITS
from deploylog.events.index.terms import term

#: Different values that facets count.
MAX_VALUES = 200_000


def count(search: Search, rows: EventRows) -> int:
    """How many events the search finds."""
    return sum(len(each.offsets) for each in search.exact(rows))


def facets(search: Search, rows: EventRows, field: Field, top: int) -> Facets:
    """The ``top`` values of a field among what the search finds; of equal counts by value."""
    counts: Counter[str] = Counter()
    total = 0
    prefix = term(field, "")
    for each in search.exact(rows):
        total += len(each.offsets)
        for value, offsets in each.segment.values(prefix):
            if number := each.offsets.intersection_cardinality(offsets):
                counts[value] += number
        if len(counts) > MAX_VALUES:
            raise QueryTooExpensive(f"{field} has more than {MAX_VALUES} values: filter more")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    found = tuple(Facet(value.removeprefix(prefix), number) for value, number in ordered)
    return Facets(top=found, values=len(counts), total=total)


def histogram(search: Search, rows: EventRows, edges: Sequence[int]) -> list[int]:
    """How many events happened from each of the ``edges`` (ns) to the next, which is excluded.

    There is one count fewer than edges. Events outside of all edges are not counted.
    """
    counts = [0] * (len(edges) - 1)
    for each in search.exact(rows):
        for bucket, number in _in_buckets(each, rows, edges):
            if 0 <= bucket < len(counts):
                counts[bucket] += number
    return counts


def _in_buckets(each: Selected, rows: EventRows, edges: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Numbers of events to add to buckets."""
    first = each.segment.number << SEGMENT_BITS
    for block, (earliest, latest) in enumerate(each.segment.times.blocks()):
        start, stop = block << BLOCK_BITS, (block + 1) << BLOCK_BITS
        number = each.offsets.range_cardinality(start, stop)
        if not number:
            continue
        bucket = _bucket(edges, earliest)
        if bucket == _bucket(edges, latest):
            yield bucket, number
            continue
        positions = [first + offset for offset in each.offsets & _offsets(start, stop)]
        for _, time in rows.times(positions):
            yield _bucket(edges, time), 1


def _bucket(edges: Sequence[int], time: int) -> int:
    return bisect_right(edges, time) - 1


def _offsets(start: int, stop: int) -> BitMap:
    offsets = BitMap()
    offsets.add_range(start, stop)
    return offsets
