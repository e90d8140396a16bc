"""The endpoints of the Escape API: parse, call the service, render."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.escape import wire
from deploylog.api.escape.settings import EscapeSettings
from deploylog.api.escape.subscriptions import (
    parse_collection,
    parse_subscriptions,
    render_subscriptions,
)
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.http.caller import caller_of
from deploylog.api.http.exchange import query_of
from deploylog.api.settings import names_of
from deploylog.errors import InvalidInput, Unauthenticated
from deploylog.events.access import ANONYMOUS
from deploylog.events.scope import Scope

#: Bytes of an event's body: its data, its names, and room for blanks.
_EVENT_BYTES = 1024 * 1024


class EventQueries:
    """Answers for the pages of events."""

    def __init__(self, context: ApiContext, settings: EscapeSettings) -> None:
        self._events = context.events
        self._page_size = settings.escape_page_size

    async def everything(self, request: Request) -> Response:
        """List all events, or those that the filters select."""
        parameters = _parameters(request)
        return await self._page(request, wire.parse_filters(parameters), parameters)

    async def inventory(self, request: Request) -> Response:
        """List the events of the Inventory, a project, an application or a release."""
        place = wire.parse_inventory(list(request.path_params.values()))
        return await self._page(request, place, _parameters(request))

    async def state(self, request: Request) -> Response:
        """List the events of the State service, a project or an environment."""
        place = wire.parse_state(list(request.path_params.values()))
        return await self._page(request, place, _parameters(request))

    async def deployment(self, request: Request) -> Response:
        """List the events of the deployment in the query."""
        parameters = _parameters(request)
        names = [*request.path_params.values(), wire.parse_deployment(parameters)]
        return await self._page(request, wire.parse_state(names), parameters)

    async def _page(
        self, request: Request, place: Scope | None, parameters: wire.Parameters
    ) -> Response:
        query = wire.parse_query(place, parameters, page_size=self._page_size)
        principal = request.state.principal
        # A client takes a page that is not full for the last one.
        found = await self._events.read_all(principal, query) if query else []
        return Response(wire.render_events(found), media_type="application/json")


class ProjectSubscriptions:
    """Answers for the subscriptions of a project."""

    def __init__(self, context: ApiContext, settings: EscapeSettings) -> None:
        self._limits = context.limits.at_most(DOCUMENT_BYTES)
        self._groups = context.subscription_groups

    async def list(self, request: Request) -> Response:
        """List the subscriptions of a project."""
        collection = parse_collection(request.path_params["project"])
        principal = request.state.principal
        found = await self._groups.members(principal, collection) if collection else []
        return Response(render_subscriptions(found), media_type="application/json")

    async def replace(self, request: Request) -> Response:
        """Replace the subscriptions of a project."""
        collection = parse_collection(request.path_params["project"])
        if collection is None:
            raise InvalidInput("Invalid project name", field="project")
        request.state.principal.require_anywhere("write")
        wanted = parse_subscriptions(await read_body(request, self._limits))
        principal = caller_of(request, request.state.principal)
        await self._groups.replace(principal, collection, wanted)
        return Response(render_subscriptions([]), media_type="application/json")


class EventIntake:
    """Records the events of EscapeKit's services."""

    def __init__(self, context: ApiContext, settings: EscapeSettings) -> None:
        self._events = context.events
        self._clock = context.clock
        self._limits = context.limits.at_most(_EVENT_BYTES)
        self._has_secret = bool(settings.escape_secret_file)
        self._upload_groups = names_of(settings.escape_upload_groups)

    async def create(self, request: Request) -> Response:
        """Record an event."""
        principal = request.state.principal
        # Once the services have a secret, an event without credentials is not one of theirs.
        if self._has_secret and principal.kind == ANONYMOUS.kind:
            raise Unauthenticated
        principal.require_anywhere("write")
        body = await read_body(request, self._limits)
        event = wire.parse_new_event(body, now=self._clock(), upload_groups=self._upload_groups)
        await self._events.append(principal, [event])
        return Response()


def _parameters(request: Request) -> wire.Parameters:
    return wire.Parameters(query_of(request))
