"""CloudFormation's error responses."""

import pytest
from starlette.requests import Request

from deploylog import errors
from deploylog.api.aws.cloudformation.errors import QueryError, respond
from deploylog.api.http.endpoint import InternalError
from deploylog.errors import DeploylogError


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (QueryError("InvalidAction", "odd"), 400, "InvalidAction", "odd"),
        (errors.InvalidInput("odd"), 400, "ValidationError", "odd"),
        (errors.TooLarge("large"), 400, "ValidationError", "large"),
        (errors.CursorExpired("old"), 400, "ValidationError", "old"),
        (errors.Conflict("taken"), 400, "ValidationError", "taken"),
        (errors.StackNotFound("gone"), 400, "ValidationError", "gone"),
        (errors.TooMany("often"), 400, "Throttling", "Rate exceeded"),
        (
            errors.Unauthenticated("odd"),
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
        (errors.Forbidden("you may not"), 403, "AccessDenied", "you may not"),
        (errors.MethodNotAllowed("no"), 405, "InvalidAction", "The method is not allowed"),
        (InternalError("details"), 500, "InternalFailure", "An internal error has occurred"),
        (errors.OperatorError("why"), 500, "InternalFailure", "An internal error has occurred"),
        (
            errors.StoreUnavailable("locked"),
            503,
            "ServiceUnavailable",
            "The service cannot answer now; try again",
        ),
    ],
)
async def test_an_error_has_cloudformations_envelope(
    error: DeploylogError, status: int, code: str, message: str
):
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []})

    response = await respond(request, error)

    body = bytes(response.body).decode()
    sender = "Sender" if status < 500 else "Receiver"
    result = f"<Type>{sender}</Type><Code>{code}</Code><Message>{message}</Message>"
    assert response.status_code == status
    assert result in body
    assert f"<RequestId>{response.headers['x-amzn-requestid']}</RequestId>" in body
    assert response.headers["content-type"].startswith("text/xml")
    assert ("retry-after" in response.headers) == (code in ("Throttling", "ServiceUnavailable"))
