"""The ASGI endpoint of a path: authentication, dispatch by method, and errors in the API's form."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploylog.api.context import Handler
from deploylog.api.http.body import ReplayableBody
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.http.event_stream import wait_for_disconnect
from deploylog.api.operation import IsOpen
from deploylog.auth.authentication import Authentication, RequestCredentials
from deploylog.errors import DeploylogError, MethodNotAllowed
from deploylog.events.access import Principal

#: Renders an error as the API's response.
Respond = Callable[[Request, DeploylogError], Awaitable[Response]]

#: The principal of a request without credentials; it has no rights.
UNAUTHENTICATED = Principal(name="anonymous", kind="unauthenticated")


#: Seconds that a request may take before it is watched for a disconnect of its client.
GRACE_SECONDS = 0.05

#: Methods whose handler is cancelled when the client disconnects.
_READS = frozenset({"GET", "HEAD"})

_LOGGER = logging.getLogger(__name__)


class InternalError(DeploylogError):
    """An unexpected error occurred."""


class Endpoint:
    """An ASGI application: one path of an API, with its methods.

    It replaces five layers of Starlette's middleware, in which appending one event spent more
    time than in everything else.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Handler],
        *,
        respond: Respond,
        authentication: Authentication,
        is_open: Mapping[str, IsOpen],
        answers_head: bool,
        body_limit: int,
        bodies: BodyBudget,
        failed: Callable[[str], None],
    ) -> None:
        """``endpoints`` and ``is_open`` by method; ``failed`` is called with the class name of each
        error.

        ``body_limit`` is the most bytes read of a body whose signature must be verified. ``bodies``
        counts the bytes of all bodies.
        """
        self._endpoints = dict(endpoints)
        self._is_open = dict(is_open)
        if answers_head and "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]
            self._is_open["HEAD"] = is_open["GET"]
        self._respond = respond
        self._authentication = authentication
        self._body_limit = body_limit
        self._bodies = bodies
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._bodies.share() as share:
            scope.setdefault("state", {})["body_share"] = share
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_tracked(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        request = Request(scope, receive)
        try:
            endpoint = self._endpoints.get(request.method)
            if endpoint is None:
                raise MethodNotAllowed(
                    f"{request.method} is not allowed at {request.url.path[:256]}"
                )
            request = await self._authenticate(request)
            response: ASGIApp | None
            if request.method in _READS:
                response = await _respond_unless_disconnected(endpoint, request)
            else:
                # A write is completed even when the client disconnects.
                response = await endpoint(request)
            if response is not None:
                await response(scope, receive, send_tracked)
        except Exception as error:
            if started:
                raise
            response = await self._respond(request, as_ours(error, self._failed))
            await response(scope, receive, send)

    async def _authenticate(self, request: Request) -> Request:
        """The request for its endpoint: with the principal, and a body that is still unread."""
        if self._is_open[request.method](request):
            request.state.principal = UNAUTHENTICATED
            return request
        credentials = _credentials(request)
        if credentials.signs_body:
            body = ReplayableBody(request, self._body_limit)
            credentials = msgspec.structs.replace(credentials, body=body.read)
            request = Request(request.scope, body.receive)
        request.state.principal = await self._authentication.authenticate(credentials)
        return request


def as_ours(error: Exception, failed: Callable[[str], None]) -> DeploylogError:
    """The error that answers a request; ``failed`` counts it."""
    if not isinstance(error, DeploylogError):
        _LOGGER.error("unexpected error in a request", exc_info=error)
        error = InternalError()
    failed(type(error).__name__)
    return error


async def _respond_unless_disconnected(endpoint: Handler, request: Request) -> ASGIApp | None:
    """The endpoint's response; ``None`` when the client disconnected first."""
    response = asyncio.ensure_future(endpoint(request))
    try:
        done, _ = await asyncio.wait([response], timeout=GRACE_SECONDS)
        if not done:
            await _wait_for_either(response, request)
        return await response if response.done() else None
    finally:
        response.cancel()


async def _wait_for_either(response: asyncio.Future[Any], request: Request) -> None:
    """Wait for the response, or for the client to disconnect."""
    disconnect: asyncio.Future[Any] = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait([response, disconnect], return_when=asyncio.FIRST_COMPLETED)
    finally:
        disconnect.cancel()


def _credentials(request: Request) -> RequestCredentials:
    """The request's credentials, with all that a signature covers."""
    scope = request.scope
    return RequestCredentials(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        # A dict, as it is searched often; of repeated headers, the first counts.
        headers={
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        },
        # A unix socket has no client address.
        client=scope["client"][0] if scope["client"] else None,
        raw_headers=scope["headers"],
    )
