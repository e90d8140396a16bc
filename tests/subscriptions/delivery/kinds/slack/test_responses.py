"""The classification of responses."""

import json

import pytest

from deploylog.subscriptions.delivery.kinds.slack.responses import (
    classify_api_response,
    classify_webhook_response,
)
from deploylog.subscriptions.delivery.outcome import Response, classify_receiver_response


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "retry"), (400, "retry"),
        (404, "retry"), (410, "disable"), (429, "retry"), (500, "retry"), (503, "retry"),
    ],
)  # fmt: skip
def test_responses_of_a_webhook_receiver(status: int, result: str):
    outcome = classify_receiver_response(Response(status=status))

    assert outcome.result == result
    assert (outcome.error is None) == (result == "delivered")
    assert result == "delivered" or str(status) in (outcome.error or "")


def test_no_response_is_retried():
    missing = Response(error="no connection within 5 s")

    for outcome in (
        classify_receiver_response(missing),
        classify_webhook_response(missing),
        classify_api_response(missing),
    ):
        assert (outcome.result, outcome.error) == ("retry", "no connection within 5 s")


@pytest.mark.parametrize(
    ("status", "code", "result"),
    [
        (200, "ok", "delivered"), (400, "invalid_payload", "dead_letter"),
        (400, "no_text", "dead_letter"),
        (403, "action_prohibited", "dead_letter"), (404, "no_service", "disable"),
        (404, "channel_not_found", "disable"), (410, "channel_is_archived", "disable"),
        (429, "", "retry"), (500, "rollup_error", "retry"), (503, "", "retry"), (302, "", "retry"),
    ],
)  # fmt: skip
def test_responses_of_a_slack_webhook(status: int, code: str, result: str):
    outcome = classify_webhook_response(Response(status=status, body=code.encode()))

    assert outcome.result == result
    assert result == "delivered" or code in (outcome.error or "")


def test_an_error_code_is_truncated_and_printable():
    outcome = classify_webhook_response(Response(status=400, body=b"a\nb\x00\xff" + b"c" * 1000))

    assert outcome.error is not None
    assert outcome.error.startswith("Slack responded with 400: a b?")
    assert outcome.error.isprintable()
    assert len(outcome.error) < 120


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("ratelimited", "retry"), ("internal_error", "retry"), ("never_heard_of", "retry"),
        ("invalid_auth", "disable"), ("account_inactive", "disable"), ("token_revoked", "disable"),
        ("channel_not_found", "disable"), ("is_archived", "disable"), ("not_in_channel", "disable"),
        ("message_not_found", "repost"), ("cant_update_message", "repost"),
        ("edit_window_closed", "repost"), ("msg_too_long", "dead_letter"),
        ("invalid_blocks", "dead_letter"),
        ("msg_blocks_too_long", "dead_letter"),
    ],
)  # fmt: skip
def test_responses_of_slack_methods(code: str, result: str):
    outcome = classify_api_response(
        Response(status=200, body=json.dumps({"ok": False, "error": code}).encode())
    )

    assert outcome.result == result
    assert code in (outcome.error or "")


def test_the_response_of_a_posted_message():
    body = {"ok": True, "channel": "C1", "ts": "1.2", "message": {"text": "x"}}

    outcome = classify_api_response(Response(status=200, body=json.dumps(body).encode()))

    assert (outcome.result, outcome.channel, outcome.ts, outcome.error) == (
        "delivered",
        "C1",
        "1.2",
        None,
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"ok": 1}', b"\xff", b'{"error": "x"}'])
def test_an_invalid_response_of_slack_is_retried(body: bytes):
    assert classify_api_response(Response(status=200, body=body)).result == "retry"


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500])
def test_an_http_error_of_slack_is_retried(status: int):
    assert classify_api_response(Response(status=status, body=b'{"ok": true}')).result == "retry"
