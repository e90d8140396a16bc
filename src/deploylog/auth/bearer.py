"""Bearer tokens: JSON Web Tokens (JWT) of one OAuth 2 or OpenID Connect issuer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

import jwt

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.oidc import Issuer, PublicKey, SigningKeys
from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import InvalidInput, Reason, Unauthenticated
from deploylog.events.access import Grant, Principal, parse_grant
from deploylog.events.event import MAX_NAME_LENGTH
from deploylog.events.times import SECOND

_LOGGER = logging.getLogger(__name__)

#: Maximum length of a token, in characters; a longer one is rejected unread.
MAX_TOKEN_LENGTH = 16 * 1024

#: Rejected tokens that are logged in a burst; after that, one a second.
LOG_BURST = 5

#: Claims that name the principal, in order of preference.
_NAME_CLAIMS = ("preferred_username", "email", "sub")

#: Upper bound of a time, in seconds since 1970; a larger number is in ms, or no time at all.
_MAX_SECONDS = 100_000_000_000

#: ``_expiry`` checks the times, against the injected clock.
_OPTIONS: Any = {
    "require": ["iss", "sub", "aud", "exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class InvalidToken(Exception):
    """The token is not valid. The message says why, without disclosing the token's contents."""

    def __init__(self, message: str, reason: Reason = "malformed") -> None:
        """``reason`` is what the client may learn."""
        super().__init__(message)
        self.reason = reason


class BearerTokens:
    """Authenticates the tokens of one issuer."""

    kind = "token"

    def __init__(self, issuer: Issuer, keys: SigningKeys, *, clock: Callable[[], int]) -> None:
        """``clock`` gives ns since 1970."""
        self._issuer = issuer
        self._keys = keys
        self._clock = clock
        self._log_limit = RateLimiter(1, burst=LOG_BURST, clock=lambda: clock() / SECOND)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        # Huawei Cloud's clients send tokens in a header of their own.
        candidates = (request.bearer, request.headers.get("x-auth-token", ""))
        token = next(filter(_is_token, candidates), None)
        if token is None:
            return None
        try:
            return await self._principal(token)
        except InvalidToken as error:
            # The operator needs the details; the client must not see them.
            if not self._log_limit.acquire(""):
                _LOGGER.info("rejected a token: %s", error)
            raise Unauthenticated(reason=error.reason) from None

    async def _principal(self, token: str) -> Principal:
        claims = await self.claims(token)
        return parse_principal(claims, self._issuer, now=self._clock())

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that the issuer signed; raises InvalidToken, or Unavailable."""
        algorithm, id = _parse_header(token)
        if algorithm not in self._issuer.algorithms:
            raise InvalidToken(f"algorithm {algorithm!r} is not accepted")
        key = await self._keys.get(id, algorithm)
        if key is None:
            raise InvalidToken(f"the issuer has no key {id!r} for {algorithm}", "unknown_key")
        return _verify(token, key, algorithm, self._issuer)

    async def is_valid(self, principal: Principal) -> bool:
        return principal.expires is not None and self._clock() < principal.expires

    async def find(self, id: str) -> Principal | None:
        return None


@asynccontextmanager
async def open_bearer_tokens(
    issuer: Issuer, *, clock: Callable[[], int]
) -> AsyncIterator[BearerTokens]:
    """Refresh the keys of ``issuer`` within the block; ``clock`` gives ns.

    Does not wait for the issuer, which may start later.
    """
    # Imported here: few services have an issuer, and aiohttp would be a quarter of a start.
    from deploylog.auth.issuer_http import open_http

    async with open_http() as http, asyncio.TaskGroup() as tasks:
        keys = SigningKeys(issuer, http, tasks, clock=clock)
        refreshing = tasks.create_task(keys.refresh_periodically())
        try:
            yield BearerTokens(issuer, keys, clock=clock)
        finally:
            refreshing.cancel()
            keys.close()


def parse_principal(claims: Mapping[str, Any], issuer: Issuer, *, now: int) -> Principal:
    """Return the principal of a verified token's claims; raises InvalidToken. ``now`` in ns."""
    expires, subject = _expiry(claims, issuer.leeway, now), claims.get("sub")
    if not _is_name(subject):
        raise InvalidToken("sub is missing or not a valid name")
    names = [claims.get(name) for name in _NAME_CLAIMS]
    return Principal(
        name=next(name for name in names if _is_name(name)),
        id=f"{issuer.url}#{subject}",
        groups=frozenset(_words(_claim(claims, issuer.groups_claim))),
        grants=_grants(claims, issuer),
        kind=BearerTokens.kind,
        expires=expires,
    )


def _is_name(claim: object) -> TypeGuard[str]:
    """Whether the claim can name a principal or a group, as events and responses show it."""
    if not isinstance(claim, str) or not 1 <= len(claim) <= MAX_NAME_LENGTH or "\0" in claim:
        return False
    # JSON can encode a lone surrogate, which UTF-8 cannot.
    return not any("\ud800" <= character <= "\udfff" for character in claim)


def _is_token(text: str) -> bool:
    """Whether the text has the form of a JWT."""
    return text.count(".") == 2 and len(text) <= MAX_TOKEN_LENGTH


def _parse_header(token: str) -> tuple[str, str]:
    """The algorithm and key id in the token's header; raises InvalidToken."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken("the token cannot be parsed") from None
    algorithm, id = header.get("alg"), header.get("kid")
    if not (isinstance(algorithm, str) and isinstance(id, str)):
        raise InvalidToken("the header lacks alg or kid")
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
        # PyJWT's messages name claims, not their values.
        raise InvalidToken(str(error)[:256]) from None
    except (ValueError, TypeError, RecursionError):
        raise InvalidToken("the token cannot be parsed") from None


def _expiry(claims: Mapping[str, Any], leeway: int, now: int) -> int:
    """When the token expires, in ns; raises InvalidToken outside its validity period."""
    expiry, not_before, issued = (_ns(claims.get(name)) for name in ("exp", "nbf", "iat"))
    is_missing = any(
        time is None and name in claims for name, time in (("nbf", not_before), ("iat", issued))
    )
    if expiry is None or is_missing:
        raise InvalidToken("exp, nbf or iat is not a time")
    expires, latest = expiry + leeway * SECOND, now + leeway * SECOND
    if not all(time is None or time <= latest for time in (not_before, issued)):
        raise InvalidToken("the token is not valid yet", "expired")
    if now >= expires:
        raise InvalidToken("the token has expired", "expired")
    return expires


def _ns(seconds: object) -> int | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return int(seconds * SECOND) if abs(seconds) < _MAX_SECONDS else None


def _grants(claims: Mapping[str, Any], issuer: Issuer) -> tuple[Grant, ...]:
    """The grants in the claim, or the default if the claim is absent."""
    claim = _claim(claims, issuer.grants_claim)
    if claim is None:
        return issuer.default_grants
    parsed = (_grant(text) for text in _words(claim))
    return tuple(grant for grant in parsed if grant is not None)


def _grant(text: str) -> Grant | None:
    """``None`` for a grant that cannot be parsed: it grants nothing."""
    try:
        return parse_grant(text)
    except InvalidInput:
        return None


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or the value at its dotted path; ``None`` if absent."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _words(claim: object) -> tuple[str, ...]:
    """The words of a list of strings, or of one string; empty for any other type."""
    words = claim.split() if isinstance(claim, str) else claim
    return tuple(filter(_is_name, words)) if isinstance(words, list) else ()
