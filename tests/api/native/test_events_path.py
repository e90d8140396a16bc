"""The path at which a receiver reads missed events: equivalent to the subscription's filter."""

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.native.query_string import Parameters, events_path, parse_filter
from deploylog.events.filters import FIELDS, Filter, any_of
from deploylog.events.scope import scope
from support.factories import event

names = st.text(st.characters(codec="utf-8", exclude_characters="*\0"), min_size=1, max_size=8)
scopes = st.lists(names, min_size=1, max_size=3).map(lambda parts: scope(*parts))
patterns = st.lists(names | names.map(lambda name: f"{name}.*"), min_size=1, max_size=3)
filters = st.builds(
    lambda paths, asked: Filter(
        scopes=tuple(paths),
        all_of=tuple(any_of(field, tuple(asked[field])) for field in FIELDS if field in asked),
    ),
    st.lists(scopes, max_size=3),
    st.dictionaries(st.sampled_from(FIELDS), patterns, max_size=3),
)


@given(filters)
def test_the_path_is_equivalent_to_the_filter(filter: Filter):
    parts = urlsplit(events_path(filter, event(5)))

    parameters = Parameters(parts.query)
    request = parse_filter(parameters, now=0)

    assert parts.path == "/log/v1/events"
    assert parameters.one("order") == "oldest"
    assert parameters.one("before") == event(5).id
    parameters.done()
    assert set(request.scopes) == set(filter.scopes)
    assert {c.field: (set(c.values), set(c.prefixes)) for c in request.all_of} == {
        c.field: (set(c.values), set(c.prefixes)) for c in filter.all_of
    }
