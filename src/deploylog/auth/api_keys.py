"""API keys: ``dlk_<id>_<secret>``, in a header or a cookie.

The secret is 256 random bits, so its plain SHA-256 cannot be reversed; only the digest is stored.
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

#: Headers that may carry a key, besides ``Authorization``.
HEADERS = ("x-api-key", "bluelink-api-key", "x-escape-token", "x-auth-token")

#: The cookie that may carry a key. Browsers send it on their own.
COOKIE = "x-escape-token"

_PrincipalAndDigest = tuple[Principal, bytes]


def make_key(
    *, name: str, groups: Sequence[str], grants: Sequence[Grant], now: int
) -> tuple[Credential, str]:
    """Return a new key as it is stored, and as its owner sees it, once; ``now`` in ns."""
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
    """Authenticates API keys."""

    kind = "key"

    def __init__(self, credentials: Credentials, *, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._credentials = credentials
        self._cache = TtlCache(self._load, clock=clock)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        for id, secret in _keys_in(request):
            found = await self._cache.get(id)
            if found is not None and hmac.compare_digest(found[1], _digest(secret)):
                return found[0]
        return None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._cache.get(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        found = await self._cache.get(id)
        return found[0] if found is not None else None

    async def _load(self, id: str) -> _PrincipalAndDigest | None:
        """The principal and the secret's digest; ``None`` if the key is unknown or revoked."""
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


def _keys_in(request: RequestCredentials) -> Iterator[tuple[str, str]]:
    """Yield the id and secret of each key in the request."""
    named = (request.headers.get(name, "").strip() for name in HEADERS)
    for text in (request.bearer, request.password, *named, _cookie(request)):
        prefix, _, rest = text.partition("_")
        id, _, secret = rest.partition("_")
        if prefix == PREFIX and id and secret:
            yield id, secret


def _cookie(request: RequestCredentials) -> str:
    """The cookie's value; empty if a page of another origin made the browser send it."""
    headers = request.headers
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
