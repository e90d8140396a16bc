"""The envelope: whatever goes wrong below it, a 401 too, is answered in the dialect's own words."""

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploylog.auth import Authenticator, authenticate
from deploylog.errors import DeploylogError

#: Gives an error its answer.
Respond = Callable[[Request, DeploylogError], Awaitable[Response]]

_LOGGER = logging.getLogger(__name__)


class InternalError(DeploylogError):
    """An unexpected error occurred."""


class Envelope:
    """ASGI middleware around one route: authenticates, and answers errors."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        respond: Respond,
        authenticators: tuple[Authenticator, ...],
        failed: Callable[[str], None],
    ) -> None:
        """``failed`` is told the class of each error."""
        self._app = app
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
            request.state.principal = await authenticate(self._authenticators, request.headers)
            await self._app(scope, receive, observed)
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
