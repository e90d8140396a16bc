"""*Resource*: everything that ever happened to one resource, by its address or its id."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import Deployment, deployment_ref
from deploylog.deployments.filters import Names
from deploylog.events.event import Event
from deploylog.events.facets import Facets
from deploylog.events.filters import AnyOf, Field, Filter
from deploylog.events.scope import Scope, parse_scope, segments
from deploylog.events.store import Page as EventPage
from deploylog.events.store import Query
from deploylog.ui.page import Page, View

#: Events of one page, and names that are shown.
_LIMIT = 100
_NAMES = 20


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one deployment, or of one change set, or of neither; newest first."""

    events: tuple[Event, ...]
    deployment: Deployment | None = None
    #: Id of the change set.
    changeset: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    resource: str
    #: Where it is looked for.
    scope: Scope
    #: The query of the same, anywhere.
    anywhere: str | None
    count: int
    visits: tuple[Visit, ...]
    older: str | None
    #: The newest of the events on the page.
    last: Event | None
    #: Other names: addresses and ids of the same events.
    addresses: Facets
    ids: Facets


async def load(view: View) -> Shown:
    """The history of the resource that the query names."""
    parameters = Parameters(view.query)
    resource, type = parameters.required("resource"), parameters.one("type")
    scope, before = parse_scope(parameters.one("scope") or ""), parameters.one("before")
    parameters.done()
    events, principal = view.services.events, view.principal
    query = await _query(view, scope, resource, type)
    position = events.position(before) if before is not None else None
    page, count, addresses, ids = await asyncio.gather(
        events.page(principal, msgspec.structs.replace(query, before=position, limit=_LIMIT)),
        events.count(principal, query),
        _names(view, query, "resource_address"),
        _names(view, query, "resource_id"),
    )
    own = [("resource", resource), *([("type", type)] if type else [])]
    here = [*own, *([("scope", str(scope))] if scope else [])]
    return Shown(
        resource=resource,
        scope=scope,
        anywhere=urlencode(own) if scope else None,
        count=count,
        visits=await _visits(view, page),
        older=urlencode([*here, ("before", page[-1].id)]) if _is_more(page) else None,
        last=page[0] if page else None,
        addresses=addresses,
        ids=ids,
    )


async def _query(view: View, scope: Scope, resource: str, type: str | None) -> Query:
    """By address or id; or by type and name, which stand for an address where there is none."""
    query = Query(scope=scope, filter=Filter(resources=(resource,)))
    if type is None or await view.services.events.count(view.principal, query):
        return query
    return Query(scope=scope, filter=Filter(all_of=tuple(named(resource, type))))


def named(resource: str, type: str) -> Iterable[AnyOf]:
    """The conditions that a name such as ``type.name[key]`` stands for."""
    yield AnyOf(field="resource_type", values=(type,))
    name, bracket, key = resource.removeprefix(type).removeprefix(".").partition("[")
    if name:
        yield AnyOf(field="resource_name", values=(name,))
    if bracket:
        yield AnyOf(field="resource_key", values=(key.removesuffix("]"),))


def _is_more(page: EventPage) -> bool:
    return bool(page) and page.next is not None


async def _names(view: View, query: Query, field: Field) -> Facets:
    return await view.services.events.facets(view.principal, query, field, _NAMES)


async def _visits(view: View, page: Sequence[Event]) -> tuple[Visit, ...]:
    deployments = await _deployments(view, page)
    return tuple(
        Visit(
            events=tuple(events),
            deployment=deployments.get(deployment or ""),
            changeset=changeset,
        )
        for (deployment, changeset), events in groupby(page, key=_place)
    )


def _place(event: Event) -> tuple[str | None, str | None]:
    """The deployment and the change set that an event belongs to."""
    ref = deployment_ref(event.scopes)
    names = (segments(scope) for scope in event.scopes)
    changeset = next((each[1] for each in names if each[0] == "changeset" and len(each) > 1), None)
    return ref.deployment_id if ref is not None else None, changeset


async def _deployments(view: View, page: Sequence[Event]) -> dict[str, Deployment]:
    """The visible deployments of these events, by id."""
    ids = {id for id, _ in map(_place, page) if id is not None}
    if not ids:
        return {}
    names = Names(deployments=tuple(ids))
    found = await view.services.deployments.deployments(view.principal, names=names, limit=_LIMIT)
    return {each.id: each for each in found}


PAGE = Page(path="resource", template="resource.html", load=load)
