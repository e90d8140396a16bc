"""*Events*: find them, see when they happened, follow them, save them."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from deploylog.api.native.query_string import (
    FILTERS,
    Parameters,
    parse_edges,
    parse_filter,
    parse_names,
)
from deploylog.errors import InvalidInput, NotFound, QueryTooExpensive
from deploylog.events.event import Event
from deploylog.events.facets import Facets
from deploylog.events.filters import Field, Filter
from deploylog.events.store import Page as EventPage
from deploylog.events.store import Query
from deploylog.events.times import render_time
from deploylog.ui.export import csv_table, ndjson
from deploylog.ui.headers import PAGE_HEADERS
from deploylog.ui.page import Moved, Page, View
from deploylog.ui.search_text import Pairs, parse_search, render_search

#: Events of one page, and of one step of a script, which is laid out while the reader scrolls.
_LIMIT = 100
_STEP = 50

#: Bars of the histogram, and values of a facet.
_BARS = 72
_TOP = 8
_SUGGESTED = 50

#: Events of one export: more than any log has.
_ALL = 1 << 40

#: Fields whose values the page counts, with their names.
_FACETS: tuple[tuple[str, Field], ...] = (
    ("type", "type"),
    ("actor", "actor"),
    ("resourcetype", "resource_type"),
    ("source", "source"),
)

#: What says where a page starts, and not what is searched.
_CURSORS = ("before", "after")

#: Offered ranges, as ``since`` has them.
_RANGES = ("1h", "24h", "7d", "30d")


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the filter, and the query without it."""

    text: str
    rest: str


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bar of the histogram; its height is a part of the highest."""

    since: int
    count: int
    height: float
    #: The query of what happened in it.
    query: str


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a facet, and the query that selects it as well."""

    value: str
    count: int
    query: str


class FacetList(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values of a field."""

    name: str
    values: tuple[Value, ...]
    others: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    search: str
    #: The query without the cursor.
    query: str
    chips: tuple[Chip, ...]
    ranges: tuple[tuple[str, str, bool], ...]
    #: Newest first.
    events: Sequence[Event] = ()
    #: The queries of the pages of older and newer events, if there may be any.
    older: str | None = None
    newer: str | None = None
    is_newest: bool = True
    count: int = 0
    buckets: tuple[Bucket, ...] = ()
    since: int = 0
    until: int = 0
    facets: tuple[FacetList, ...] = ()
    scope: str = ""
    problem: str | None = None
    damaged: int = 0


async def load(view: View) -> Found | Moved:
    """The events that the query selects."""
    parameters = Parameters(view.query)
    search = parameters.all("search")
    if search:
        # The box's text becomes a query that the API understands, too.
        return Moved(f"events?{urlencode(parse_search(search[0]))}")
    cursors = {name: parameters.one(name) for name in _CURSORS}
    pairs = parameters.rest()
    empty = Found(
        search=render_search(pairs),
        query=urlencode(pairs),
        chips=tuple(_chips(pairs)),
        ranges=tuple(_ranges(pairs)),
    )
    try:
        return await _fill(view, pairs, cursors, empty)
    except (InvalidInput, NotFound, QueryTooExpensive) as error:
        return msgspec.structs.replace(empty, problem=error.message)


async def _fill(view: View, pairs: Pairs, cursors: dict[str, str | None], empty: Found) -> Found:
    filter = await read_filter(view, pairs)
    if view.part == "list":
        return _with_events(empty, await _page(view, filter, cursors), pairs, cursors)
    events, principal = view.services.events, view.principal
    now = view.now
    edges = parse_edges(filter, buckets=_BARS, now=now)
    bounded = msgspec.structs.replace(filter, since=edges[0], until=edges[-1])
    page, count, counts, facets = await asyncio.gather(
        _page(view, filter, cursors),
        events.count(principal, Query(filter=filter)),
        events.histogram(principal, Query(filter=bounded), edges),
        _count_values(view, filter),
    )
    return msgspec.structs.replace(
        _with_events(empty, page, pairs, cursors),
        count=count,
        buckets=tuple(_buckets(edges, counts, pairs)),
        since=edges[0],
        until=edges[-1],
        facets=tuple(_facets(facets, pairs)),
        scope=str(filter.scopes[0]) if len(filter.scopes) == 1 else "",
    )


async def read_filter(view: View, pairs: Pairs) -> Filter:
    """The filter of a query, which may name deployments as people do; raises InvalidInput."""
    parameters = Parameters(urlencode(pairs))
    filter = parse_filter(parameters, now=view.now)
    names = parse_names(parameters)
    parameters.done()
    if not names:
        return filter
    scopes = await view.services.deployments.names.scopes(view.principal, names)
    return msgspec.structs.replace(filter, scopes=(*filter.scopes, *scopes))


async def _count_values(view: View, filter: Filter) -> list[Facets]:
    count = partial(view.services.events.facets, view.principal, Query(filter=filter))
    return await asyncio.gather(*(count(field, _TOP) for _, field in _FACETS))


async def _page(view: View, filter: Filter, cursors: dict[str, str | None]) -> EventPage:
    events = view.services.events
    positions = {
        name: events.position(id) if id is not None else None for name, id in cursors.items()
    }
    return await events.page(
        view.principal,
        Query(
            filter=filter,
            limit=_STEP if view.part == "list" else _LIMIT,
            order="oldest" if cursors["after"] else "newest",
            after=positions["after"],
            before=positions["before"],
        ),
    )


def _with_events(
    empty: Found, page: EventPage, pairs: Pairs, cursors: dict[str, str | None]
) -> Found:
    """The events, and where the pages before and after them start."""
    is_forward = cursors["after"] is not None
    ids = {each.position: each.id for each in (*page, *page.damaged)}
    newest_first = list(reversed(page)) if is_forward else list(page)
    onward = ids[page.next] if page.next is not None else None
    first = newest_first[0].id if newest_first else cursors["after"]
    last = newest_first[-1].id if newest_first else cursors["before"]
    older = last if is_forward else onward
    return msgspec.structs.replace(
        empty,
        events=newest_first,
        older=urlencode([*pairs, ("before", older)]) if older else None,
        newer=urlencode([*pairs, ("after", first)]) if first else None,
        is_newest=onward is None if is_forward else cursors["before"] is None,
        damaged=len(page.damaged),
    )


def _chips(pairs: Pairs) -> Iterable[Chip]:
    for number, (name, value) in enumerate(pairs):
        rest = urlencode(pairs[:number] + pairs[number + 1 :])
        yield Chip(text=render_search([(name, value)]) or f"{name}={value}", rest=rest)


def _ranges(pairs: Pairs) -> Iterable[tuple[str, str, bool]]:
    """Each range that is offered, its query, and whether it is chosen."""
    others = [pair for pair in pairs if pair[0] not in ("since", "until")]
    chosen = dict(pairs).get("since") if "until" not in dict(pairs) else None
    for since in _RANGES:
        yield since, urlencode([*others, ("since", since)]), since == chosen


def _buckets(edges: list[int], counts: list[int], pairs: Pairs) -> Iterable[Bucket]:
    others = [pair for pair in pairs if pair[0] not in ("since", "until")]
    highest = max(*counts, 1)
    for (since, until), count in zip(pairwise(edges), counts, strict=True):
        times = [("since", render_time(since)), ("until", render_time(until))]
        yield Bucket(
            since=since,
            count=count,
            height=count / highest,
            query=urlencode([*others, *times]),
        )


def _facets(found: Iterable[Facets], pairs: Pairs) -> Iterable[FacetList]:
    for (name, _), facets in zip(_FACETS, found, strict=True):
        values = tuple(
            Value(value=each.value, count=each.count, query=urlencode([*pairs, (name, each.value)]))
            for each in facets.top
            if (name, each.value) not in pairs
        )
        if values:
            yield FacetList(name=name, values=values, others=max(facets.values - _TOP, 0))


async def suggest(view: View) -> ASGIApp:
    """The frequent values of a field among what the query selects, for the search box."""
    parameters = Parameters(view.query)
    name = parameters.choice("field", tuple(FILTERS))
    filter = await read_filter(view, parameters.rest())
    facets = await view.services.events.facets(
        view.principal, Query(filter=filter), FILTERS[name], _SUGGESTED
    )
    body = msgspec.json.encode(facets.top)
    return Response(body, media_type="application/json", headers=PAGE_HEADERS)


async def save_ndjson(view: View) -> ASGIApp:
    """What is found, as the API gives it."""
    return ndjson(view.services.events.pages(view.principal, await _whole(view)))


async def save_csv(view: View) -> ASGIApp:
    """What is found, as a table."""
    return csv_table(view.services.events.pages(view.principal, await _whole(view)))


async def _whole(view: View) -> Query:
    filter = await read_filter(view, Parameters(view.query).rest())
    return Query(filter=filter, order="oldest", limit=_ALL)


PAGE = Page(
    path="events",
    template="events.html",
    load=load,
    navigation="Events",
    script="events.js",
    downloads={
        "events.ndjson": save_ndjson,
        "events.csv": save_csv,
        "suggestions": suggest,
    },
)
