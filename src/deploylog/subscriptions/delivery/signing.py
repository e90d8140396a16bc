"""Signatures of webhooks: Standard Webhooks 1.0, symmetric (HMAC-SHA256)."""

import base64
import hmac
import secrets as random
from binascii import Error as NotBase64
from collections.abc import Sequence

from deploylog.errors import InvalidSubscription
from deploylog.events.times import SECOND

_PREFIX = "whsec_"

#: How long a secret is, in bytes.
SHORTEST, LONGEST = 24, 64

#: Of those that are made here.
_LENGTH = 32


def make_secret() -> str:
    """A new secret, as it is shown to the receiver."""
    return _PREFIX + base64.b64encode(random.token_bytes(_LENGTH)).decode()


def parse_secret(text: str) -> bytes:
    """The secret that ``text`` writes; raises InvalidSubscription, which does not show it."""
    if not text.startswith(_PREFIX):
        raise _wrong(f"begins with {_PREFIX}")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        # The cause could show some of it.
        raise _wrong(f"is base64 after {_PREFIX}") from None
    if not SHORTEST <= len(secret) <= LONGEST:
        raise _wrong(f"has {SHORTEST} to {LONGEST} bytes")
    return secret


def signature_headers(id: str, now: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers that sign ``body``, by each of the secrets; ``now`` in ns since 1970.

    The receiver needs one of the signatures to be right. Without secrets there is none.
    """
    seconds = str(now // SECOND)
    headers = {"webhook-id": id, "webhook-timestamp": seconds}
    if secrets:
        signed = b"%s.%s.%s" % (id.encode(), seconds.encode(), body)
        headers["webhook-signature"] = " ".join(_signature(secret, signed) for secret in secrets)
    return headers


def _signature(secret: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def _wrong(what: str) -> InvalidSubscription:
    return InvalidSubscription(f"a secret {what}", field="secret")
