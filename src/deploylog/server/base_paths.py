"""Base paths: what may stand before every path, as a gateway's stage or an API's base does."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send


class BasePathMiddleware:
    """An ASGI application that answers below each base path as it does at the root.

    ``raw_path`` stays as it was sent: signatures are made over it.
    """

    def __init__(self, application: ASGIApp, bases: Sequence[str]) -> None:
        """``bases`` begin with a slash, and do not end in one."""
        self._application = application
        self._bases = bases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        for base in self._bases:
            if scope["path"].startswith(f"{base}/"):
                scope["path"] = scope["path"].removeprefix(base)
                # What is told of places on this service begins with it.
                scope["base_path"] = base
                break
        await self._application(scope, receive, send)
