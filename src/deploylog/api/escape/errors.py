"""Error responses of the Escape API: one table from our errors to EscapeKit's responses."""

import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

INVALID_JSON = "Invalid JSON"
UNROUTED = "404 page not found\n"

#: Renders the body; ``None`` is no body.
_RenderBody = Callable[[DeploylogError], str | None]


def _message(error: DeploylogError) -> str | None:
    return error.message


def _nothing(error: DeploylogError) -> str | None:
    return None


def _unrouted_or_nothing(error: DeploylogError) -> str | None:
    """Return what EscapeKit's router responds with on an unknown path."""
    return UNROUTED if type(error) is NotFound else None


#: Status and body by error class; the nearest base class applies.
ANSWERS: dict[type[BaseException], tuple[int, _RenderBody]] = {
    DeploylogError: (500, _nothing),
    InvalidInput: (400, _message),
    TooLarge: (413, _message),
    UnsupportedMedia: (415, _message),
    Unauthenticated: (401, _nothing),
    Forbidden: (403, _nothing),
    NotFound: (404, _unrouted_or_nothing),
    MethodNotAllowed: (405, _nothing),
    Conflict: (409, _message),
    CursorExpired: (410, _message),
    TooMany: (429, _message),
    Unavailable: (503, _message),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """Return the response to a request that failed with ``error``."""
    status, render = next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)
    text, headers = render(error), _headers(error)
    if text is None:
        return Response(status_code=status, headers=headers)
    return PlainTextResponse(text, status, headers)


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany | Unavailable):
        return {"retry-after": str(math.ceil(error.retry_after))}
    return {}
