"""Signatures of webhooks: Standard Webhooks 1.0, symmetric (HMAC-SHA256)."""

import base64
import hmac
import secrets as random
from binascii import Error as NotBase64
from binascii import b2a_base64
from collections.abc import Mapping, Sequence

from deploylog.errors import InvalidSubscription
from deploylog.events.times import SECOND

_PREFIX = "whsec_"

#: The length of a secret in bytes.
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64

#: The length of a generated secret in bytes.
_GENERATED_BYTES = 32


def make_secret() -> str:
    """Generate a secret, in the form that the receiver gets."""
    return _PREFIX + base64.b64encode(random.token_bytes(_GENERATED_BYTES)).decode()


def parse_secret(text: str) -> bytes:
    """Decode a secret; raises InvalidSubscription, which does not show it."""
    if not text.startswith(_PREFIX):
        raise _invalid(f"start with {_PREFIX}")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        # The cause could show a part of it.
        raise _invalid(f"be base64 after {_PREFIX}") from None
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise _invalid(f"have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return secret


def signature_headers(id: str, now: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers that sign ``body``, with one signature per secret; ``now`` in ns since 1970.

    One valid signature is enough for the receiver. Without secrets there is no signature.
    """
    seconds = str(now // SECOND)
    headers = {"webhook-id": id, "webhook-timestamp": seconds}
    if secrets:
        signed = b"%s.%s.%s" % (id.encode(), seconds.encode(), body)
        headers["webhook-signature"] = " ".join(_signature(secret, signed) for secret in secrets)
    return headers


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether the headers, by lower-case name, sign the body with the secret.

    How old the signature is does not matter: what is sent again is recorded once.
    """
    try:
        key = parse_secret(secret)
    except InvalidSubscription:
        # It is the secret of a sender that signs otherwise.
        return False
    id, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed = b"%s.%s.%s" % (_sent(id), _sent(seconds), body)
    expected = _signature(key, signed).encode()
    sent = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(_sent(each), expected) for each in sent)


def _sent(header: str) -> bytes:
    return header.encode("utf-8", "surrogatepass")


def _signature(secret: bytes, signed: bytes) -> str:
    # ``hmac.digest`` gives up the interpreter even for a short message, and waits to get it back.
    digest = hmac.new(secret, signed, "sha256").digest()
    return "v1," + b2a_base64(digest, newline=False).decode()


def _invalid(rule: str) -> InvalidSubscription:
    return InvalidSubscription(f"secret must {rule}", field="secret")
