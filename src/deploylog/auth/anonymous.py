"""Anonymous access: full access from this machine until authentication is configured."""

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.cache import TtlCache
from deploylog.auth.store import Credentials
from deploylog.events.access import ANONYMOUS, Principal

#: Maximum length of ``Host`` and ``Origin`` together; a longer pair is never local.
_MAX_HOST_LENGTH = 512


class AnonymousAccess:
    """Authenticates local requests as ``ANONYMOUS`` while no authentication is configured."""

    kind = ANONYMOUS.kind

    def __init__(
        self, credentials: Credentials, *, issuer: str, clock: Callable[[], float]
    ) -> None:
        """``issuer`` is the token issuer, if one is set; ``clock`` is monotonic, in seconds."""
        self._credentials = credentials
        self._issuer = issuer
        self._is_configured = False
        self._cache = TtlCache(self._load, clock=clock)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        if await self._is_open() and _is_local_request(request):
            return ANONYMOUS
        return None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._is_open()

    async def find(self, id: str) -> Principal | None:
        return ANONYMOUS if await self._is_open() else None

    async def _is_open(self) -> bool:
        # Once configured, authentication stays configured.
        return not self._is_configured and await self._cache.get("") is not None

    async def _load(self, _: str) -> Principal | None:
        self._is_configured = await is_authentication_configured(self._credentials, self._issuer)
        return None if self._is_configured else ANONYMOUS


async def is_authentication_configured(credentials: Credentials, issuer: str) -> bool:
    """Whether a credential was ever added, or ``issuer`` is set.

    Revoking the last credential does not restore anonymous access.
    """
    return bool(issuer or await credentials.list())


def _is_local_request(request: RequestCredentials) -> bool:
    """Whether the request comes from this machine, and not from a web page of another origin.

    Otherwise a page in the operator's browser could reach this server, with a form or by DNS
    rebinding.
    """
    headers = request.headers
    # On a Unix socket clients send an arbitrary host, such as ``unix``.
    host = "localhost" if request.client is None else headers.get("host")
    origin = headers.get("origin")
    if len(host or "") + len(origin or "") > _MAX_HOST_LENGTH:
        return False
    return _are_loopback(host, origin)


@lru_cache(maxsize=256)
def _are_loopback(host: str | None, origin: str | None) -> bool:
    addresses = [f"//{host or ''}", *([origin] if origin else [])]
    try:
        return all(is_loopback(urlsplit(address).hostname or "") for address in addresses)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether this is ``localhost`` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
