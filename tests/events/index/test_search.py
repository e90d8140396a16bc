"""The index finds exactly what ``Filter`` and ``Visibility`` say of each event."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.events.event import NewEvent, Resource
from deploylog.events.facets import Facet
from deploylog.events.filters import FIELDS, Field, Filter, any_of
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.store import Query
from deploylog.events.text import parse_text
from support import queries
from support.factories import new_event
from support.memory_index import MemoryIndex

#: Steps from one position to the next, so that few events lie in several blocks and segments.
_steps = st.sampled_from([1, 1, 1, 1, 1, 2, 1_024, SEGMENT_SIZE - 5])


@st.composite
def _indexes(draw: st.DrawFn) -> MemoryIndex:
    index = MemoryIndex()
    position = draw(st.integers(1, 20))
    for event in draw(st.lists(queries.events, min_size=1, max_size=40)):
        index.add(position, event)
        if draw(st.integers(0, 9)) == 9:
            # The next event begins a segment, so that this one can be sealed.
            position = (position // SEGMENT_SIZE + 1) * SEGMENT_SIZE
            index.seal()
        else:
            position += draw(_steps)
    if draw(st.booleans()):
        index.seal()
    index.floor = draw(st.sampled_from([0, 0, 3, SEGMENT_SIZE + 3]))
    return index


_queries = st.builds(
    Query,
    scope=queries.scopes,
    filter=queries.filters,
    visibility=queries.visibilities,
    after=st.none() | st.integers(0, 30) | st.just(SEGMENT_SIZE),
    before=st.none() | st.integers(0, 30) | st.just(SEGMENT_SIZE + 7),
    order=st.sampled_from(["newest", "oldest"]),
)


def _expected(index: MemoryIndex, query: Query) -> dict[int, NewEvent]:
    low = max(query.after or 0, index.floor)
    return {
        position: event
        for position, event in index.events.items()
        if position > low
        and (query.before is None or position < query.before)
        and query.filter.matches(event)
        and query.visibility.shows(event)
        and Filter(scopes=(query.scope,)).matches(event)
    }


@pytest.mark.slow
@settings(max_examples=400)
@given(index=_indexes(), query=_queries)
def test_a_search_finds_what_the_filter_matches(index: MemoryIndex, query: Query):
    expected = sorted(_expected(index, query), reverse=query.order == "newest")

    assert index.positions(query) == expected
    assert index.count(query) == len(expected)


@pytest.mark.slow
@settings(max_examples=200)
@given(index=_indexes(), query=_queries, field=st.sampled_from(FIELDS), top=st.integers(1, 3))
def test_facets_count_each_value(index: MemoryIndex, query: Query, field: str, top: int):
    found = _expected(index, query).values()
    counts = Counter(value for event in found if (value := _value(event, field)) is not None)

    facets = index.facets(query, field, top)  # type: ignore[arg-type]

    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    assert [(facet.value, facet.count) for facet in facets.top] == ordered[:top]
    assert (facets.total, facets.values) == (len(found), len(counts))


@pytest.mark.slow
@settings(max_examples=200)
@given(
    index=_indexes(),
    query=_queries,
    edges=st.lists(st.integers(0, 21), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_a_histogram_counts_each_time(index: MemoryIndex, query: Query, edges: list[int]):
    times = [event.time for event in _expected(index, query).values()]

    assert index.histogram(query, edges) == [
        sum(start <= time < stop for time in times) for start, stop in pairwise(edges)
    ]


def _value(event: NewEvent, field: str) -> str | None:
    if field.startswith("resource_"):
        name = field.removeprefix("resource_").replace("id", "id_value")
        return getattr(event.resource, name) if event.resource else None
    value: str | None = getattr(event, field)
    return value


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_found_and_counted_however_rare(field: Field, is_sealed: bool):
    index = MemoryIndex()
    resource = Resource(
        type="vpc.a", name="vpc.a", key="vpc.a", address="vpc.a", id_key="id", id_value="vpc.a"
    )
    index.add(
        1, new_event("vpc.a", source="vpc.a", actor="vpc.a", subject="vpc.a", resource=resource)
    )
    index.add(2, new_event("x"))
    if is_sealed:
        index.seal()

    for pattern in ("vpc.a", "vpc.*"):
        assert index.positions(Query(filter=Filter(all_of=(any_of(field, (pattern,)),)))) == [1]
        assert index.positions(Query(filter=Filter(none_of=(any_of(field, (pattern,)),)))) == [2]
    assert Facet("vpc.a", 1) in index.facets(Query(), field, 10).top


def test_a_full_page_reads_one_segment():
    index = MemoryIndex()
    for number in range(5):
        index.add(number * SEGMENT_SIZE + 1, new_event())
        index.seal()
    search = index.search(Query())

    next(search.selected())

    assert search.trace.segments == 1


def test_a_range_of_time_reads_no_segment_outside_of_it():
    index = MemoryIndex()
    for number in range(5):
        index.add(number * SEGMENT_SIZE + 1, new_event(time=number))
        index.seal()
    search = index.search(Query(filter=Filter(since=2, until=3)))

    [found] = search.exact(index)

    assert found.positions == [2 * SEGMENT_SIZE + 1]
    assert (search.trace.segments, search.trace.rows) == (1, 0)


def test_a_word_is_decided_without_rows_and_a_phrase_by_them():
    index = MemoryIndex()
    index.add(1, new_event(message="access denied to bucket"))
    index.add(2, new_event(message="denied access"))
    word, phrase = (
        index.search(Query(filter=Filter(phrases=parse_text(text))))
        for text in ("denied", '"access denied"')
    )

    words, phrases = list(word.exact(index)), list(phrase.exact(index))

    assert [each.positions for each in words] == [[1, 2]]
    assert [each.positions for each in phrases] == [[1]]
    assert (word.trace.rows, phrase.trace.rows, phrase.trace.rows_in_vain) == (0, 2, 1)


class _Asked(MemoryIndex):
    """An index that notes which terms are read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        self.asked.append(term)
        return super().bitmaps(term, numbers)


def test_the_words_of_a_phrase_are_read_only_where_the_longest_is():
    index = _Asked()
    for position in range(1, 20):
        index.add(position, new_event(message=f"i-0abc{position}"))
    index.seal()

    found = index.count(Query(filter=Filter(phrases=parse_text("i-0abc99"))))

    assert found == 0
    assert "word:0abc99" in index.asked
    assert "word:i" not in index.asked


def test_rare_and_common_terms_are_found_after_sealing():
    index = MemoryIndex()
    for position in range(1, 2_001):
        index.add(position, new_event(subject=f"s-{position}", actor="ci", message=f"n {position}"))
    index.seal()

    def found(filter: Filter) -> list[int]:
        return index.positions(Query(filter=filter))

    assert found(Filter(all_of=(any_of("subject", ("s-77",)),))) == [77]
    assert found(Filter(phrases=parse_text("1999"))) == [1999]
    assert found(Filter(phrases=parse_text("199*"))) == [*range(1999, 1989, -1), 199]
    assert len(found(Filter(all_of=(any_of("actor", ("ci",)),)))) == 2_000
