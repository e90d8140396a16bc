"""The envelope: whatever goes wrong below it, a 401 too, is answered in the dialect's own words."""

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
from deploylog.api.http.event_stream import wait_for_disconnect
from deploylog.auth.authentication import Authentication, RequestCredentials
from deploylog.errors import DeploylogError, MethodNotAllowed
from deploylog.events.access import Principal

#: Gives an error its answer.
Respond = Callable[[Request, DeploylogError], Awaitable[Response]]

#: Whether a request is answered without credentials.
IsOpen = Callable[[Request], bool]

#: Who asks without credentials: somebody who may do nothing.
UNAUTHENTICATED = Principal(name="anonymous", kind="unauthenticated")


def always(request: Request) -> bool:
    """For paths that are open to everybody."""
    return True


def never(request: Request) -> bool:
    """For paths that are not."""
    return False


#: Seconds after which a request that is still being answered is watched for the end of its client.
PATIENCE_SECONDS = 0.05

#: Methods whose answer nobody needs when the client is gone.
_READS = frozenset({"GET", "HEAD"})

_LOGGER = logging.getLogger(__name__)


class InternalError(DeploylogError):
    """An unexpected error occurred."""


class Endpoint:
    """An ASGI application: one path of a dialect, with its methods.

    It stands where Starlette would put five layers of middleware; appending one event spent
    more time in those than in everything else.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Handler],
        *,
        respond: Respond,
        gate: Authentication,
        is_open: IsOpen,
        answers_head: bool,
        body_limit: int,
        failed: Callable[[str], None],
    ) -> None:
        """``endpoints`` by method; ``failed`` is told the class of each error.

        ``body_limit`` is how many bytes are read of a body whose signature has to be verified.
        """
        self._endpoints = dict(endpoints)
        if answers_head and "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]
        self._respond = respond
        self._gate = gate
        self._is_open = is_open
        self._body_limit = body_limit
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def observed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        request = Request(scope, receive)
        try:
            endpoint = self._endpoints.get(request.method)
            if endpoint is None:
                raise MethodNotAllowed(f"there is no {request.method} {request.url.path[:256]}")
            request = await self._admit(request)
            response: ASGIApp | None
            if request.method in _READS:
                response = await _answered(endpoint, request)
            else:
                # What a client asked to be written is written, also when the client goes.
                response = await endpoint(request)
            if response is not None:
                await response(scope, receive, observed)
        except Exception as error:
            if begun:
                raise
            response = await self._respond(request, as_ours(error, self._failed))
            await response(scope, receive, send)

    async def _admit(self, request: Request) -> Request:
        """The request as its endpoint gets it: with the principal, and its body still unread."""
        if self._is_open(request):
            request.state.principal = UNAUTHENTICATED
            return request
        presented = _presented(request)
        if presented.is_signed_request:
            body = ReplayableBody(request, self._body_limit)
            presented = msgspec.structs.replace(presented, body=body.read)
            request = Request(request.scope, body.receive)
        request.state.principal = await self._gate.admit(presented)
        return request


def as_ours(error: Exception, failed: Callable[[str], None]) -> DeploylogError:
    """The error that a request is answered with, counted by ``failed``."""
    if not isinstance(error, DeploylogError):
        _LOGGER.error("a request failed unexpectedly", exc_info=error)
        error = InternalError()
    failed(type(error).__name__)
    return error


async def _answered(endpoint: Handler, request: Request) -> ASGIApp | None:
    """The endpoint's response; ``None`` when the client went before it was there."""
    answering = asyncio.ensure_future(endpoint(request))
    try:
        done, _ = await asyncio.wait([answering], timeout=PATIENCE_SECONDS)
        if not done:
            await _until_either(answering, request)
        return await answering if answering.done() else None
    finally:
        answering.cancel()


async def _until_either(answering: asyncio.Future[Any], request: Request) -> None:
    """Wait until the request is answered, or its client is gone."""
    gone: asyncio.Future[Any] = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()


def _presented(request: Request) -> RequestCredentials:
    """What the request shows; ``client`` is absent on a unix socket."""
    scope = request.scope
    return RequestCredentials(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        # Looked into more often than it costs to make; of two of one name the first counts.
        headers={
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        },
        client=scope["client"][0] if scope["client"] else None,
        raw_headers=scope["headers"],
    )
