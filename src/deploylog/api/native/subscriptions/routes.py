"""The endpoints of subscriptions: parse, ask, render."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.body import read_body
from deploylog.api.native.query_string import DEFAULT_LIMIT, MAX_LIMIT, Parameters
from deploylog.api.native.subscriptions import wire
from deploylog.events.access import Principal
from deploylog.events.times import LATEST
from deploylog.subscriptions.subscription import Subscription

ROOT = "/log/v1/subscriptions"

#: Bytes of a body, more than a filter, an address and secrets need.
_MOST_BYTES = 1024 * 1024


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each operation."""
    native = Subscriptions(parts)
    one = f"{ROOT}/{{id}}"
    return [
        ("POST", ROOT, native.create),
        ("GET", ROOT, native.list),
        ("GET", one, native.get),
        ("PATCH", one, native.change),
        ("DELETE", one, native.delete),
        ("POST", f"{one}/pause", native.pause),
        ("POST", f"{one}/resume", native.resume),
        ("POST", f"{one}/rotate-secret", native.rotate_secret),
        ("POST", f"{one}/test", native.test),
        ("POST", f"{one}/redeliver", native.redeliver),
        ("GET", f"{one}/attempts", native.attempts),
        ("GET", f"{one}/dead-letters", native.dead_letters),
    ]


class Subscriptions:
    """The endpoints, and what they need."""

    def __init__(self, parts: ApiContext) -> None:
        """Take what the composition root gives."""
        self._subscribing = parts.subscribing
        self._limits = parts.limits
        self._clock = parts.clock

    async def create(self, request: Request) -> Response:
        """Subscribe."""
        new = wire.parse_new(await self._body(request))
        created, secret = await self._subscribing.create(request.state.principal, new)
        response = await self._one(created, status=201, secret=secret)
        base = request.scope.get("base_path", "")
        response.headers["location"] = f"{base}{ROOT}/{created.id}"
        return response

    async def list(self, request: Request) -> Response:
        """List subscriptions."""
        _parameters(request).done()
        found = await self._subscribing.subscriptions(request.state.principal)
        standings = [await self._subscribing.standing(each) for each in found]
        bodies = [wire.render_subscription(standing) for standing in standings]
        return _answer(wire.SubscriptionList(bodies))

    async def get(self, request: Request) -> Response:
        """Get one."""
        _parameters(request).done()
        return await self._one(await self._subscribing.get(*_asked(request)))

    async def change(self, request: Request) -> Response:
        """Change one."""
        change = wire.parse_change(await self._body(request))
        return await self._one(await self._subscribing.change(*_asked(request), change))

    async def delete(self, request: Request) -> Response:
        """Forget one."""
        _parameters(request).done()
        await self._subscribing.delete(*_asked(request))
        return Response(status_code=204)

    async def pause(self, request: Request) -> Response:
        """Let one wait."""
        _parameters(request).done()
        return await self._one(await self._subscribing.pause(*_asked(request)))

    async def resume(self, request: Request) -> Response:
        """Let one go on."""
        _parameters(request).done()
        return await self._one(await self._subscribing.resume(*_asked(request)))

    async def rotate_secret(self, request: Request) -> Response:
        """Sign with another secret."""
        given, overlap = wire.parse_rotate(await self._body(request))
        rotated, secret = await self._subscribing.rotate_secret(
            *_asked(request), secret=given, overlap=overlap
        )
        return await self._one(rotated, secret=secret)

    async def test(self, request: Request) -> Response:
        """Deliver an event that is none."""
        _parameters(request).done()
        return _answer(wire.render_attempt(await self._subscribing.test(*_asked(request))))

    async def redeliver(self, request: Request) -> Response:
        """Send events again."""
        asked = wire.parse_redeliver(await self._body(request), now=self._clock())
        events = 1
        if isinstance(asked, str):
            await self._subscribing.redeliver(*_asked(request), asked)
        else:
            events = await self._subscribing.redeliver_dead_lettered(*_asked(request), asked)
        return _answer(wire.Redelivered(events=events), status=202)

    async def attempts(self, request: Request) -> Response:
        """List attempts."""
        parameters = _parameters(request)
        before, limit = _place(parameters, "before", LATEST), _limit(parameters)
        parameters.done()
        found = await self._subscribing.attempts(*_asked(request), before=before, limit=limit)
        return _answer(wire.render_attempts(found, limit=limit))

    async def dead_letters(self, request: Request) -> Response:
        """List what was given up."""
        parameters = _parameters(request)
        after, limit = _place(parameters, "after", 0), _limit(parameters)
        parameters.done()
        found = await self._subscribing.dead_letters(*_asked(request), after=after, limit=limit)
        return _answer(wire.render_dead_letters(found, limit=limit))

    async def _body(self, request: Request) -> bytes:
        _parameters(request).done()
        return await read_body(request, self._limits.at_most(_MOST_BYTES))

    async def _one(
        self, subscription: Subscription, *, status: int = 200, secret: str | None = None
    ) -> Response:
        standing = await self._subscribing.standing(subscription)
        return _answer(wire.render_subscription(standing, secret=secret), status=status)


def _asked(request: Request) -> tuple[Principal, str]:
    """Who asks, and for which."""
    return request.state.principal, request.path_params["id"]


def _parameters(request: Request) -> Parameters:
    query: bytes = request.scope["query_string"]
    return Parameters(query.decode("latin-1"))


def _place(parameters: Parameters, name: str, default: int) -> int:
    return parameters.integer(name, default=default, low=0, high=LATEST)


def _limit(parameters: Parameters) -> int:
    return parameters.integer("limit", default=DEFAULT_LIMIT, low=1, high=MAX_LIMIT)


def _answer(body: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
