"""Answers: what each means."""

import json

import pytest

from deploylog.subscriptions.delivery.outcome import Response, classify_receiver_response
from deploylog.subscriptions.delivery.slack.responses import (
    classify_api_response,
    classify_webhook_response,
)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "retry"), (400, "retry"),
        (404, "retry"), (410, "disable"), (429, "retry"), (500, "retry"), (503, "retry"),
    ],
)  # fmt: skip
def test_of_a_receiver_of_webhooks(status: int, result: str):
    verdict = classify_receiver_response(Response(status=status))

    assert verdict.result == result
    assert (verdict.error is None) == (result == "delivered")
    assert result == "delivered" or str(status) in (verdict.error or "")


def test_no_answer_is_one_to_try_again():
    silent = Response(error="no connection within 5 s")

    for verdict in (
        classify_receiver_response(silent),
        classify_webhook_response(silent),
        classify_api_response(silent),
    ):
        assert (verdict.result, verdict.error) == ("retry", "no connection within 5 s")


@pytest.mark.parametrize(
    ("status", "word", "result"),
    [
        (200, "ok", "delivered"), (400, "invalid_payload", "dead_letter"),
        (400, "no_text", "dead_letter"),
        (403, "action_prohibited", "dead_letter"), (404, "no_service", "disable"),
        (404, "channel_not_found", "disable"), (410, "channel_is_archived", "disable"),
        (429, "", "retry"), (500, "rollup_error", "retry"), (503, "", "retry"), (302, "", "retry"),
    ],
)  # fmt: skip
def test_of_a_slack_webhook(status: int, word: str, result: str):
    verdict = classify_webhook_response(Response(status=status, body=word.encode()))

    assert verdict.result == result
    assert result == "delivered" or word in (verdict.error or "")


def test_a_word_is_short_and_can_be_shown():
    verdict = classify_webhook_response(Response(status=400, body=b"a\nb\x00\xff" + b"c" * 1000))

    assert verdict.error is not None
    assert verdict.error.startswith("Slack answers 400: a b?")
    assert verdict.error.isprintable()
    assert len(verdict.error) < 120


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("ratelimited", "retry"), ("internal_error", "retry"), ("never_heard_of", "retry"),
        ("invalid_auth", "disable"), ("account_inactive", "disable"), ("token_revoked", "disable"),
        ("channel_not_found", "disable"), ("is_archived", "disable"), ("not_in_channel", "disable"),
        ("message_not_found", "anew"), ("cant_update_message", "anew"),
        ("edit_window_closed", "anew"), ("msg_too_long", "dead_letter"),
        ("invalid_blocks", "dead_letter"),
        ("msg_blocks_too_long", "dead_letter"),
    ],
)  # fmt: skip
def test_of_slacks_methods(word: str, result: str):
    said = classify_api_response(
        Response(status=200, body=json.dumps({"ok": False, "error": word}).encode())
    )

    assert said.result == result
    assert word in (said.error or "")


def test_of_a_message_that_was_posted():
    body = {"ok": True, "channel": "C1", "ts": "1.2", "message": {"text": "x"}}

    said = classify_api_response(Response(status=200, body=json.dumps(body).encode()))

    assert (said.result, said.channel, said.ts, said.error) == ("delivered", "C1", "1.2", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"ok": 1}', b"\xff", b'{"error": "x"}'])
def test_what_slack_would_never_say_is_one_to_try_again(body: bytes):
    assert classify_api_response(Response(status=200, body=body)).result == "retry"


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500])
def test_a_status_of_its_own_is_one_to_try_again(status: int):
    assert classify_api_response(Response(status=status, body=b'{"ok": true}')).result == "retry"
