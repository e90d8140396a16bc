"""Signatures of whole requests: method, path, query, selected headers and body.

An eavesdropper can replay the same request while its date is fresh, but cannot send another.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

import msgspec

from deploylog.auth.access_keys import AccessKeyCache
from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.encryption import Encryptor
from deploylog.auth.rate_limit import RateLimiter
from deploylog.auth.replay_cache import ReplayCache
from deploylog.auth.store import AccessKeyKind, Credentials, Signatures
from deploylog.errors import Unauthenticated
from deploylog.events.access import Principal
from deploylog.events.times import SECOND

#: Allowed difference between the date and the clock, in seconds, either way.
WINDOW = 900

#: Rejected signatures that are logged in a burst; after that, one a second.
LOG_BURST = 5

#: Maximum number of headers that a signature may name.
MAX_SIGNED_HEADERS = 64

#: Methods without side effects, for which a replay is harmless.
_SAFE_METHODS = frozenset({"GET", "HEAD"})

_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")

#: Lower-case header names, as ``SignedHeaders`` lists them.
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(;[a-z0-9!#$%&'*+.^_`|~-]+)*")

#: Headers that change the effect of a request. ``Content-Type`` does too, but only with a body: see
#: ``require_effective_signed``. Headers that the server only checks or repeats (``X-Project-Id``,
#: ``Client-Request-Id``) or ignores (``Accept``, ``X-Language``) are not listed.
_EFFECTIVE = ("content-encoding", "idempotency-key", "last-event-id")
_EFFECTIVE_PREFIX = "ce-"

#: The media type that clients add to a form after signing. Only ``POST /`` accepts it, and it
#: parses every body as a form, so the header has no effect.
_FORM = "application/x-www-form-urlencoded"

_LOGGER = logging.getLogger(__name__)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that a request claims to have. Nothing in it is verified."""

    key_id: str
    #: As sent: ``20240102T030405Z``.
    date: str
    #: The date in seconds since 1970.
    seconds: int
    #: What the signing key is limited to: date, region and service. Only AWS has one.
    scope: str = ""
    #: The signed headers, in order.
    names: tuple[str, ...]
    #: In lower-case hexadecimal.
    signature: str


class Scheme(Protocol):
    """One vendor's algorithm for signing a whole request."""

    #: The kind of access key that signs.
    kind: AccessKeyKind

    def parse(self, request: RequestCredentials) -> Claim | None:
        """Parse the signature; ``None`` if the request is not signed with this scheme.

        Raises Unauthenticated (malformed) if it cannot be parsed, or a required header is not
        signed.
        """
        ...

    def signatures(
        self, request: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        """Yield the valid signatures of this request with this body, the most likely first.

        Raises Unauthenticated if there is none.
        """
        ...


class RequestSignatures:
    """Authenticates the signatures of one scheme."""

    def __init__(
        self,
        scheme: Scheme,
        credentials: Credentials,
        encryptor: Encryptor | None,
        signatures: Signatures,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """Without ``encryptor`` every signature is rejected. ``clock`` gives ns, ``monotonic``
        seconds.
        """
        self.kind: str = scheme.kind
        self._scheme = scheme
        self._keys = AccessKeyCache(scheme.kind, credentials, encryptor, clock=monotonic)
        self._clock = clock
        # A signature dated in the future is valid for up to twice the window.
        self._replays = ReplayCache(signatures, lifetime=2 * WINDOW, clock=clock)
        self._log_limit = RateLimiter(1, burst=LOG_BURST, clock=monotonic)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        if not request.is_signed_request:
            return None
        try:
            claim = self._scheme.parse(request)
            return None if claim is None else await self._principal(request, claim)
        except Unauthenticated as error:
            # The operator needs the reason. The key id is not logged: it may be a secret that the
            # user has mixed up with it.
            if not self._log_limit.acquire(""):
                _LOGGER.info("rejected a %s signature: %s", self.kind, error.reason)
            raise

    async def is_valid(self, principal: Principal) -> bool:
        return await self._keys.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        found = await self._keys.get(id)
        return found[0] if found is not None else None

    async def _principal(self, request: RequestCredentials, claim: Claim) -> Principal:
        found = await self._keys.get(claim.key_id)
        if found is None:
            raise Unauthenticated(reason="unknown_key")
        if abs(self._clock() // SECOND - claim.seconds) > WINDOW:
            raise Unauthenticated(reason="expired")
        principal, secret = found
        # Last, so that unauthenticated clients cannot make the server buffer large bodies.
        body = await request.body()
        if not _matches_any(claim.signature, self._scheme.signatures(request, claim, body, secret)):
            raise Unauthenticated(reason="bad_signature")
        require_effective_signed(request, claim, body)
        if request.method not in _SAFE_METHODS and await self._replays.is_replay(claim.signature):
            raise Unauthenticated(reason="expired")
        return principal


def parse_date(text: str) -> int:
    """Parse a date in the format of both vendors to seconds since 1970; raises Unauthenticated."""
    try:
        if _DATE.fullmatch(text):
            return int(datetime.strptime(f"{text}+0000", "%Y%m%dT%H%M%SZ%z").timestamp())
    except ValueError:
        pass
    raise malformed()


def parse_names(text: str, *, required: Iterable[str]) -> tuple[str, ...]:
    """Parse ``SignedHeaders``; raises Unauthenticated if a name repeats or a required one is
    missing.
    """
    if text.count(";") >= MAX_SIGNED_HEADERS:
        raise malformed()
    names = tuple(text.split(";"))
    if not _NAMES.fullmatch(text) or len(set(names)) < len(names) or not {*required} <= {*names}:
        raise malformed()
    return names


def signed_values(request: RequestCredentials, names: Sequence[str]) -> list[bytes]:
    """The value of each header; raises Unauthenticated unless each was sent exactly once.

    With a repeated header, one value could be verified and the other one used.
    """
    indexes = {name.encode(): index for index, name in enumerate(names)}
    values: list[bytes | None] = [None] * len(names)
    for name, value in request.raw_headers:
        index = indexes.get(name)
        if index is not None:
            if values[index] is not None:
                raise malformed()
            values[index] = value
    sent = [value for value in values if value is not None]
    if len(sent) < len(names):
        raise malformed()
    return sent


def decode_query(query: str) -> list[tuple[bytes, bytes]]:
    """Decode names and values. A ``+`` stays: neither vendor decodes it to a space."""
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return [(_decoded(name), _decoded(value)) for name, _, value in pieces]


def encode_pair(name: bytes, value: bytes) -> tuple[str, str]:
    """Percent-encode everything but letters, digits and ``-_.~``."""
    return quote(name, safe="~"), quote(value, safe="~")


def join_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Join encoded pairs in the order given."""
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_request(
    request: RequestCredentials,
    claim: Claim,
    *,
    path: str,
    query: str,
    values: Iterable[bytes],
    payload: str,
) -> bytes:
    """The canonical request that both vendors hash; ``payload`` is the body's hash."""
    headers = [
        name.encode() + b":" + value for name, value in zip(claim.names, values, strict=True)
    ]
    lines = [
        request.method.encode(),
        path.encode(),
        query.encode("latin-1"),
        *headers,
        b"",
        ";".join(claim.names).encode(),
        payload.encode(),
    ]
    return b"\n".join(lines)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def malformed() -> Unauthenticated:
    """The error of a signature that cannot be parsed."""
    return Unauthenticated(reason="malformed")


def check_payload(declared: str, body: bytes) -> str:
    """Return ``declared``; raises Unauthenticated unless it is the body's hash."""
    if declared != sha256_hex(body):
        raise Unauthenticated(reason="bad_signature")
    return declared


def require_effective_signed(request: RequestCredentials, claim: Claim, body: bytes) -> None:
    """Raise Unauthenticated unless every header that changes the effect of the request is signed:
    an unsigned one could be added or changed in transit.
    """
    sent = {name.decode("latin-1") for name, _ in request.raw_headers}
    effective = {name for name in sent if name in _EFFECTIVE or name.startswith(_EFFECTIVE_PREFIX)}
    if body and (effective or not _is_form(request)):
        effective |= sent & {"content-type"}
    if not effective <= {*claim.names}:
        raise malformed()


def _is_form(request: RequestCredentials) -> bool:
    values = [value for name, value in request.raw_headers if name == b"content-type"]
    return all(value.partition(b";")[0].strip().lower() == _FORM.encode() for value in values)


def _matches_any(signature: str, valid: Iterator[str]) -> bool:
    return any(hmac.compare_digest(signature, each) for each in valid)


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.encode("latin-1"))
