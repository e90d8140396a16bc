"""Bearer tokens: JSON Web Tokens of one OAuth 2 or OpenID Connect issuer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt

from deploylog.auth import Presented
from deploylog.auth.issuer import Issuer, PublicKey, SigningKeys, open_session
from deploylog.errors import InvalidInput
from deploylog.principals import Grant, Principal, parse_grant
from deploylog.times import SECOND

#: Longer tokens are refused unread.
MOST_CHARACTERS = 16 * 1024

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


class Tokens:
    """Knows the principals of an issuer's tokens."""

    kind = "token"

    def __init__(self, issuer: Issuer, keys: SigningKeys, *, clock: Callable[[], int]) -> None:
        """``clock`` gives ns since 1970."""
        self._issuer = issuer
        self._keys = keys
        self._clock = clock

    async def principal(self, presented: Presented) -> Principal | None:
        """See ``Authenticator``."""
        token = presented.bearer
        named = _parse_header(token)
        if named is None or named[0] not in self._issuer.algorithms:
            return None
        algorithm, id = named
        key = await self._keys.get(id, algorithm)
        claims = _verify(token, key, algorithm, self._issuer) if key is not None else None
        if claims is None:
            return None
        return parse_principal(claims, self._issuer, now=self._clock())

    async def is_valid(self, principal: Principal) -> bool:
        """See ``Authenticator``."""
        return principal.expires is not None and self._clock() < principal.expires


@asynccontextmanager
async def open_tokens(issuer: Issuer, *, clock: Callable[[], int]) -> AsyncIterator[Tokens]:
    """The tokens of ``issuer``, whose keys are kept fresh in the block; ``clock`` gives ns.

    It does not wait for the issuer, which may come up later.
    """
    async with open_session() as http, asyncio.TaskGroup() as tasks:
        keys = SigningKeys(issuer, http, tasks, clock=clock)
        refreshing = tasks.create_task(keys.stay_fresh())
        try:
            yield Tokens(issuer, keys, clock=clock)
        finally:
            refreshing.cancel()
            keys.close()


def parse_principal(claims: Mapping[str, Any], issuer: Issuer, *, now: int) -> Principal | None:
    """Who the ``claims`` of a verified token are of; ``None`` outside their time. ``now`` in ns."""
    subject, expires = claims.get("sub"), _expiry(claims, issuer.leeway, now)
    if not subject or not isinstance(subject, str) or expires is None:
        return None
    names = [claims.get(name) for name in _NAMES]
    return Principal(
        name=next(name for name in names if isinstance(name, str) and name),
        id=f"{issuer.url}#{subject}",
        groups=frozenset(_words(_claim(claims, issuer.groups_claim))),
        grants=_grants(claims, issuer),
        kind=Tokens.kind,
        expires=expires,
    )


def _parse_header(token: str) -> tuple[str, str] | None:
    """The algorithm and the key id that a token names."""
    if not token or len(token) > MOST_CHARACTERS or token.count(".") != 2:
        return None
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    algorithm, id = header.get("alg"), header.get("kid")
    return (algorithm, id) if isinstance(algorithm, str) and isinstance(id, str) else None


def _verify(token: str, key: PublicKey, algorithm: str, issuer: Issuer) -> dict[str, Any] | None:
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.names,
            options=_OPTIONS,
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None


def _expiry(claims: Mapping[str, Any], leeway: int, now: int) -> int | None:
    """When the token ends, in ns; ``None`` outside its time."""
    end, begun, issued = (_ns(claims.get(name)) for name in ("exp", "nbf", "iat"))
    if end is None or ("nbf" in claims and begun is None) or ("iat" in claims and issued is None):
        return None
    expires, latest = end + leeway * SECOND, now + leeway * SECOND
    is_begun = all(time is None or time <= latest for time in (begun, issued))
    return expires if is_begun and now < expires else None


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
    if isinstance(claim, str):
        return tuple(claim.split())
    if isinstance(claim, list):
        return tuple(word for word in claim if isinstance(word, str) and word)
    return ()
