"""The endpoints of the documentation's pages; anyone may read them."""

import gzip

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from deploylog.api.context import Handler
from deploylog.api.docs.assets import assets
from deploylog.api.docs.pages import render_text, render_viewer
from deploylog.errors import NotFound

#: Scripts, styles and requests are the service's own; none is inline. The viewer's styles have
#: pictures in them.
_SECURITY_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}

#: The link to a file changes with its content.
_ASSET_HEADERS = {
    **_SECURITY_HEADERS,
    "cache-control": "public, max-age=31536000, immutable",
    "vary": "accept-encoding",
}


async def viewer(request: Request) -> Response:
    """The viewer of the OpenAPI document."""
    return HTMLResponse(render_viewer(), headers=_SECURITY_HEADERS)


async def text(request: Request) -> Response:
    """The document as a page without scripts."""
    return HTMLResponse(render_text(), headers=_SECURITY_HEADERS)


async def static(request: Request) -> Response:
    """A static file of the pages."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise NotFound(f"there is no GET {request.url.path[:256]}")
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers = {**_ASSET_HEADERS, "content-encoding": "gzip"}
        return Response(asset.gzipped, headers=headers, media_type=asset.media)
    return Response(gzip.decompress(asset.gzipped), headers=_ASSET_HEADERS, media_type=asset.media)


#: By path.
HANDLERS: dict[str, Handler] = {
    "/docs": viewer,
    "/docs/text": text,
    "/docs/static/{name}": static,
}
