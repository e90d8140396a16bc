"""Error responses of the native API: problem details (RFC 9457)."""

import math
import re

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    EventDamaged,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    QueryTooExpensive,
    RequestReused,
    StoreFull,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details."""

    #: ``urn:deploylog:problem:invalid-event``
    type: str
    title: str
    status: int
    detail: str
    #: The field of the request that is invalid.
    field: str | None = None
    #: The line, or the index in the array, counted from 1.
    line: int | None = None


#: Statuses by error class; the nearest base class applies.
STATUSES: dict[type[DeploylogError], int] = {
    DeploylogError: 500,
    InvalidInput: 400,
    RequestReused: 422,
    QueryTooExpensive: 422,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    EventDamaged: 410,
    MethodNotAllowed: 405,
    Conflict: 409,
    CursorExpired: 410,
    TooMany: 429,
    Unavailable: 503,
    StoreFull: 507,
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """Return the response to a request that failed with ``error``."""
    return response_of(error)


def response_of(error: DeploylogError) -> Response:
    """The same for a request of whatever form."""
    problem = render_problem(error)
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        headers=_headers(error),
        media_type="application/problem+json",
    )


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany | Unavailable):
        return {"retry-after": str(math.ceil(error.retry_after))}
    return {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}


def render_problem(error: DeploylogError) -> Problem:
    """Render ``error`` as problem details."""
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
    status = next(STATUSES[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUSES)
    return Problem(
        type=f"urn:deploylog:problem:{words.replace(' ', '-')}",
        title=words.capitalize(),
        status=status,
        detail=error.message,
        field=error.field if isinstance(error, InvalidInput) else None,
        line=error.line if isinstance(error, InvalidInput) else None,
    )
