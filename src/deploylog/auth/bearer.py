"""Bearer tokens: JSON Web Tokens of one OAuth 2 or OpenID Connect issuer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

import jwt

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.oidc import Issuer, PublicKey, SigningKeys, open_session
from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import InvalidInput, Reason, Unauthenticated
from deploylog.events.access import Grant, Principal, parse_grant
from deploylog.events.event import MAX_NAME_LENGTH
from deploylog.events.times import SECOND

_LOGGER = logging.getLogger(__name__)

#: Longer tokens are refused unread.
MOST_CHARACTERS = 16 * 1024

#: Refused tokens of which the log tells at once; then it is one a second.
LOG_BURST = 5

#: Claims that a person is called by, the best first.
_NAMES = ("preferred_username", "email", "sub")

#: Seconds since 1970 that no time comes to; it is not a number of ms, or none at all.
_NEVER = 100_000_000_000

#: Times are checked here, against our clock.
_OPTIONS: Any = {
    "require": ["iss", "sub", "aud", "exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class InvalidToken(Exception):
    """A token is not good; the message says why, without what it holds."""

    def __init__(self, message: str, reason: Reason = "malformed") -> None:
        """The ``reason`` is what its sender may be told."""
        super().__init__(message)
        self.reason = reason


class BearerTokens:
    """Knows the principals of an issuer's tokens."""

    kind = "token"

    def __init__(self, issuer: Issuer, keys: SigningKeys, *, clock: Callable[[], int]) -> None:
        """``clock`` gives ns since 1970."""
        self._issuer = issuer
        self._keys = keys
        self._clock = clock
        self._said = RateLimiter(1, burst=LOG_BURST, clock=lambda: clock() / SECOND)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        # Clients of Huawei Cloud have a header of their own for it.
        shown = (presented.bearer, presented.headers.get("x-auth-token", ""))
        token = next(filter(_is_token, shown), None)
        if token is None:
            return None
        try:
            return await self._principal(token)
        except InvalidToken as refused:
            # Whoever sets it up must be able to tell; who sent it must not.
            if not self._said.acquire(""):
                _LOGGER.info("a token was refused: %s", refused)
            raise Unauthenticated(reason=refused.reason) from None

    async def _principal(self, token: str) -> Principal:
        """Whose token it is; raises Refused, or Unavailable."""
        algorithm, id = _parse_header(token)
        if algorithm not in self._issuer.algorithms:
            raise InvalidToken(f"its algorithm is {algorithm!r}")
        key = await self._keys.get(id, algorithm)
        if key is None:
            raise InvalidToken(f"the issuer has no key {id!r} for {algorithm}", "unknown_key")
        claims = _verify(token, key, algorithm, self._issuer)
        return parse_principal(claims, self._issuer, now=self._clock())

    async def is_valid(self, principal: Principal) -> bool:
        return principal.expires is not None and self._clock() < principal.expires

    async def find(self, id: str) -> Principal | None:
        return None


@asynccontextmanager
async def open_bearer_tokens(
    issuer: Issuer, *, clock: Callable[[], int]
) -> AsyncIterator[BearerTokens]:
    """The tokens of ``issuer``, whose keys are kept fresh in the block; ``clock`` gives ns.

    It does not wait for the issuer, which may come up later.
    """
    async with open_session() as http, asyncio.TaskGroup() as tasks:
        keys = SigningKeys(issuer, http, tasks, clock=clock)
        refreshing = tasks.create_task(keys.stay_fresh())
        try:
            yield BearerTokens(issuer, keys, clock=clock)
        finally:
            refreshing.cancel()
            keys.close()


def parse_principal(claims: Mapping[str, Any], issuer: Issuer, *, now: int) -> Principal:
    """Who the ``claims`` of a verified token are of; raises Refused. ``now`` in ns."""
    expires, subject = _expiry(claims, issuer.leeway, now), claims.get("sub")
    if not _is_name(subject):
        raise InvalidToken("it has no sub that can be a name")
    names = [claims.get(name) for name in _NAMES]
    return Principal(
        name=next(name for name in names if _is_name(name)),
        id=f"{issuer.url}#{subject}",
        groups=frozenset(_words(_claim(claims, issuer.groups_claim))),
        grants=_grants(claims, issuer),
        kind=BearerTokens.kind,
        expires=expires,
    )


def _is_name(claim: object) -> TypeGuard[str]:
    """Whether somebody, or a group, can be called so: it will stand in events and in answers."""
    if not isinstance(claim, str) or not 1 <= len(claim) <= MAX_NAME_LENGTH or "\0" in claim:
        return False
    # JSON can write half of a character, which nothing else can.
    return not any("\ud800" <= character <= "\udfff" for character in claim)


def _is_token(text: str) -> bool:
    """Whether the text is meant as one."""
    return text.count(".") == 2 and len(text) <= MOST_CHARACTERS


def _parse_header(token: str) -> tuple[str, str]:
    """The algorithm and the key id that a token names."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken("it cannot be read") from None
    algorithm, id = header.get("alg"), header.get("kid")
    if not (isinstance(algorithm, str) and isinstance(id, str)):
        raise InvalidToken("it names no algorithm and key")
    return algorithm[:64], id[:256]


def _verify(token: str, key: PublicKey, algorithm: str, issuer: Issuer) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.names,
            options=_OPTIONS,
        )
    except jwt.InvalidSignatureError as error:
        raise InvalidToken(str(error), "bad_signature") from None
    except jwt.PyJWTError as error:
        # Its words name claims, not what they hold.
        raise InvalidToken(str(error)[:256]) from None
    except (ValueError, TypeError, RecursionError):
        raise InvalidToken("it cannot be read") from None


def _expiry(claims: Mapping[str, Any], leeway: int, now: int) -> int:
    """When the token ends, in ns; raises Refused outside its time."""
    end, begun, issued = (_ns(claims.get(name)) for name in ("exp", "nbf", "iat"))
    if end is None or ("nbf" in claims and begun is None) or ("iat" in claims and issued is None):
        raise InvalidToken("its exp, nbf or iat is no time")
    expires, latest = end + leeway * SECOND, now + leeway * SECOND
    if not all(time is None or time <= latest for time in (begun, issued)):
        raise InvalidToken("its time has not come", "expired")
    if now >= expires:
        raise InvalidToken("it has expired", "expired")
    return expires


def _ns(seconds: object) -> int | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return int(seconds * SECOND) if abs(seconds) < _NEVER else None


def _grants(claims: Mapping[str, Any], issuer: Issuer) -> tuple[Grant, ...]:
    """What the claim gives; the default only if there is no such claim."""
    claim = _claim(claims, issuer.grants_claim)
    if claim is None:
        return issuer.default_grants
    parsed = (_grant(text) for text in _words(claim))
    return tuple(grant for grant in parsed if grant is not None)


def _grant(text: str) -> Grant | None:
    """A grant that we do not understand gives no rights."""
    try:
        return parse_grant(text)
    except InvalidInput:
        return None


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or the value at its dotted path; ``None`` if there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _words(claim: object) -> tuple[str, ...]:
    """A list of strings, or one string of words; what is neither holds none."""
    words = claim.split() if isinstance(claim, str) else claim
    return tuple(filter(_is_name, words)) if isinstance(words, list) else ()
