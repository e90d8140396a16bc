"""What ParallelCluster's clients are told: one table from our errors to its answers.

What API Gateway says before ParallelCluster is asked has headers of its own; its statuses are not
those of the published model.
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

#: What a path answers to; HEAD is answered as GET is.
ALLOWED = "GET, HEAD, OPTIONS"


#: The header that names the kind of what API Gateway says.
_TYPE = "x-amzn-ErrorType"


class Refusal(msgspec.Struct, frozen=True):
    """How API Gateway refuses: the kind, and the sentence."""

    type: str
    message: str


#: Why a request is not authenticated, and what API Gateway says then.
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

_Words = Callable[[DeploylogError], str]


def _said(error: DeploylogError) -> str:
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


#: Status and sentence; the nearest base class counts.
ANSWERS: dict[type[BaseException], tuple[int, _Words]] = {
    DeploylogError: (500, _fatal),
    InvalidInput: (400, _bad),
    CursorExpired: (400, _bad),
    Conflict: (400, _bad),
    Unauthenticated: (403, _refused),
    Forbidden: (403, _denied),
    NotFound: (404, _unrouted),
    StackNotFound: (404, _said),
    MethodNotAllowed: (405, _wrong_method),
    TooMany: (429, _too_many),
    Unavailable: (503, _unavailable),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """The answer to a request that ended in ``error``."""
    status, words = next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)
    # API Gateway's own sentence about rights begins with a capital letter.
    key = "Message" if isinstance(error, Forbidden) else "message"
    body = msgspec.json.encode({key: words(error)}) + b"\n"
    return json_response(request, body, status, _headers(error))


def json_response(
    request: Request, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer with the headers that every answer has."""
    own = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(body, status, own | (headers or {}), media_type="application/json")


def answer_options(request: Request) -> Response:
    """What a path can do."""
    return json_response(request, b"", headers={"Allow": ALLOWED})


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {_TYPE: _refusal(error).type}
    if isinstance(error, Forbidden):
        return {_TYPE: "AccessDeniedException"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ALLOWED}
    if isinstance(error, Unavailable):
        return {"Retry-After": "1"}
    if isinstance(error, TooMany):
        wait = str(math.ceil(error.retry_after))
        return {_TYPE: "TooManyRequestsException", "Retry-After": wait}
    return {}
