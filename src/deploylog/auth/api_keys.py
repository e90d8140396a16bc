"""API keys: ``dlk_<id>_<secret>``, in a header, or in a cookie.

The secret is 256 random bits, so its plain SHA-256 cannot be guessed back; only that is kept.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.cache import TtlCache
from deploylog.auth.store import Credential, Credentials
from deploylog.errors import KeyNotFound
from deploylog.events.access import Grant, Principal

PREFIX = "dlk"

#: Where a key may stand, beside ``Authorization``.
HEADERS = ("x-api-key", "bluelink-api-key", "x-escape-token", "x-auth-token")

#: The cookie that may hold one; browsers send it by themselves.
COOKIE = "x-escape-token"

_Known = tuple[Principal, bytes]


def make_key(
    *, name: str, groups: Sequence[str], grants: Sequence[Grant], now: int
) -> tuple[Credential, str]:
    """A new key as it is stored, and as its owner is told it, once; ``now`` in ns."""
    id, secret = secrets.token_hex(8), secrets.token_hex(32)
    stored = Credential(
        kind="key",
        id=id,
        name=name,
        secret=_digest(secret),
        groups=tuple(sorted(set(groups))),
        grants=tuple(grants),
        created=now,
    )
    return stored, f"{PREFIX}_{id}_{secret}"


class ApiKeys:
    """Knows the principals of API keys."""

    kind = "key"

    def __init__(self, credentials: Credentials, *, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._credentials = credentials
        self._known = TtlCache(self._look_up, clock=clock)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        for id, secret in _keys_of(presented):
            known = await self._known.get(id)
            if known is not None and hmac.compare_digest(known[1], _digest(secret)):
                return known[0]
        return None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._known.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        known = await self._known.get(id)
        return known[0] if known is not None else None

    async def _look_up(self, id: str) -> _Known | None:
        """The principal of a key that is not revoked, and the digest of its secret."""
        try:
            key = await self._credentials.get("key", id)
        except KeyNotFound:
            return None
        return None if key.revoked is not None else (self._principal(key), key.secret)

    def _principal(self, key: Credential) -> Principal:
        return Principal(
            name=key.name,
            id=key.id,
            groups=frozenset(key.groups),
            grants=key.grants,
            kind=self.kind,
        )


def _keys_of(presented: RequestCredentials) -> Iterator[tuple[str, str]]:
    """The id and the secret of each key that the request shows."""
    named = (presented.headers.get(name, "").strip() for name in HEADERS)
    for text in (presented.bearer, presented.password, *named, _cookie(presented)):
        prefix, _, rest = text.partition("_")
        id, _, secret = rest.partition("_")
        if prefix == PREFIX and id and secret:
            yield id, secret


def _cookie(presented: RequestCredentials) -> str:
    """What the cookie holds; nothing when another site's page has the browser send it."""
    headers = presented.headers
    if "cookie" not in headers or headers.get("origin", "") not in ("", *_own_origins(headers)):
        return ""
    pairs = (pair.partition("=") for pair in headers["cookie"].split(";"))
    values = {name.strip().lower(): value.strip(' "') for name, _, value in pairs}
    return values.get(COOKIE, "")


def _own_origins(headers: Mapping[str, str]) -> tuple[str, str]:
    host = headers.get("host", "")
    return (f"http://{host}", f"https://{host}")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
