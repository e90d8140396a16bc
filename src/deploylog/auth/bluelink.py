"""Bluelink Signature v1: HMAC-SHA256 over a date and chosen headers, with a shared secret.

Neither the method, the path nor the body is signed, and there is no nonce: an eavesdropper can send
other requests with the same signature while its date is fresh. Like an API key, it requires TLS.
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

#: Allowed difference between the date and the clock, in seconds, either way.
WINDOW = 300

#: White space as Go defines it; Python's definition is wider.
_WHITESPACE = " \t\n\v\f\r"

#: An int64 in base 10, as Go parses it.
_DATE = re.compile(r"([+-]?)0*([0-9]{1,19})")
_MIN_INT64, _MAX_INT64 = -(1 << 63), (1 << 63) - 1

#: Paths of streams, below any base path.
_STREAM = re.compile(
    r"(?:/.*)?(?:/v1/deployments/(?:changes|instances)/[^/]+|/log/v1/events)/stream", re.DOTALL
)

#: Maximum number of headers that a signature may name, and maximum length of their list.
MAX_SIGNED_HEADERS = 64
_MAX_NAMES_LENGTH = 4096

#: Signs in place of an unknown key, so that the response takes as long.
_DUMMY_SECRET = "0" * 64


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed signature, and the message that it covers. Nothing in it is verified."""

    key_id: str
    #: In seconds since 1970.
    date: int
    message: bytes
    #: Base64url without padding.
    signature: str


def parse_signed(headers: Mapping[str, str]) -> Signed | None:
    """Parse the signature in ``headers``, by lower-case name; ``None`` unless it is well formed."""
    key_id, names, signature = _parse_parts(headers)
    date = _parse_date(headers.get(DATE_HEADER, ""))
    if key_id is None or names is None or signature is None or date is None:
        return None
    message = _message(key_id, date, names, headers)
    if message is None:
        return None
    return Signed(key_id=key_id, date=date, message=message, signature=signature)


def parse_key_id(headers: Mapping[str, str]) -> str | None:
    """Parse the key id only, before any costly work."""
    return _parse_parts(headers)[0]


def sign(secret: str, message: bytes) -> str:
    """Sign as base64url without padding. The secret is used as text, not decoded."""
    digest = hmac.digest(secret.encode(), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(signed: Signed, secret: str) -> bool:
    """Whether the signature was made with ``secret``."""
    # Several texts decode to the same bytes; only the canonical encoding is valid.
    expected = sign(secret, signed.message)
    return hmac.compare_digest(expected.encode(), signed.signature.encode())


def is_fresh(signed: Signed, now: int, past: int = WINDOW) -> bool:
    """Whether the date is at most ``past`` seconds before ``now``, or ``WINDOW`` after it."""
    return -WINDOW <= now - signed.date <= past


class BluelinkSignatures:
    """Authenticates Bluelink signatures."""

    kind = "bluelink"

    def __init__(
        self,
        credentials: Credentials,
        encryptor: Encryptor | None,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        stream_window: int = WINDOW,
    ) -> None:
        """Without ``encryptor`` every signature is rejected. ``clock`` gives ns, ``monotonic`` s.

        Streams accept signatures up to ``stream_window`` seconds old: a client that reconnects
        sends its first signature again.
        """
        self._keys = AccessKeyCache("bluelink", credentials, encryptor, clock=monotonic)
        self._clock = clock
        self._stream_window = max(stream_window, WINDOW)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        # Look the key up first: anyone can name many large headers to sign.
        key_id = parse_key_id(request.headers)
        if key_id is None:
            return None
        found = await self._keys.get(key_id)
        if found is None:
            sign(_DUMMY_SECRET, key_id.encode("utf-8", "surrogatepass"))
            return None
        principal, secret = found
        signed = parse_signed(request.headers)
        if signed is None or not verify(signed, secret):
            return None
        past = self._stream_window if _is_stream(request) else WINDOW
        return principal if is_fresh(signed, self._clock() // SECOND, past) else None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._keys.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        found = await self._keys.get(id)
        return found[0] if found is not None else None


def _parse_parts(headers: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """The key id, header names and signature, unparsed."""
    parts = headers.get(SIGNATURE_HEADER, "").split(",", 3)
    if len(parts) != 3:
        return None, None, None
    key_id, names, signature = map(_parse_part, parts, ("keyId", "headers", "signature"))
    return key_id, names, signature


def _parse_part(part: str, name: str) -> str | None:
    """The value of ``name="value"``."""
    pair = part.split("=")
    if len(pair) != 2 or pair[0].strip(_WHITESPACE) != name:
        return None
    value = pair[1]
    is_quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return value[1:-1] if is_quoted else None


def _parse_date(text: str) -> int | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    date = int("".join(match.groups()))
    return date if _MIN_INT64 <= date <= _MAX_INT64 else None


def _message(key_id: str, date: int, names: str, headers: Mapping[str, str]) -> bytes | None:
    """The signed message; ``None`` if a named header is absent, empty or named twice.

    A header of 64 KiB named 40,000 times would make a message of 2.6 GB.
    """
    if len(names) > _MAX_NAMES_LENGTH:
        return None
    listed = [name.strip(_WHITESPACE).lower() for name in names.strip(_WHITESPACE).split(" ")]
    others = [name for name in listed if name != DATE_HEADER]
    if len(others) > MAX_SIGNED_HEADERS or len(set(others)) < len(others):
        return None
    values = [headers.get(name, "") for name in others]
    if not all(values):
        return None
    pairs = [f"{name}={value}" for name, value in zip(others, values, strict=True)]
    return _bytes(",".join([key_id, f"{DATE_HEADER}={date}", *pairs]))


def _bytes(message: str) -> bytes | None:
    """The bytes as received: headers are decoded as Latin-1."""
    try:
        return message.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _is_stream(request: RequestCredentials) -> bool:
    """Whether the request opens a stream, and does not name an instance called "stream"."""
    return request.method == "GET" and _STREAM.fullmatch(request.path) is not None
