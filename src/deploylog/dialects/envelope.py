"""The envelope: whatever goes wrong below it, a 401 too, is answered in the dialect's own words."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from deploylog.auth import Authenticator, authenticate
from deploylog.dialects.parts import Endpoint
from deploylog.errors import DeploylogError, MethodNotAllowed

#: Gives an error its answer.
Respond = Callable[[Request, DeploylogError], Awaitable[Response]]

_LOGGER = logging.getLogger(__name__)


class InternalError(DeploylogError):
    """An unexpected error occurred."""


class Envelope:
    """An ASGI application: one path of a dialect, with its methods.

    It stands where Starlette would put five layers of middleware; appending one event spent
    more time in those than in everything else.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        respond: Respond,
        authenticators: tuple[Authenticator, ...],
        failed: Callable[[str], None],
    ) -> None:
        """``endpoints`` by method; ``failed`` is told the class of each error."""
        self._endpoints = dict(endpoints)
        if "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]
        self._respond = respond
        self._authenticators = authenticators
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
            request.state.principal = await authenticate(self._authenticators, request.headers)
            response = await endpoint(request)
            await response(scope, receive, observed)
        except Exception as error:
            if begun:
                raise
            response = await self._respond(request, self._ours(error))
            await response(scope, receive, send)

    def _ours(self, error: Exception) -> DeploylogError:
        if not isinstance(error, DeploylogError):
            _LOGGER.error("a request failed unexpectedly", exc_info=error)
            error = InternalError()
        self._failed(type(error).__name__)
        return error
