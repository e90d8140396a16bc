"""What CloudFormation's clients are told: one table from our errors to its codes."""

import math
import uuid

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deploylog.api.aws.cloudformation.xml import render_error
from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Reason,
    TooMany,
    Unauthenticated,
    Unavailable,
)


class QueryError(InvalidInput):
    """The request is not valid, for a reason that CloudFormation has a code for."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        """Say ``message`` under ``code``."""
        super().__init__(message)
        self.code = code
        self.status = status


class ErrorResponse(msgspec.Struct, frozen=True):
    """How an error is told; without a message, in its own words."""

    status: int
    code: str
    message: str | None = None

    @property
    def type(self) -> str:
        """Whose fault it is."""
        return "Sender" if self.status < 500 else "Receiver"


#: Why a request is not authenticated, and what CloudFormation says then.
REFUSALS: dict[Reason, ErrorResponse] = {
    "missing": ErrorResponse(
        403, "MissingAuthenticationToken", "Request is missing Authentication Token"
    ),
    "unknown_key": ErrorResponse(
        403, "InvalidClientTokenId", "The security token included in the request is invalid."
    ),
    "bad_signature": ErrorResponse(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your"
        " AWS Secret Access Key and signing method. Consult the service documentation for details.",
    ),
    "expired": ErrorResponse(403, "SignatureDoesNotMatch", "Signature expired"),
    "malformed": ErrorResponse(
        403,
        "IncompleteSignature",
        "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters.",
    ),
}

#: The nearest base class counts.
ANSWERS: dict[type[BaseException], ErrorResponse] = {
    DeploylogError: ErrorResponse(500, "InternalFailure", "An internal error has occurred"),
    InvalidInput: ErrorResponse(400, "ValidationError"),
    CursorExpired: ErrorResponse(400, "ValidationError"),
    Conflict: ErrorResponse(400, "ValidationError"),
    NotFound: ErrorResponse(400, "ValidationError"),
    MethodNotAllowed: ErrorResponse(405, "InvalidAction", "The method is not allowed"),
    Forbidden: ErrorResponse(403, "AccessDenied"),
    # Its clients know this code, and wait; the status is CloudFormation's.
    TooMany: ErrorResponse(400, "Throttling", "Rate exceeded"),
    Unavailable: ErrorResponse(
        503, "ServiceUnavailable", "The service cannot answer now; try again"
    ),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """The answer to a request that ended in ``error``."""
    told = _told(error)
    id = str(uuid.uuid4())
    message = told.message if told.message is not None else error.message
    body = render_error(type=told.type, code=told.code, message=message, request_id=id)
    return _answer(body, id, told.status, _headers(error))


def xml_response(body: bytes, request_id: str) -> Response:
    """An answer to an action."""
    return _answer(body, request_id, 200, {})


def redirect_to_docs(request: Request) -> Response:
    """Where people read who open the address in a browser."""
    return RedirectResponse(request.scope.get("base_path", "") + "/docs")


def _answer(body: bytes, id: str, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, {"x-amzn-RequestId": id} | headers, media_type="text/xml")


def _told(error: DeploylogError) -> ErrorResponse:
    if isinstance(error, QueryError):
        return ErrorResponse(error.status, error.code)
    if isinstance(error, Unauthenticated):
        return REFUSALS[error.reason]
    return next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    return {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
