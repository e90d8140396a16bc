"""Bluelink Signature v1: HMAC-SHA256 over a date and chosen headers, with a shared secret.

Neither method nor path nor body is signed, and there is no nonce: who overhears a request can
send others in its name for as long as its date is fresh. It needs TLS as much as a key does.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

import msgspec

from deploylog.auth.access_keys import AccessKeyCache
from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.encryption import Encryptor
from deploylog.auth.store import Credentials
from deploylog.events.access import Principal
from deploylog.events.times import SECOND

SIGNATURE_HEADER = "bluelink-signature-v1"
DATE_HEADER = "bluelink-date"

#: Seconds that a date may be from now, either way.
WINDOW = 300

#: What Go takes for white space; of Python's own there is more.
_BLANKS = " \t\n\v\f\r"

#: As Go parses an int64 to the base of 10.
_DATE = re.compile(r"([+-]?)0*([0-9]{1,19})")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

#: The paths of streams, below any base path.
_STREAM = re.compile(
    r"(?:/.*)?(?:/v1/deployments/(?:changes|instances)/[^/]+|/log/v1/events)/stream", re.DOTALL
)

#: The most headers that a signature may name, and the most characters of their list.
MOST_NAMES = 64
_MOST_CHARACTERS = 4096

#: What a signature under an unknown key id is compared with, so that it takes as long.
_NOBODYS_SECRET = "0" * 64


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says was signed, by whom and when."""

    key_id: str
    #: In seconds since 1970.
    date: int
    message: bytes
    #: As text, base64url without padding.
    signature: str


def parse_signed(headers: Mapping[str, str]) -> Signed | None:
    """What the ``headers``, by lower-case name, say; ``None`` unless they are well formed."""
    key_id, names, signature = _parse_parts(headers)
    date = _parse_date(headers.get(DATE_HEADER, ""))
    if key_id is None or names is None or signature is None or date is None:
        return None
    message = _message(key_id, date, names, headers)
    if message is None:
        return None
    return Signed(key_id=key_id, date=date, message=message, signature=signature)


def parse_key_id(headers: Mapping[str, str]) -> str | None:
    """The key id that a signature names, before anything that it costs to verify one."""
    return _parse_parts(headers)[0]


def sign(secret: str, message: bytes) -> str:
    """The signature: base64url without padding. The secret counts as text."""
    digest = hmac.digest(secret.encode(), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(signed: Signed, secret: str) -> bool:
    """Whether who knows ``secret`` signed it."""
    # Two texts may decode to the same bytes; only the one that ours encode to is good.
    expected = sign(secret, signed.message)
    return hmac.compare_digest(expected.encode(), signed.signature.encode())


def is_fresh(signed: Signed, now: int, past: int = WINDOW) -> bool:
    """Whether at ``now``, in seconds, its date is not more than ``past`` seconds ago, or early."""
    return -WINDOW <= now - signed.date <= past


class BluelinkSignatures:
    """Knows the principals of signatures."""

    kind = "bluelink"

    def __init__(
        self,
        credentials: Credentials,
        seal: Encryptor | None,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        stream_window: int = WINDOW,
    ) -> None:
        """Without ``seal`` no signature is good. ``clock`` gives ns, ``monotonic`` seconds.

        A stream may be asked for with a signature that is ``stream_window`` seconds old: a
        client that reconnects sends its first one again.
        """
        self._known = AccessKeyCache("bluelink", credentials, seal, clock=monotonic)
        self._clock = clock
        self._stream_window = max(stream_window, WINDOW)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        # The key first: a stranger chooses which headers are signed, and how many.
        key_id = parse_key_id(presented.headers)
        if key_id is None:
            return None
        known = await self._known.get(key_id)
        if known is None:
            sign(_NOBODYS_SECRET, key_id.encode("utf-8", "surrogatepass"))
            return None
        principal, secret = known
        signed = parse_signed(presented.headers)
        if signed is None or not verify(signed, secret):
            return None
        past = self._stream_window if _is_stream(presented) else WINDOW
        return principal if is_fresh(signed, self._clock() // SECOND, past) else None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._known.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        known = await self._known.get(id)
        return known[0] if known is not None else None


def _parse_parts(headers: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Key id, names and signature, as they are written."""
    parts = headers.get(SIGNATURE_HEADER, "").split(",", 3)
    if len(parts) != 3:
        return None, None, None
    key_id, names, signature = map(_parse_part, parts, ("keyId", "headers", "signature"))
    return key_id, names, signature


def _parse_part(part: str, name: str) -> str | None:
    """The value of ``name="value"``."""
    pair = part.split("=")
    if len(pair) != 2 or pair[0].strip(_BLANKS) != name:
        return None
    value = pair[1]
    is_quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return value[1:-1] if is_quoted else None


def _parse_date(text: str) -> int | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    date = int("".join(match.groups()))
    return date if _LEAST <= date <= _MOST else None


def _message(key_id: str, date: int, names: str, headers: Mapping[str, str]) -> bytes | None:
    """What was signed; ``None`` when a header that is named is not there, or named twice.

    Named 40,000 times, one header of 64 KiB would make a message of 2.6 GB.
    """
    if len(names) > _MOST_CHARACTERS:
        return None
    listed = [name.strip(_BLANKS).lower() for name in names.strip(_BLANKS).split(" ")]
    others = [name for name in listed if name != DATE_HEADER]
    if len(others) > MOST_NAMES or len(set(others)) < len(others):
        return None
    values = [headers.get(name, "") for name in others]
    if not all(values):
        return None
    pairs = [f"{name}={value}" for name, value in zip(others, values, strict=True)]
    return _bytes(",".join([key_id, f"{DATE_HEADER}={date}", *pairs]))


def _bytes(message: str) -> bytes | None:
    """As the bytes came: a header is decoded byte by byte."""
    try:
        return message.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _is_stream(presented: RequestCredentials) -> bool:
    """Whether it asks for what a client follows, and not for an instance named "stream"."""
    return presented.method == "GET" and _STREAM.fullmatch(presented.path) is not None
