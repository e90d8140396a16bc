"""ParallelCluster's error responses."""

import json

import pytest
from starlette.requests import Request

from deploylog import errors
from deploylog.api.aws.parallelcluster.errors import FATAL, UNROUTED, WRONG_METHOD, respond
from deploylog.api.http.endpoint import InternalError
from deploylog.errors import DeploylogError


@pytest.mark.parametrize(
    ("error", "status", "message", "type"),
    [
        (errors.InvalidInput("odd"), 400, "Bad Request: odd", None),
        (errors.CursorExpired("old"), 400, "Bad Request: old", None),
        (errors.Conflict("taken"), 400, "Bad Request: taken", None),
        (
            errors.Unauthenticated("odd"),
            403,
            "Missing Authentication Token",
            "MissingAuthenticationTokenException",
        ),
        (errors.NotFound("gone"), 404, UNROUTED, None),
        (errors.StackNotFound("no stack"), 404, "no stack", None),
        (errors.MethodNotAllowed("no"), 405, WRONG_METHOD, None),
        (errors.TooMany("often"), 429, "Too Many Requests", "TooManyRequestsException"),
        (InternalError("the details"), 500, FATAL, None),
        (errors.OperatorError("why"), 500, FATAL, None),
        (errors.StoreUnavailable("locked"), 503, "Service Unavailable", None),
    ],
)
async def test_an_error_has_parallelclusters_envelope(
    error: DeploylogError, status: int, message: str, type: str | None
):
    response = await respond(_request(), error)

    assert response.status_code == status
    assert json.loads(bytes(response.body)) == {"message": message}
    assert bytes(response.body).endswith(b"}\n")
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get("x-amzn-errortype") == type
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert ("allow" in response.headers) == (status == 405)


async def test_a_denial_has_the_gateways_capital_message():
    response = await respond(_request(), errors.Forbidden("ci may not read project/acme"))

    text = "User is not authorized to access this resource"
    assert response.status_code == 403
    assert json.loads(bytes(response.body)) == {"Message": text}
    assert response.headers["x-amzn-errortype"] == "AccessDeniedException"


async def test_each_response_has_its_own_id():
    responses = [await respond(_request(), errors.NotFound()) for _ in range(2)]

    assert len({response.headers["x-amzn-requestid"] for response in responses}) == 2


def _request() -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": []})
