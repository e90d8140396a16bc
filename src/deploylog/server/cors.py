"""Cross-origin requests of browsers: allowed for the origins of the setting, without credentials.

A key in a header needs no permission for credentials, and no other origin may use a cookie.
"""

from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from deploylog.api.settings import names_of
from deploylog.errors import InvalidSettings

#: Headers of responses that scripts may read, besides those that they always may.
_EXPOSED = ("location", "retry-after", "www-authenticate")

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """``app``, which says to browsers that these origins may call it, if there are any."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        allow_credentials=False,
    )


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse ``https://a.example,http://localhost:3000``; raises InvalidSettings."""
    origins = names_of(text)
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise InvalidSettings(
                f"cors_origins: {origin!r} is not an origin, such as https://portal.example"
            )
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and text == f"{parts.scheme}://{parts.netloc}"
            and "*" not in parts.netloc
            and "@" not in parts.netloc
        )
    except ValueError:
        return False
