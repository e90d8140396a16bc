"""The way in: a browser that asks for the root gets the pages; every other client, the APIs."""

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deploylog.ui.headers import PAGE_HEADERS
from deploylog.ui.site import ROOT


class HomeMiddleware:
    """Sends a browser from ``/`` to ``/ui/``."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._application
        if scope["path"] in ("/", ROOT) and _is_browser(scope):
            application = RedirectResponse(
                f"{scope.get('base_path', '')}{ROOT}/", status_code=302, headers=PAGE_HEADERS
            )
        await application(scope, receive, send)


def _is_browser(scope: Scope) -> bool:
    is_read = scope["method"] in ("GET", "HEAD") and not scope["query_string"]
    return is_read and "text/html" in Headers(scope=scope).get("accept", "")
