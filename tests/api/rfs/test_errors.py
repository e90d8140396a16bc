"""RFS's errors: each of ours has a response in RFS's envelope."""

import base64
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from deploylog.api.rfs.errors import ANSWERS, MESSAGES, RfsError, json_response, respond
from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    DeploymentNotFound,
    EventNotFound,
    Forbidden,
    InvalidCursor,
    InvalidFilter,
    InvalidInput,
    NotFound,
    OperatorError,
    Reason,
    StackExists,
    StackMismatch,
    StackNotFound,
    Stopping,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
)

CLIENT_REQUEST_ID = "4d5f3a1e-0c7e-4c3b-9d53-9a7f1c2b3d4e"


def request(headers: dict[str, str] | None = None) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw})


async def response_to(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the envelope that a client sees."""
    response = await respond(request(), error)
    return response.status_code, json.loads(bytes(response.body))


def error_classes(of: type[DeploylogError]) -> Iterator[type[DeploylogError]]:
    """The class and its subclasses in errors.py, without errors that only operators see."""
    if of.__module__ != DeploylogError.__module__ or issubclass(of, OperatorError):
        return
    yield of
    for child in of.__subclasses__():
        yield from error_classes(child)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput(), 400, "RF.10011028"),
        (InvalidFilter(), 400, "RF.10011028"),
        (InvalidCursor(), 400, "RF.10011028"),
        (TooLarge(), 400, "RF.10011005"),
        (RfsError("RF.10011089", field="filter"), 400, "RF.10011089"),
        (Unauthenticated(), 401, "APIGW.0301"),
        (Forbidden(), 403, "RF.10012507"),
        (NotFound(), 404, "APIGW.0101"),
        (EventNotFound(), 404, "APIGW.0101"),
        (StackNotFound(), 404, "RF.10013001"),
        (DeploymentNotFound(), 404, "RF.10013003"),
        (Conflict(), 400, "RF.10011028"),
        (StackExists(), 400, "RF.10011028"),
        (StackMismatch(), 400, "RF.10011015"),
        (CursorExpired(), 400, "RF.10011038"),
        (StoreUnavailable(), 503, "RF.10010001"),
        (Stopping(), 503, "RF.10010001"),
        (DeploylogError(), 500, "RF.10010001"),
        (ValueError("a bug"), 500, "RF.10010001"),
    ],
)
async def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    answered, body = await response_to(error)

    assert (answered, body["error_code"]) == (status, code)
    assert body["error_msg"].startswith(MESSAGES[code])


@pytest.mark.parametrize("kind", list(error_classes(DeploylogError)))
async def test_every_error_has_a_response(kind: type[DeploylogError]) -> None:
    status, body = await response_to(kind())

    assert (status == 500) == (kind is DeploylogError)
    assert body["error_code"] in MESSAGES
    assert body["error_msg"]


def test_every_response_has_a_message() -> None:
    assert {code for _, code in ANSWERS.values()} <= set(MESSAGES)


@pytest.mark.parametrize("code", [code for code in MESSAGES if not code.startswith("APIGW.")])
def test_a_code_of_rfs_is_rf_and_eight_digits(code: str) -> None:
    assert re.fullmatch(r"RF\.[0-9]{8}", code)


@pytest.mark.parametrize("code", MESSAGES)
async def test_a_code_has_its_message_and_the_parameter(code: str) -> None:
    _, body = await response_to(RfsError(code, field="limit"))

    assert body["error_msg"] == f"{MESSAGES[code]} Parameter: limit."


async def test_the_invalid_parameter_is_named() -> None:
    _, body = await response_to(RfsError("RF.10011005", field="filter"))

    assert body == {
        "error_code": "RF.10011005",
        "error_msg": "The length of parameter is longer than upper limit. Parameter: filter.",
    }


async def test_a_denial_has_its_reason_encoded_and_as_text() -> None:
    _, body = await response_to(Forbidden("alice may not read project/x"))

    assert body == {
        "error_code": "RF.10012507",
        "error_msg": "Policy doesn't allow action to be performed.",
        "encoded_authorization_message": base64.b64encode(b"alice may not read project/x").decode(),
        "details": [{"error_code": "RF.10012507", "error_msg": "alice may not read project/x"}],
    }


SIGNED = {"authorization": "SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date, Signature=0"}
TOKEN = {"x-auth-token": "a"}


@pytest.mark.parametrize(
    ("headers", "reason", "given"),
    [
        ({}, "missing", "x-auth-token not found"),
        (SIGNED, "unknown_key", "Get secretKey failed,err:ak not exist"),
        (SIGNED, "bad_signature", "verify aksk signature fail"),
        (SIGNED, "expired", "verify aksk signature fail,signature expired"),
        (SIGNED, "malformed", "verify aksk signature fail,authorization header not valid"),
        (TOKEN, "unknown_key", "decrypt token fail"),
        (TOKEN, "malformed", "decrypt token fail"),
        (TOKEN, "expired", "token expires"),
        ({"authorization": "Bearer a"}, "unknown_key", "decrypt token fail"),
        ({**SIGNED, **TOKEN}, "expired", "token expires"),
    ],
)
async def test_failed_authentication_has_the_gateways_response(
    headers: dict[str, str], reason: Reason, given: str
) -> None:
    response = await respond(request(headers), Unauthenticated(reason=reason))

    assert json.loads(bytes(response.body)) == {
        "error_code": "APIGW.0301",
        "error_msg": f"Incorrect IAM authentication information: {given}",
        "request_id": response.headers["x-request-id"],
    }


async def test_a_message_of_the_store_is_not_revealed() -> None:
    _, body = await response_to(StoreUnavailable("no such file: /var/lib/deploylog.db"))

    assert body == {"error_code": "RF.10010001", "error_msg": "Internal Server Error."}


async def test_every_response_has_the_same_headers() -> None:
    requested = request({"client-request-id": CLIENT_REQUEST_ID})

    responses = [json_response(requested, b"{}"), await respond(requested, StackNotFound())]

    for each in responses:
        assert each.headers["content-type"] == "application/json;charset=UTF-8"
        assert each.headers["client-request-id"] == CLIENT_REQUEST_ID
        assert each.headers["x-request-id"] == requested.state.request_id


async def test_a_missing_client_request_id_is_not_generated() -> None:
    assert "client-request-id" not in json_response(request(), b"{}").headers


async def test_each_request_has_an_id_of_its_own() -> None:
    ids = {json_response(request(), b"{}").headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


@pytest.fixture
def sdk_handler(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Importing the SDK writes a file below HOME.
    monkeypatch.setenv("HOME", str(tmp_path))
    return pytest.importorskip("huaweicloudsdkcore.exceptions.exception_handler")


async def test_the_sdk_reads_the_envelope(sdk_handler: Any) -> None:
    response = await respond(request(), Forbidden("no"))
    received = SimpleNamespace(
        status_code=response.status_code,
        headers=response.headers,
        text=bytes(response.body).decode(),
    )

    with pytest.raises(sdk_handler.exceptions.ClientRequestException) as caught:
        sdk_handler.DefaultExceptionHandler().handle_exception(None, received)

    error = caught.value
    assert (error.status_code, error.error_code) == (403, "RF.10012507")
    assert error.error_msg == "Policy doesn't allow action to be performed."
    assert error.encoded_auth_msg == base64.b64encode(b"no").decode()
    assert error.request_id == response.headers["x-request-id"]
