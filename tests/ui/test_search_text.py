"""The text of the search box, and the query that it stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.ui.search_text import EXCLUDABLE, NAMES, parse_search, render_search


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("  ", []),
        ("quota exceeded", [("q", "quota exceeded")]),
        ('"quota exceeded" web', [("q", '"quota exceeded" web')]),
        ("type:resource.*", [("type", "resource.*")]),
        ("-type:deployment.log web", [("type!", "deployment.log"), ("q", "web")]),
        ('actor:"Ada L" since:2h', [("actor", "Ada L"), ("since", "2h")]),
        ("label:team=web type:", [("label", "team=web"), ("q", "type:")]),
        ("https://ci.example/1", [("q", "https://ci.example/1")]),
        ("-project:acme", [("q", "-project:acme")]),
        ("scope:project/acme", [("scope", "project/acme")]),
        ('actor:"open', [("actor", "open")]),
    ],
)
def test_a_text_is_a_query(text: str, pairs: list[tuple[str, str]]):
    assert parse_search(text) == pairs


@given(st.text(max_size=60))
def test_any_text_is_a_query(text: str):
    assert all(name and value for name, value in parse_search(text))


_values = st.text(
    st.characters(blacklist_characters='"', blacklist_categories=["Z", "C"]), min_size=1
)


@given(
    st.lists(
        st.tuples(st.sampled_from([*NAMES, *(f"{n}!" for n in sorted(EXCLUDABLE))]), _values),
        max_size=5,
    )
)
def test_a_query_comes_back_from_the_box_as_it_was(pairs: list[tuple[str, str]]):
    assert parse_search(render_search(pairs)) == pairs
