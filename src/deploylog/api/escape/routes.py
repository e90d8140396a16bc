"""Escape's routes: parse, ask the service, render."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext, Handler
from deploylog.api.escape import wire
from deploylog.api.escape.subscriptions import (
    parse_collection,
    parse_subscriptions,
    render_subscriptions,
)
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.errors import InvalidInput, Unauthenticated
from deploylog.events.access import ANONYMOUS
from deploylog.events.scope import Scope

#: The paths below which EscapeKit answers what nobody knows.
PREFIXES = ("/api/v1/", "/internal/")

QUERY = "/api/v1/events/query"

#: Bytes of an event's body: its data, its names, and room for blanks.
_EVENT_BYTES = 1024 * 1024

SUBSCRIPTIONS = "/api/v1/events/subscriptions/project/{project}/"

#: Where services create events; the only path that their secret opens.
CREATE_EVENT = "/internal/create-event"


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each route, as published."""
    escape = Escape(parts)
    return [
        ("GET", f"{QUERY}/", escape.everything),
        ("GET", f"{QUERY}/inventory/", escape.inventory),
        ("GET", f"{QUERY}/inventory/{{project}}/", escape.inventory),
        ("GET", f"{QUERY}/inventory/{{project}}/{{application}}/", escape.inventory),
        ("GET", f"{QUERY}/inventory/{{project}}/{{application}}/{{version}}/", escape.inventory),
        ("GET", f"{QUERY}/project/", escape.state),
        ("GET", f"{QUERY}/project/{{project}}/", escape.state),
        ("GET", f"{QUERY}/project/{{project}}/{{environment}}/", escape.state),
        ("GET", f"{QUERY}/project/{{project}}/{{environment}}/deployment", escape.deployment),
        ("GET", SUBSCRIPTIONS, escape.subscriptions),
        ("PUT", SUBSCRIPTIONS, escape.put_subscriptions),
        ("POST", CREATE_EVENT, escape.create),
        ("PUT", CREATE_EVENT, escape.create),
    ]


class Escape:
    """The endpoints, and what they need."""

    def __init__(self, parts: ApiContext) -> None:
        """Take what the composition root gives."""
        self._parts = parts
        self._service = parts.service
        self._groups = parts.subscription_groups

    async def everything(self, request: Request) -> Response:
        """Every event, or what the filters say."""
        parameters = _parameters(request)
        return await self._page(request, wire.parse_filters(parameters), parameters)

    async def inventory(self, request: Request) -> Response:
        """The events of the Inventory, a project, an application or a release."""
        place = wire.parse_inventory(list(request.path_params.values()))
        return await self._page(request, place, _parameters(request))

    async def state(self, request: Request) -> Response:
        """The events of the State service, a project or an environment."""
        place = wire.parse_state(list(request.path_params.values()))
        return await self._page(request, place, _parameters(request))

    async def deployment(self, request: Request) -> Response:
        """The events of a deployment, which the query names."""
        parameters = _parameters(request)
        names = [*request.path_params.values(), wire.parse_deployment(parameters)]
        return await self._page(request, wire.parse_state(names), parameters)

    async def _page(
        self, request: Request, place: Scope | None, parameters: wire.Parameters
    ) -> Response:
        query = wire.parse_query(place, parameters, page_size=self._parts.escape_page_size)
        principal = request.state.principal
        # All that are asked for: an answer with fewer would be taken for the last.
        found = await self._service.read_all(principal, query) if query else []
        return Response(wire.render_events(found), media_type="application/json")

    async def subscriptions(self, request: Request) -> Response:
        """The subscriptions of a project."""
        collection = parse_collection(request.path_params["project"])
        principal = request.state.principal
        found = await self._groups.members(principal, collection) if collection else []
        return Response(render_subscriptions(found), media_type="application/json")

    async def put_subscriptions(self, request: Request) -> Response:
        """Let the project have these, and no others."""
        collection = parse_collection(request.path_params["project"])
        if collection is None:
            raise InvalidInput("Invalid project name", field="project")
        request.state.principal.require_anywhere("write")
        limits = self._parts.limits.at_most(DOCUMENT_BYTES)
        wanted = parse_subscriptions(await read_body(request, limits))
        await self._groups.replace(request.state.principal, collection, wanted)
        return Response(render_subscriptions([]), media_type="application/json")

    async def create(self, request: Request) -> Response:
        """Record an event."""
        principal = request.state.principal
        if self._parts.escape_has_secret and principal.kind == ANONYMOUS.kind:
            raise Unauthenticated
        principal.require_anywhere("write")
        body = await read_body(request, self._parts.limits.at_most(_EVENT_BYTES))
        groups = self._parts.escape_upload_groups
        event = wire.parse_new_event(body, now=self._parts.clock(), upload_groups=groups)
        await self._service.append(principal, [event])
        return Response()


def _parameters(request: Request) -> wire.Parameters:
    query: bytes = request.scope["query_string"]
    return wire.Parameters(query.decode("latin-1"))
