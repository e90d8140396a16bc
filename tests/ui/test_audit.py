"""The filter of *Audit*."""

from urllib.parse import parse_qsl, urlencode

import pytest

from deploylog.api.native.query_string import Parameters, parse_filter
from deploylog.errors import InvalidInput
from deploylog.events.times import SECOND
from deploylog.ui.pages.audit import AREAS, audit_filter, search_of
from support.factories import new_event

NOW = 1_000_000 * SECOND

NOTHING = {"project": "", "actor": "", "since": "", "until": "", "area": ""}


def test_the_places_of_a_project_are_the_inventory_and_state_too():
    filter = audit_filter({**NOTHING, "project": "acme"}, now=NOW)

    for scope in ("inventory/acme/web", "state/acme/prod", "project/acme/stack/1"):
        assert filter.matches(new_event("acl.state.user.updated", scopes=(scope,)))
    assert not filter.matches(new_event("acl.state.user.updated", scopes=("state/other",)))


@pytest.mark.parametrize("type", ["key.created", "team.deleted", "subscription.disabled"])
def test_what_people_change_is_in_it_and_what_tools_report_is_not(type: str):
    filter = audit_filter(NOTHING, now=NOW)

    assert filter.matches(new_event(type))
    assert not filter.matches(new_event("resource.create.started"))


@pytest.mark.parametrize("area", ["", *AREAS])
def test_the_search_finds_the_same(area: str):
    given = {"project": "acme", "actor": "ada", "since": "1h", "until": "", "area": area}
    filter = audit_filter(given, now=NOW)

    query = urlencode(search_of(filter, given))

    assert parse_qsl(query)
    assert parse_filter(Parameters(query), now=NOW) == filter


@pytest.mark.parametrize("given", [{"area": "nosuch"}, {"since": "x"}, {"project": "\n"}])
def test_a_filter_that_is_wrong_names_the_field(given: dict[str, str]):
    with pytest.raises(InvalidInput) as refused:
        audit_filter(NOTHING | given, now=NOW)

    assert refused.value.field in given
