"""What EscapeKit's clients are told: one table from our errors to the family's answers."""

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

#: The body; ``None`` is none at all.
_Words = Callable[[DeploylogError], str | None]


def _message(error: DeploylogError) -> str | None:
    return error.message


def _nothing(error: DeploylogError) -> str | None:
    return None


def _unrouted_or_nothing(error: DeploylogError) -> str | None:
    """What the family's router says of a path that it does not know."""
    return UNROUTED if type(error) is NotFound else None


#: Status and body; the nearest base class counts.
ANSWERS: dict[type[BaseException], tuple[int, _Words]] = {
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
    """The answer to a request that ended in ``error``."""
    status, words = next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)
    text, headers = words(error), _headers(error)
    if text is None:
        return Response(status_code=status, headers=headers)
    return PlainTextResponse(text, status, headers)


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany):
        return {"retry-after": str(math.ceil(error.retry_after))}
    return {"retry-after": "1"} if isinstance(error, Unavailable) else {}
