"""The endpoints of subscriptions: parse, call the service, render."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import read_body
from deploylog.api.http.caller import caller_of
from deploylog.api.http.exchange import json_response, query_of
from deploylog.api.native.paths import SUBSCRIPTIONS
from deploylog.api.native.query_string import Parameters, parse_limit
from deploylog.api.native.settings import NativeSettings
from deploylog.api.native.subscriptions import wire
from deploylog.api.native.subscriptions.summaries import render_summaries
from deploylog.events.access import Principal
from deploylog.events.times import LATEST
from deploylog.subscriptions.subscription import Subscription

#: Bytes of a body: room for a filter, a URL and secrets.
_MAX_BYTES = 1024 * 1024


class Subscriptions:
    """Answers for subscriptions."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._subscriptions = context.subscriptions
        self._deployments = context.deployments
        self._limits = context.limits.at_most(_MAX_BYTES)
        self._clock = context.clock

    async def create(self, request: Request) -> Response:
        """Create a subscription."""
        new = wire.parse_new(await self._body(request))
        created, secret = await self._subscriptions.create(_caller(request), new)
        response = await self._one(created, status=201, secret=secret)
        base = request.scope.get("base_path", "")
        response.headers["location"] = f"{base}{SUBSCRIPTIONS}/{created.id}"
        return response

    async def list(self, request: Request) -> Response:
        """List subscriptions."""
        Parameters(query_of(request)).done()
        found = await self._subscriptions.subscriptions(request.state.principal)
        standings = [await self._subscriptions.standing(each) for each in found]
        bodies = [wire.render_subscription(standing) for standing in standings]
        return json_response(wire.SubscriptionList(bodies))

    async def get(self, request: Request) -> Response:
        """Get a subscription."""
        Parameters(query_of(request)).done()
        return await self._one(await self._subscriptions.get(*_target(request)))

    async def change(self, request: Request) -> Response:
        """Change a subscription."""
        change = wire.parse_change(await self._body(request))
        return await self._one(await self._subscriptions.change(*_target(request), change))

    async def delete(self, request: Request) -> Response:
        """Delete a subscription."""
        Parameters(query_of(request)).done()
        await self._subscriptions.delete(*_target(request))
        return Response(status_code=204)

    async def pause(self, request: Request) -> Response:
        """Pause a subscription."""
        Parameters(query_of(request)).done()
        return await self._one(await self._subscriptions.pause(*_target(request)))

    async def resume(self, request: Request) -> Response:
        """Resume a subscription."""
        Parameters(query_of(request)).done()
        return await self._one(await self._subscriptions.resume(*_target(request)))

    async def rotate_secret(self, request: Request) -> Response:
        """Rotate the signing secret."""
        given, overlap = wire.parse_rotate(await self._body(request))
        rotated, secret = await self._subscriptions.rotate_secret(
            *_target(request), secret=given, overlap=overlap
        )
        return await self._one(rotated, secret=secret)

    async def test(self, request: Request) -> Response:
        """Send a test event."""
        Parameters(query_of(request)).done()
        return json_response(wire.render_attempt(await self._subscriptions.test(*_target(request))))

    async def redeliver(self, request: Request) -> Response:
        """Redeliver an event, or all dead-lettered ones."""
        asked = wire.parse_redeliver(await self._body(request), now=self._clock())
        events = 1
        if isinstance(asked, str):
            await self._subscriptions.redeliver(*_target(request), asked)
        else:
            events = await self._subscriptions.redeliver_dead_lettered(*_target(request), asked)
        return json_response(wire.Redelivered(events=events), status=202)

    async def attempts(self, request: Request) -> Response:
        """List attempts."""
        parameters = Parameters(query_of(request))
        before, limit = _position(parameters, "before", LATEST), parse_limit(parameters)
        parameters.done()
        found = await self._subscriptions.attempts(*_target(request), before=before, limit=limit)
        return json_response(wire.render_attempts(found, limit=limit))

    async def dead_letters(self, request: Request) -> Response:
        """List dead-lettered events."""
        parameters = Parameters(query_of(request))
        after, limit = _position(parameters, "after", 0), parse_limit(parameters)
        parameters.done()
        found = await self._subscriptions.dead_letters(*_target(request), after=after, limit=limit)
        return json_response(wire.render_dead_letters(found, limit=limit))

    async def deliveries(self, request: Request) -> Response:
        """List what subscriptions were sent of a deployment."""
        Parameters(query_of(request)).done()
        principal, id = request.state.principal, request.path_params["id"]
        deployment = await self._deployments.deployment(principal, id)
        found = await self._subscriptions.summaries(principal, deployment)
        return json_response(render_summaries(found.sent))

    async def _body(self, request: Request) -> bytes:
        Parameters(query_of(request)).done()
        return await read_body(request, self._limits)

    async def _one(
        self, subscription: Subscription, *, status: int = 200, secret: str | None = None
    ) -> Response:
        standing = await self._subscriptions.standing(subscription)
        return json_response(wire.render_subscription(standing, secret=secret), status=status)


def _target(request: Request) -> tuple[Principal, str]:
    """The principal, and the id of the subscription."""
    return _caller(request), request.path_params["id"]


def _caller(request: Request) -> Principal:
    return caller_of(request, request.state.principal)


def _position(parameters: Parameters, name: str, default: int) -> int:
    return parameters.integer(name, default=default, low=0, high=LATEST)
