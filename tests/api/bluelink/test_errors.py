"""Bluelink's error bodies, byte for byte."""

import pytest
from starlette.requests import Request

from deploylog import errors
from deploylog.api.bluelink.errors import FieldProblem, InvalidFields, respond
from deploylog.api.http.endpoint import InternalError
from deploylog.errors import DeploylogError

MISSING = FieldProblem(location=".directory", message="missing required value", type="required")


def request(path: str = "/") -> Request:
    return Request({"type": "http", "method": "GET", "path": path, "headers": []})


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.InvalidInput("no"), 400, b'{"message":"no"}'),
        (errors.RequestReused("no"), 400, b'{"message":"no"}'),
        (
            errors.PlanNotFound("it is a link"), 400,
            b'{"message":"the provided blueprint could not be resolved"}',
        ),
        (
            InvalidFields([MISSING]), 422,
            b'{"message":"request body input validation failed","errors":[{"location":'
            b'".directory","message":"missing required value","type":"required"}]}\n',
        ),
        (
            errors.InvalidPlan("not a plan"), 422,
            b'{"message":"failed to load the blueprint document specified in the request",'
            b'"validationDiagnostics":[{"level":1,"message":"not a plan"}]}',
        ),
        (errors.Unauthenticated("the key is odd"), 401, b'{"message":"Unauthorized"}'),
        (errors.Forbidden("you may not"), 403, b'{"message":"you may not"}'),
        (errors.ChangesetNotFound("gone"), 404, b'{"message":"gone"}'),
        (errors.NotFound("no such path"), 404, b"404 page not found\n"),
        (errors.MethodNotAllowed("no"), 405, b""),
        (errors.StackExists("taken"), 409, b'{"message":"taken"}'),
        (errors.CursorExpired("old"), 410, b'{"message":"old"}'),
        (errors.TooLarge("large"), 413, b'{"message":"large"}'),
        (errors.UnsupportedMedia("odd"), 415, b'{"message":"odd"}'),
        (errors.TooMany("often"), 429, b'{"message":"often"}'),
        (errors.StoreUnavailable("locked"), 503, b'{"message":"locked"}'),
        (InternalError("the details"), 500, b'{"message":"an unexpected error occurred"}'),
        (errors.OperatorError("why"), 500, b'{"message":"an unexpected error occurred"}'),
    ],
)  # fmt: skip
async def test_an_error_has_the_engines_body(error: DeploylogError, status: int, body: bytes):
    response = await respond(request(), error)

    assert (response.status_code, response.body) == (status, body)
    assert "www-authenticate" not in response.headers
    if body.startswith(b"{"):
        assert response.headers["content-type"] == "application/json"
    assert ("retry-after" in response.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (errors.ChangesetNotFound("gone"), b'{"message":"Not found"}'),
        (InternalError("the details"), b'{"message":"An unexpected error occurred"}'),
        (errors.Unauthenticated("the key is odd"), b'{"message":"Unauthorized"}'),
    ],
)
async def test_the_stream_of_a_change_set_has_the_published_messages(
    error: DeploylogError, body: bytes
):
    response = await respond(request("/v1/deployments/changes/x/stream"), error)

    assert response.body == body


async def test_a_substitution_in_an_error_is_escaped():
    response = await respond(request(), errors.StackNotFound('instance "${x}" not found'))

    assert response.body == b'{"message":"instance \\"\\u0024{x}\\" not found"}'
