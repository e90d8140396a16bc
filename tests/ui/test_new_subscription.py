"""The form of a subscription: a field for everything that any kind of endpoint has."""

import pytest

from deploylog.errors import InvalidSubscription
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.places import Places
from deploylog.subscriptions.subscription import EndpointPatch
from deploylog.ui.pages.new_subscription import FIELDS, input_of, read_endpoint
from deploylog.ui.search_text import pairs_of, parse_search, render_search


def test_the_form_knows_every_field_of_an_endpoint():
    assert set(FIELDS) == set(EndpointPatch.__struct_fields__)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_a_kind_is_read(name: str):
    kind = KINDS[name]
    form = {input_of(field): "x: y" for field in FIELDS}

    patch = read_endpoint(form, kind)

    assert {field for field in FIELDS if getattr(patch, field) is not None} == kind.fields


def test_headers_are_one_a_line():
    template = KINDS["template"]

    patch = read_endpoint({input_of("headers"): "X-Team: web\n\n X-Url: http://a:1 \n"}, template)

    assert patch.headers == {"X-Team": "web", "X-Url": "http://a:1"}
    with pytest.raises(InvalidSubscription) as refused:
        read_endpoint({input_of("headers"): "no colon"}, template)
    assert refused.value.field == "headers"


def test_the_text_of_a_filter_is_what_was_typed():
    text = 'scope:project/acme resource:a.b type:note.* -actor:bot "quota exceeded"'
    pairs = parse_search(text)

    assert render_search(pairs) == text
    assert pairs_of(Filter(scopes=(Scope("project/acme"),), resources=("a.b",))) == pairs[:2]


def test_the_text_of_names_is_what_was_typed():
    text = "project:acme stack:web environment:prod version:1.4 commit:4f2a label:team=web"
    places = Places(
        project="acme",
        stacks=("web",),
        environments=("prod",),
        versions=("1.4",),
        commits=("4f2a",),
        labels=(("team", "web"),),
    )

    assert render_search(pairs_of(Filter(scopes=places.scopes), places)) == text
