"""Signing: what the receivers' library verifies."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deploylog.auth.standard_webhooks import make_secret, parse_secret, signature_headers
from deploylog.errors import InvalidSubscription

BODY = b'{"message": "sch\xc3\xb6n"}'


def signed(*secrets: str, body: bytes = BODY, now: int | None = None) -> dict[str, str]:
    keys = [parse_secret(secret) for secret in secrets]
    return signature_headers("id-1", now if now is not None else time.time_ns(), body, keys)


def test_a_receiver_verifies_it_with_the_standard_library():
    secret = make_secret()

    headers = signed(secret)

    assert Webhook(secret).verify(BODY, headers) == {"message": "schön"}


def test_it_signs_the_same_as_the_standard_library():
    secret = make_secret()
    now = time.time_ns()

    headers = signed(secret, now=now)

    again = Webhook(secret).sign("id-1", datetime.fromtimestamp(now // 10**9, UTC), BODY.decode())
    assert headers["webhook-signature"] == again


def test_while_a_secret_is_replaced_both_verify():
    new, old = make_secret(), make_secret()

    headers = signed(new, old)

    assert Webhook(new).verify(BODY, headers)
    assert Webhook(old).verify(BODY, headers)
    assert headers["webhook-signature"].split()[0] == signed(new)["webhook-signature"]


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "id-2"},
        {"webhook-timestamp": str(int(time.time()) - 1)},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
    ],
)
def test_what_was_tampered_with_does_not_verify(changed: dict[str, str]):
    secret = make_secret()
    headers = signed(secret, now=time.time_ns()) | changed

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers)


def test_another_body_or_another_secret_does_not_verify():
    secret = make_secret()
    headers = signed(secret)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret()).verify(BODY, headers)


def test_an_old_one_does_not_verify():
    secret = make_secret()

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signed(secret, now=time.time_ns() - 600 * 10**9))


def test_without_a_secret_there_is_an_id_and_a_time_but_no_signature():
    assert set(signature_headers("id-1", 0, BODY, [])) == {"webhook-id", "webhook-timestamp"}


def test_secrets_are_never_the_same_and_are_read_back():
    made = {make_secret() for _ in range(100)}

    assert len({parse_secret(each) for each in made}) == 100
    assert {len(parse_secret(each)) for each in made} == {32}


@pytest.mark.parametrize("length", [24, 64])
def test_a_secret_may_be_short_or_long(length: int):
    secret = bytes(range(length))

    assert parse_secret("whsec_" + base64.b64encode(secret).decode()) == secret


@pytest.mark.parametrize(
    "text",
    [
        "", "whsec_", "hunter2", "whsec_hunter2hunter2", "whsec_" + "AAAA" * 7 + "\n",
        "whsec_" + "é" * 40, "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(), "whsec_" + "_-" * 16,
        base64.b64encode(bytes(32)).decode(),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_refused_and_not_shown(text: str):
    with pytest.raises(InvalidSubscription) as caught:
        parse_secret(text)

    assert caught.value.field == "secret"
    assert "hunter2" not in caught.value.message
