"""*Audit*: who changed what may be deployed, where, and by whom."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters, parse_filter
from deploylog.deployments.catalog import check_name
from deploylog.errors import InvalidInput
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope, scope
from deploylog.events.store import Query
from deploylog.ui.page import Page, View

#: Events of one page, and actors and types that it counts.
_LIMIT = 100
_TOP = 30

#: What the page is about: by the first words of types, with the names that the page gives them.
AREAS: dict[str, tuple[str, ...]] = {
    "inventory": ("inventory.*", "acl.inventory.*"),
    "state": ("state.*", "acl.state.*"),
    "access": ("acl.*", "user.*", "team.*", "key.*"),
    "keys": ("key.*",),
    "stacks": ("stack.*",),
    "subscriptions": ("subscription.*",),
}

_ALL = tuple(sorted({pattern for patterns in AREAS.values() for pattern in patterns}))

#: Offered ranges, as ``since`` has them.
_RANGES = ("24h", "7d", "30d", "365d")

Pairs = list[tuple[str, str]]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """Something to choose: its query, and whether it is chosen."""

    name: str
    query: str
    is_chosen: bool


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    #: The form: what each of ``_FIELDS`` says.
    given: dict[str, str]
    projects: list[str]
    areas: tuple[Option, ...]
    ranges: tuple[Option, ...]
    events: Sequence[Event] = ()
    older: str | None = None
    #: The query that finds the same on the page of events.
    search: str = ""
    count: int = 0
    #: The most frequent people.
    actors: tuple[str, ...] = ()
    #: What is wrong with the filter.
    problem: str | None = None


async def load(view: View) -> Shown:
    """What was done within the filter of the query, newest first."""
    parameters = Parameters(view.query)
    before = parameters.one("before")
    pairs = [(name, parameters.one(name) or "") for name in _FIELDS]
    parameters.done()
    empty = Shown(
        given=dict(pairs),
        projects=await view.services.deployments.projects(view.principal),
        areas=tuple(_option(pairs, "area", name) for name in AREAS),
        ranges=tuple(_option(pairs, "since", name) for name in _RANGES),
    )
    try:
        return await _fill(view, pairs, before, empty)
    except InvalidInput as error:
        return msgspec.structs.replace(empty, problem=error.message)


_FIELDS = ("project", "actor", "since", "until", "area")


def _option(pairs: Pairs, name: str, value: str) -> Option:
    is_chosen = dict(pairs)[name] == value
    changed = [(n, ("" if is_chosen else value) if n == name else v) for n, v in pairs]
    return Option(name=value, query=_query(changed), is_chosen=is_chosen)


def _query(pairs: Pairs) -> str:
    return urlencode([pair for pair in pairs if pair[1]])


async def _fill(view: View, pairs: Pairs, before: str | None, empty: Shown) -> Shown:
    query = Query(filter=audit_filter(dict(pairs), now=view.now))
    events, principal = view.services.events, view.principal
    position = events.position(before) if before is not None else None
    page, count, actors = await asyncio.gather(
        events.page(principal, msgspec.structs.replace(query, before=position, limit=_LIMIT)),
        events.count(principal, query),
        events.facets(principal, query, "actor", _TOP),
    )
    is_more = bool(page) and page.next is not None
    return msgspec.structs.replace(
        empty,
        events=page,
        older=_query([*pairs, ("before", page[-1].id)]) if is_more else None,
        search=urlencode(search_of(query.filter, dict(pairs))),
        count=count,
        actors=tuple(each.value for each in actors.top),
    )


def audit_filter(given: dict[str, str], *, now: int) -> Filter:
    """The filter of a form; raises InvalidInput."""
    if given["area"] and given["area"] not in AREAS:
        raise InvalidInput(f"area must be one of {', '.join(AREAS)}", field="area")
    times = [(name, given[name]) for name in ("since", "until") if given[name]]
    filter = parse_filter(Parameters(urlencode(times)), now=now)
    conditions = [any_of("type", AREAS.get(given["area"], _ALL))]
    if given["actor"]:
        conditions.append(any_of("actor", (given["actor"],)))
    return msgspec.structs.replace(
        filter, all_of=tuple(conditions), scopes=_scopes(given["project"])
    )


def _scopes(project: str) -> tuple[Scope, ...]:
    """Where things happen to a project."""
    if not project:
        return ()
    check_name("project", project)
    return tuple(scope(kind, project) for kind in ("project", "inventory", "state"))


def search_of(filter: Filter, given: dict[str, str]) -> Pairs:
    """The query that finds the same on the page of events."""
    pairs = [("scope", str(each)) for each in filter.scopes]
    pairs += [("type", pattern) for pattern in AREAS.get(given["area"], _ALL)]
    return pairs + [(n, given[n]) for n in ("actor", "since", "until") if given[n]]


PAGE = Page(path="audit", template="audit.html", load=load, navigation="Audit")
