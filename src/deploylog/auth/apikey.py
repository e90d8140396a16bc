"""API keys: ``dlk_<id>_<secret>``, in ``Authorization: Bearer`` or ``X-Api-Key``.

The secret is 256 random bits, so its plain SHA-256 cannot be guessed back; only that is kept.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from deploylog.errors import KeyNotFound
from deploylog.principals import ANYBODY, Grant, Principal
from deploylog.store.base import Keys, StoredKey

PREFIX = "dlk"

#: How long a key is trusted without another look: requests with a revoked key are refused after
#: this time. A stream that is open by then stays open.
TRUSTED_SECONDS = 0.5

#: Keys remembered at a time.
_REMEMBERED = 10_000


def make_key(
    *, name: str, groups: Sequence[str], grants: Sequence[Grant], now: int
) -> tuple[StoredKey, str]:
    """A new key as it is stored, and as its owner is told it, once; ``now`` in ns."""
    id, secret = secrets.token_hex(8), secrets.token_hex(32)
    stored = StoredKey(
        id=id,
        name=name,
        digest=_digest(secret),
        groups=tuple(sorted(set(groups))),
        grants=tuple(grants),
        created=now,
        revoked=None,
    )
    return stored, f"{PREFIX}_{id}_{secret}"


class ApiKeys:
    """Knows the principals of API keys; everybody's friend while there is no key at all."""

    def __init__(self, keys: Keys, *, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._keys = keys
        self._clock = clock
        # By digest, so that no secret stays in memory.
        self._trusted: dict[bytes, tuple[Principal | None, float]] = {}

    async def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """See ``Authenticator``."""
        presented = _presented(headers)
        digest, now = _digest(presented), self._clock()
        principal, until = self._trusted.get(digest, (None, 0.0))
        if now >= until:
            principal = await self._look_up(presented)
            if len(self._trusted) >= _REMEMBERED:
                self._trusted.clear()
            self._trusted[digest] = (principal, now + TRUSTED_SECONDS)
        if principal is ANYBODY and not _is_local(headers.get("host"), headers.get("origin")):
            return None
        return principal

    async def _look_up(self, presented: str) -> Principal | None:
        if not await configured(self._keys):
            return ANYBODY
        prefix, _, rest = presented.partition("_")
        id, _, secret = rest.partition("_")
        if prefix != PREFIX:
            return None
        try:
            key = await self._keys.get(id)
        except KeyNotFound:
            return None
        if key.revoked is not None or not hmac.compare_digest(key.digest, _digest(secret)):
            return None
        return Principal(name=key.name, id=key.id, groups=frozenset(key.groups), grants=key.grants)


async def configured(keys: Keys) -> bool:
    """Whether authentication is configured: a key was ever added.

    Revoking the last one does not open the door again.
    """
    return bool(await keys.list())


@lru_cache(maxsize=256)
def _is_local(host: str | None, origin: str | None) -> bool:
    """Whether the request is for this machine, and not sent by some web page.

    While everything is allowed, a page open in the operator's browser could reach us, by a form
    or by a name that it lets point here.
    """
    addresses = [f"//{host or ''}", *([origin] if origin else [])]
    try:
        return all(is_loopback(urlsplit(address).hostname or "") for address in addresses)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether this name or address is the machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _presented(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
