"""The open door: everybody on this machine may do everything, until somebody locks it."""

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.cache import TtlCache
from deploylog.auth.store import Credentials
from deploylog.events.access import ANONYMOUS, Principal

#: Characters that the name of this machine has, at most.
_LONGEST_LOCAL = 512


class AnonymousAccess:
    """Lets everybody in while no authentication is configured."""

    kind = ANONYMOUS.kind

    def __init__(
        self, credentials: Credentials, *, issuer: str, clock: Callable[[], float]
    ) -> None:
        """``issuer`` is the token issuer, if one is set; ``clock`` is monotonic, in seconds."""
        self._credentials = credentials
        self._issuer = issuer
        self._locked = False
        self._known = TtlCache(self._look, clock=clock)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        if await self._is_open() and _is_own(presented):
            return ANONYMOUS
        return None

    async def is_valid(self, principal: Principal) -> bool:
        return await self._is_open()

    async def find(self, id: str) -> Principal | None:
        return ANONYMOUS if await self._is_open() else None

    async def _is_open(self) -> bool:
        # A door that was locked never opens again, so it need not be looked at again.
        return not self._locked and await self._known.get("") is not None

    async def _look(self, _: str) -> Principal | None:
        self._locked = await is_authentication_configured(self._credentials, self._issuer)
        return None if self._locked else ANONYMOUS


async def is_authentication_configured(credentials: Credentials, issuer: str) -> bool:
    """Whether authentication is configured: a credential was ever added, or ``issuer`` is set.

    Revoking the last credential does not open the door again.
    """
    return bool(issuer or await credentials.list())


def _is_own(presented: RequestCredentials) -> bool:
    """Whether the request is from this machine, and not sent by some web page.

    While everything is allowed, a page open in the operator's browser could reach us, by a form
    or by a name that it lets point here.
    """
    headers = presented.headers
    # On a unix socket the client says anything for a host, such as ``unix``.
    host = "localhost" if presented.client is None else headers.get("host")
    origin = headers.get("origin")
    if len(host or "") + len(origin or "") > _LONGEST_LOCAL:
        return False
    return _is_local(host, origin)


@lru_cache(maxsize=256)
def _is_local(host: str | None, origin: str | None) -> bool:
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
