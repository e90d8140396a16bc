"""Base paths: prefixes that every path may have, such as the stage of a gateway."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send


class BasePathMiddleware:
    """Serves every path below each base path, too.

    ``raw_path`` stays as the client sent it, because signatures cover it.
    """

    def __init__(self, application: ASGIApp, bases: Sequence[str]) -> None:
        """``bases`` start with a slash and do not end with one."""
        self._application = application
        self._bases = bases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for base in self._bases:
            if scope["path"].startswith(f"{base}/"):
                scope["path"] = scope["path"].removeprefix(base)
                # Links to this service in responses start with it.
                scope["base_path"] = base
                break
        await self._application(scope, receive, send)
