"""Error responses of the CloudFormation API: one table from our errors to its codes."""

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
    """The request is invalid for a reason that CloudFormation has a code for."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        """``code`` is CloudFormation's."""
        super().__init__(message)
        self.code = code
        self.status = status


class ErrorResponse(msgspec.Struct, frozen=True):
    """Status, code and message of a response; without a message, that of the error."""

    status: int
    code: str
    message: str | None = None

    @property
    def type(self) -> str:
        """Who caused the error: the sender, or the service that received the request."""
        return "Sender" if self.status < 500 else "Receiver"


#: CloudFormation's responses by the reason why a request is not authenticated.
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

#: Responses by error class; the nearest base class applies.
ANSWERS: dict[type[BaseException], ErrorResponse] = {
    DeploylogError: ErrorResponse(500, "InternalFailure", "An internal error has occurred"),
    InvalidInput: ErrorResponse(400, "ValidationError"),
    CursorExpired: ErrorResponse(400, "ValidationError"),
    Conflict: ErrorResponse(400, "ValidationError"),
    NotFound: ErrorResponse(400, "ValidationError"),
    MethodNotAllowed: ErrorResponse(405, "InvalidAction", "The method is not allowed"),
    Forbidden: ErrorResponse(403, "AccessDenied"),
    # CloudFormation's clients back off on this code. The status is CloudFormation's.
    TooMany: ErrorResponse(400, "Throttling", "Rate exceeded"),
    Unavailable: ErrorResponse(
        503, "ServiceUnavailable", "The service cannot answer now; try again"
    ),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """Return the response to a request that failed with ``error``."""
    found = _response_to(error)
    id = str(uuid.uuid4())
    message = found.message if found.message is not None else error.message
    body = render_error(type=found.type, code=found.code, message=message, request_id=id)
    return _xml(body, id, found.status, _headers(error))


def xml_response(body: bytes, request_id: str) -> Response:
    """Return the response to an action."""
    return _xml(body, request_id, 200, {})


def redirect_to_docs(request: Request) -> Response:
    """Redirect a browser to the documentation."""
    return RedirectResponse(request.scope.get("base_path", "") + "/docs")


def _xml(body: bytes, id: str, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, {"x-amzn-RequestId": id} | headers, media_type="text/xml")


def _response_to(error: DeploylogError) -> ErrorResponse:
    if isinstance(error, QueryError):
        return ErrorResponse(error.status, error.code)
    if isinstance(error, Unauthenticated):
        return REFUSALS[error.reason]
    return next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany | Unavailable):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    return {}
