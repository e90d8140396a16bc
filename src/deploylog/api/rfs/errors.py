"""Error responses of the RFS API: RFS's codes, and one table from our errors to them."""

import base64
import math
import uuid

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.auth.authorization import is_signature
from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploymentNotFound,
    Forbidden,
    InvalidInput,
    NotFound,
    Reason,
    StackMismatch,
    StackNotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)

#: RFS API, Error Codes; RF.10013003 is ours, as no code for an unknown deployment is published.
#: APIGW codes are the API gateway's, which answers before RFS is asked.
MESSAGES = {
    "APIGW.0101": "The API does not exist or has not been published in the environment",
    "APIGW.0301": "Incorrect IAM authentication information",
    "APIGW.0308": "The throttling threshold has been reached",
    "RF.10010001": "Internal Server Error.",
    "RF.10011001": "Missing required parameter(s).",
    "RF.10011002": "Unrecognized parameter(s).",
    "RF.10011005": "The length of parameter is longer than upper limit.",
    "RF.10011006": "The length of parameter is shorter than lower limit.",
    "RF.10011008": "Parameter contains invalid letter. Should only contains English characters,"
    " number or hyphen.",
    "RF.10011010": "Parameter contains invalid letter. Should start with Chinese or English"
    " characters, and only contains Chinese characters, English characters, number, underscore"
    " or hyphen.",
    "RF.10011015": "Stack ID is not matched with current stack with stack name.",
    "RF.10011016": "Project ID contains invalid letter. Project ID should only contains English"
    " characters, number, hyphen.",
    "RF.10011028": "Composite Validation Error.",
    "RF.10011031": "Parameter contains invalid letter. Should only contains English characters,"
    " number, hyphen or underscore.",
    "RF.10011036": "The value of parameter is not a valid instance of integer.",
    "RF.10011037": "The field value cannot be empty.",
    "RF.10011038": "Invalid parameter value type.",
    "RF.10011087": "Unrecognized search option parameter.",
    "RF.10011088": "No valid filter method found.",
    "RF.10011089": "The filter value is invalid.",
    "RF.10011093": "Duplicate fields found.",
    "RF.10012507": "Policy doesn't allow action to be performed.",
    "RF.10013001": "Stack is not exist.",
    "RF.10013003": "Deployment is not exist.",
}


class RfsError(InvalidInput):
    """The request is invalid for a reason that RFS has a code for."""

    def __init__(self, code: str, *, field: str) -> None:
        """Use RFS's message for ``code``."""
        super().__init__(MESSAGES[code], field=field)
        self.code = code


#: The gateway's messages, after a colon, about a signed request. Its own message for an unknown
#: key also contains the key, which may be a secret entered by mistake.
SIGNATURE_FAILURES: dict[Reason, str] = {
    "missing": "verify aksk signature fail",
    "unknown_key": "Get secretKey failed,err:ak not exist",
    "bad_signature": "verify aksk signature fail",
    "expired": "verify aksk signature fail,signature expired",
    "malformed": "verify aksk signature fail,authorization header not valid",
}

#: The gateway's messages about a request with a token.
TOKEN_FAILURES: dict[Reason, str] = {
    "missing": "x-auth-token not found",
    "unknown_key": "decrypt token fail",
    "bad_signature": "decrypt token fail",
    "expired": "token expires",
    "malformed": "decrypt token fail",
}

#: Status and code by error class; the nearest base class applies.
ANSWERS: dict[type[BaseException], tuple[int, str]] = {
    InvalidInput: (400, "RF.10011028"),
    TooLarge: (400, "RF.10011005"),
    Unauthenticated: (401, "APIGW.0301"),
    Forbidden: (403, "RF.10012507"),
    NotFound: (404, "APIGW.0101"),
    StackNotFound: (404, "RF.10013001"),
    DeploymentNotFound: (404, "RF.10013003"),
    Conflict: (400, "RF.10011028"),
    StackMismatch: (400, "RF.10011015"),
    CursorExpired: (400, "RF.10011038"),
    TooMany: (429, "APIGW.0308"),
    Unavailable: (503, "RF.10010001"),
    Exception: (500, "RF.10010001"),
}


async def respond(request: Request, error: Exception) -> Response:
    """Return the response to a request that failed with ``error``."""
    status, code = _answer(error)
    body: dict[str, object] = {"error_code": code, "error_msg": _sentence(error, code)}
    if isinstance(error, Unauthenticated):
        body["error_msg"] = f"{MESSAGES[code]}: {_why(request, error.reason)}"
    if code.startswith("APIGW."):
        body["request_id"] = request_id(request)
    if isinstance(error, Forbidden):
        body["encoded_authorization_message"] = _encoded(error.message)
        body["details"] = [{"error_code": code, "error_msg": error.message}]
    response = json_response(request, msgspec.json.encode(body), status)
    if isinstance(error, TooMany | Unavailable):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return response


def json_response(request: Request, body: bytes, status: int = 200) -> Response:
    """Return a response with the headers that every response has."""
    headers = {"X-Request-Id": request_id(request)}
    if "client-request-id" in request.headers:
        headers["Client-Request-Id"] = request.headers["client-request-id"]
    return Response(body, status, headers, media_type="application/json;charset=UTF-8")


def request_id(request: Request) -> str:
    """Return the server's id of this request; it does not change between calls."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = uuid.uuid4().hex
    return str(request.state.request_id)


def _answer(error: Exception) -> tuple[int, str]:
    if isinstance(error, RfsError):
        return 400, error.code
    return next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)


def _sentence(error: Exception, code: str) -> str:
    if isinstance(error, InvalidInput) and error.field:
        return f"{MESSAGES[code]} Parameter: {error.field}."
    return MESSAGES[code]


def _why(request: Request, reason: Reason) -> str:
    """The gateway's message about the credential of the request: a token or a signature."""
    is_token = "x-auth-token" in request.headers
    if not is_token and is_signature(request.headers.get("authorization", "")):
        return SIGNATURE_FAILURES[reason]
    return TOKEN_FAILURES[reason]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
