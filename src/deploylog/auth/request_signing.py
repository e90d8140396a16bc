"""Signatures of whole requests: method, path, query, chosen headers and body.

Who overhears one can send that request again, unchanged, while its date is fresh; not another.
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
from deploylog.auth.replay_cache import Replays
from deploylog.auth.store import AccessKeyKind, Credentials
from deploylog.errors import Unauthenticated
from deploylog.events.access import Principal
from deploylog.events.times import SECOND

#: Seconds that a date may be from now, either way.
WINDOW = 900

#: Refused signatures of which the log tells at once; then it is one a second.
LOG_BURST = 5

#: The most headers that a signature may name.
MOST_NAMES = 64

#: Methods that change nothing, however often the same request comes.
_HARMLESS = frozenset({"GET", "HEAD"})

_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")

#: The names of headers, in lower case, as SignedHeaders lists them.
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(;[a-z0-9!#$%&'*+.^_`|~-]+)*")

#: Headers that change what a request does. ``Content-Type`` does so as well, but only with a body:
#: see ``require_acting_signed``. What the service only checks or repeats is not here
#: (``X-Project-Id``, ``Client-Request-Id``), nor is what it ignores (``Accept``, ``X-Language``).
_ACTING = ("content-encoding", "idempotency-key", "last-event-id")
_ACTING_PREFIX = "ce-"

#: The type that clients add on their own to a form, after they sign. Only ``POST /`` takes it, and
#: takes every body for a form, so it changes nothing.
_FORM = "application/x-www-form-urlencoded"

_LOGGER = logging.getLogger(__name__)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Authorization`` says of a request's signature."""

    key_id: str
    #: As it was sent: ``20240102T030405Z``.
    date: str
    #: The same in seconds since 1970.
    seconds: int
    #: What the key is narrowed to: date, region and service. Only AWS has one.
    scope: str = ""
    #: The signed headers, in order.
    names: tuple[str, ...]
    #: In lower-case hexadecimal.
    signature: str


class Scheme(Protocol):
    """One way of signing a whole request."""

    #: Whose keys it is used with.
    kind: AccessKeyKind

    def parse(self, presented: RequestCredentials) -> Claim | None:
        """What the request says; ``None`` when it is not signed this way.

        Raises Unauthenticated, malformed, when it cannot be read, or leaves out what must be
        signed.
        """
        ...

    def signatures(
        self, presented: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        """Those that are good for this request with this body, the likeliest first.

        Raises Unauthenticated when none is.
        """
        ...


class RequestSignatures:
    """Knows the principals of one scheme's signatures."""

    def __init__(
        self,
        scheme: Scheme,
        credentials: Credentials,
        seal: Encryptor | None,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """Without ``seal`` no signature is good. ``clock`` gives ns, ``monotonic`` seconds."""
        self.kind: str = scheme.kind
        self._scheme = scheme
        self._known = AccessKeyCache(scheme.kind, credentials, seal, clock=monotonic)
        self._clock = clock
        # One that is dated early is good for twice as long.
        self._replays = Replays(lifetime=2 * WINDOW, clock=monotonic)
        self._said = RateLimiter(1, burst=LOG_BURST, clock=monotonic)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        if not presented.is_signed_request:
            return None
        try:
            claim = self._scheme.parse(presented)
            return None if claim is None else await self._principal(presented, claim)
        except Unauthenticated as error:
            # Whoever sets it up must be able to tell. A key's id may be a secret, if somebody
            # has mixed the two up.
            if not self._said.acquire(""):
                _LOGGER.info("a signature of kind %s was refused: %s", self.kind, error.reason)
            raise

    async def is_valid(self, principal: Principal) -> bool:
        return await self._known.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        known = await self._known.get(id)
        return known[0] if known is not None else None

    async def _principal(self, presented: RequestCredentials, claim: Claim) -> Principal:
        known = await self._known.get(claim.key_id)
        if known is None:
            raise Unauthenticated(reason="unknown_key")
        if abs(self._clock() // SECOND - claim.seconds) > WINDOW:
            raise Unauthenticated(reason="expired")
        principal, secret = known
        # Last, so that strangers cannot have us keep large bodies.
        body = await presented.body()
        if not _is_one_of(claim.signature, self._scheme.signatures(presented, claim, body, secret)):
            raise Unauthenticated(reason="bad_signature")
        require_acting_signed(presented, claim, body)
        if presented.method not in _HARMLESS and self._replays.is_replay(claim.signature):
            raise Unauthenticated(reason="expired")
        return principal


def parse_date(text: str) -> int:
    """Seconds since 1970 of a date in the form that both vendors use; raises Unauthenticated."""
    try:
        if _DATE.fullmatch(text):
            return int(datetime.strptime(f"{text}+0000", "%Y%m%dT%H%M%SZ%z").timestamp())
    except ValueError:
        pass
    raise malformed()


def parse_names(text: str, *, required: Iterable[str]) -> tuple[str, ...]:
    """The names in SignedHeaders; raises Unauthenticated unless each is there once, and all
    that are ``required``.
    """
    if text.count(";") >= MOST_NAMES:
        raise malformed()
    names = tuple(text.split(";"))
    if not _NAMES.fullmatch(text) or len(set(names)) < len(names) or not {*required} <= {*names}:
        raise malformed()
    return names


def signed_values(presented: RequestCredentials, names: Sequence[str]) -> list[bytes]:
    """The value of each header; raises Unauthenticated unless each was sent once.

    Of a header that is sent twice one value could be verified, and the other one used.
    """
    wanted = {name.encode(): index for index, name in enumerate(names)}
    values: list[bytes | None] = [None] * len(names)
    for name, value in presented.raw_headers:
        index = wanted.get(name)
        if index is not None:
            if values[index] is not None:
                raise malformed()
            values[index] = value
    found = [value for value in values if value is not None]
    if len(found) < len(names):
        raise malformed()
    return found


def decoded_pairs(query: str) -> list[tuple[bytes, bytes]]:
    """The names and values of a query.

    A ``+`` stays one: neither vendor means a blank by it.
    """
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return [(_decoded(name), _decoded(value)) for name, _, value in pieces]


def encoded_pair(name: bytes, value: bytes) -> tuple[str, str]:
    """Both with everything encoded but letters, digits and ``-_.~``."""
    return quote(name, safe="~"), quote(value, safe="~")


def joined(pairs: Iterable[tuple[str, str]]) -> str:
    """The query of these pairs."""
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_request(
    presented: RequestCredentials,
    claim: Claim,
    *,
    path: str,
    query: str,
    values: Iterable[bytes],
    payload: str,
) -> bytes:
    """The text that both vendors hash; ``payload`` is the body's own hash."""
    headers = [
        name.encode() + b":" + value for name, value in zip(claim.names, values, strict=True)
    ]
    lines = [
        presented.method.encode(),
        path.encode(),
        query.encode("latin-1"),
        *headers,
        b"",
        ";".join(claim.names).encode(),
        payload.encode(),
    ]
    return b"\n".join(lines)


def hexadecimal(data: bytes) -> str:
    """The SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def malformed() -> Unauthenticated:
    """The error for what cannot be read as a signature."""
    return Unauthenticated(reason="malformed")


def check_payload(declared: str, body: bytes) -> str:
    """The ``declared`` hash; raises Unauthenticated unless it is the body's."""
    if declared != hexadecimal(body):
        raise Unauthenticated(reason="bad_signature")
    return declared


def require_acting_signed(presented: RequestCredentials, claim: Claim, body: bytes) -> None:
    """Raise Unauthenticated unless every header that acts is signed: an unsigned one could be
    added or changed on the way.
    """
    sent = {name.decode("latin-1") for name, _ in presented.raw_headers}
    acting = {name for name in sent if name in _ACTING or name.startswith(_ACTING_PREFIX)}
    if body and (acting or not _is_form(presented)):
        acting |= sent & {"content-type"}
    if not acting <= {*claim.names}:
        raise malformed()


def _is_form(presented: RequestCredentials) -> bool:
    values = [value for name, value in presented.raw_headers if name == b"content-type"]
    return all(value.partition(b";")[0].strip().lower() == _FORM.encode() for value in values)


def _is_one_of(signature: str, good: Iterator[str]) -> bool:
    return any(hmac.compare_digest(signature, each) for each in good)


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.encode("latin-1"))
