"""Error responses of the ParallelCluster API: one table from our errors to its responses.

API Gateway rejects some requests before ParallelCluster sees them. Its responses have headers of
their own, and statuses that the published model lacks.
"""

import math
import uuid
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Reason,
    StackNotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
)

UNROUTED = (
    "The requested URL was not found on the server. If you entered the URL manually please check"
    " your spelling and try again."
)
WRONG_METHOD = "The method is not allowed for the requested URL."
FATAL = (
    "Unexpected fatal exception. Please look at the application logs for details on the"
    " encountered failure."
)

#: The methods of a path; HEAD is handled like GET.
ALLOWED = "GET, HEAD, OPTIONS"


#: The header with the type of API Gateway's error.
_TYPE = "x-amzn-ErrorType"


class Refusal(msgspec.Struct, frozen=True):
    """The type and the message of an error of API Gateway."""

    type: str
    message: str


#: API Gateway's errors by the reason why a request is not authenticated.
REFUSALS: dict[Reason, Refusal] = {
    "missing": Refusal("MissingAuthenticationTokenException", "Missing Authentication Token"),
    "unknown_key": Refusal(
        "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
    "bad_signature": Refusal(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your"
        " AWS Secret Access Key and signing method. Consult the service documentation for details.",
    ),
    "expired": Refusal("InvalidSignatureException", "Signature expired"),
    "malformed": Refusal(
        "IncompleteSignatureException",
        "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters.",
    ),
}

_RenderMessage = Callable[[DeploylogError], str]


def _message(error: DeploylogError) -> str:
    return error.message


def _bad(error: DeploylogError) -> str:
    return f"Bad Request: {error.message}"


def _unrouted(error: DeploylogError) -> str:
    return UNROUTED


def _wrong_method(error: DeploylogError) -> str:
    return WRONG_METHOD


def _fatal(error: DeploylogError) -> str:
    return FATAL


def _unavailable(error: DeploylogError) -> str:
    return "Service Unavailable"


def _too_many(error: DeploylogError) -> str:
    return "Too Many Requests"


def _refused(error: DeploylogError) -> str:
    return _refusal(error).message


def _refusal(error: DeploylogError) -> Refusal:
    return REFUSALS[error.reason if isinstance(error, Unauthenticated) else "missing"]


def _denied(error: DeploylogError) -> str:
    return "User is not authorized to access this resource"


#: Status and message by error class; the nearest base class applies.
ANSWERS: dict[type[BaseException], tuple[int, _RenderMessage]] = {
    DeploylogError: (500, _fatal),
    InvalidInput: (400, _bad),
    CursorExpired: (400, _bad),
    Conflict: (400, _bad),
    Unauthenticated: (403, _refused),
    Forbidden: (403, _denied),
    NotFound: (404, _unrouted),
    StackNotFound: (404, _message),
    MethodNotAllowed: (405, _wrong_method),
    TooMany: (429, _too_many),
    Unavailable: (503, _unavailable),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """Return the response to a request that failed with ``error``."""
    status, render = next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)
    # API Gateway spells this field of an access error with a capital letter.
    key = "Message" if isinstance(error, Forbidden) else "message"
    body = msgspec.json.encode({key: render(error)}) + b"\n"
    return json_response(request, body, status, _headers(error))


def json_response(
    request: Request, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return a response with the headers that every response has."""
    own = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(body, status, own | (headers or {}), media_type="application/json")


def answer_options(request: Request) -> Response:
    """Return the methods of a path."""
    return json_response(request, b"", headers={"Allow": ALLOWED})


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {_TYPE: _refusal(error).type}
    if isinstance(error, Forbidden):
        return {_TYPE: "AccessDeniedException"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ALLOWED}
    if isinstance(error, Unavailable):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    if isinstance(error, TooMany):
        wait = str(math.ceil(error.retry_after))
        return {_TYPE: "TooManyRequestsException", "Retry-After": wait}
    return {}
