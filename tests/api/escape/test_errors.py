"""Escape's error responses, byte for byte."""

import pytest
from starlette.requests import Request

from deploylog import errors
from deploylog.api.escape.errors import respond
from deploylog.api.http.endpoint import InternalError
from deploylog.errors import DeploylogError


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.InvalidInput("Invalid JSON"), 400, b"Invalid JSON"),
        (errors.InvalidEvent("no"), 400, b"no"),
        (errors.RequestReused("no"), 400, b"no"),
        (errors.Unauthenticated("odd"), 401, b""),
        (errors.Forbidden("you may not"), 403, b""),
        (errors.EventNotFound("gone"), 404, b""),
        (errors.NotFound("no such path"), 404, b"404 page not found\n"),
        (errors.MethodNotAllowed("no"), 405, b""),
        (errors.StackExists("taken"), 409, b"taken"),
        (errors.CursorExpired("old"), 410, b"old"),
        (errors.TooLarge("large"), 413, b"large"),
        (errors.UnsupportedMedia("odd"), 415, b"odd"),
        (errors.TooMany("often"), 429, b"often"),
        (errors.StoreUnavailable("locked"), 503, b"locked"),
        (InternalError("the details"), 500, b""),
        (errors.OperatorError("why"), 500, b""),
    ],
)
async def test_an_error_has_the_body_of_escapes_services(
    error: DeploylogError, status: int, body: bytes
):
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    response = await respond(request, error)

    assert (response.status_code, response.body) == (status, body)
    assert response.headers.get("content-type") == ("text/plain; charset=utf-8" if body else None)
    assert response.headers["content-length"] == str(len(body))
    assert ("retry-after" in response.headers) == (status in (429, 503))
