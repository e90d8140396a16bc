"""Authentication: from what a request shows to a principal."""

import base64
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import Reason, TooMany, Unauthenticated, Unavailable
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap

#: Headers that a credential may stand in.
CREDENTIAL_HEADERS = (
    "authorization",
    "x-api-key",
    "bluelink-api-key",
    "x-auth-token",
    "x-escape-token",
    "cookie",
    "bluelink-signature-v1",
)

#: How ``Authorization`` begins when it signs the request, with whatever algorithm.
SIGNING_WORDS = ("SDK-", "V11-", "AWS4-")

_SIGNATURE = CREDENTIAL_HEADERS[-1]

#: Credentials remembered as good, while failed attempts are limited.
_REMEMBERED = 10_000

#: The part of an IPv6 address that is its network's; a client may choose the rest.
_NETWORK_BITS = 64


async def _no_body() -> bytes:
    return b""


class RequestCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a request shows of who sends it."""

    method: str
    #: Both as they were sent, percent-encoded.
    path: str
    query: str
    #: By lower-case name.
    headers: Mapping[str, str]
    #: The sender's address; ``None`` on a unix socket.
    client: str | None
    #: As they were sent, in order, by lower-case name: a name may be there twice.
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    #: Reads the body, of which some credentials are a signature. Raises TooLarge.
    body: Callable[[], Awaitable[bytes]] = _no_body

    @property
    def bearer(self) -> str:
        """What ``Authorization: Bearer`` holds; empty when there is none."""
        return self._authorization("bearer")

    @property
    def password(self) -> str:
        """The password in ``Authorization: Basic``; empty when there is none."""
        try:
            shown = base64.b64decode(self._authorization("basic"), validate=True)
        except ValueError:
            return ""
        return shown.decode("latin-1").partition(":")[2]

    @property
    def is_signed_request(self) -> bool:
        """Whether ``Authorization`` is a signature of the whole request."""
        return self.headers.get("authorization", "").startswith(SIGNING_WORDS)

    @property
    def signs(self) -> bool:
        """Whether it is signed at all: then only the key's id is the same in the next request."""
        return self.is_signed_request or _SIGNATURE in self.headers

    @property
    def has_credential(self) -> bool:
        """Whether it shows a credential, as far as can be seen; a cookie may be for others."""
        return any(name in self.headers for name in CREDENTIAL_HEADERS if name != "cookie")

    def _authorization(self, scheme: str) -> str:
        """What ``Authorization`` holds if it is of this scheme."""
        named, _, credentials = self.headers.get("authorization", "").partition(" ")
        return credentials.strip() if named.lower() == scheme else ""


class Authenticator(Protocol):
    """One kind of credential."""

    #: What its principals have as ``Principal.kind``.
    kind: str

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        """Who the request's credential says it is; ``None`` when it has none of this kind, or
        one that is not valid.

        Raises Unauthenticated when the reason can be told, Unavailable when nothing can be
        told now.
        """
        ...

    async def is_valid(self, principal: Principal) -> bool:
        """Whether the credential of one of its principals would still do."""
        ...

    async def find(self, id: str) -> Principal | None:
        """Its principal of this id, while the credential lasts; ``None`` when it does not, or when
        only whoever shows it can tell.
        """
        ...


class Authentication:
    """Lets in who shows a valid credential, and not too often."""

    def __init__(
        self,
        authenticators: tuple[Authenticator, ...],
        *,
        requests: RateLimiter,
        failures: RateLimiter,
        failed: Callable[[], None],
    ) -> None:
        """``requests`` limits each principal; ``failures`` each address, ``failed`` counts them."""
        self._authenticators = authenticators
        self._requests = requests
        self._failures = failures
        self._failed = failed
        self._good: BoundedMap[bytes, None] = BoundedMap(_REMEMBERED)

    async def admit(self, presented: RequestCredentials) -> Principal:
        """Who asks; raises Unauthenticated, whose message tells nothing, or TooMany."""
        address, credentials = _address(presented.client), _fingerprint(presented)
        wait = self._failures.wait(address)
        if wait and credentials not in self._good:
            raise TooMany("there were too many failed attempts", retry_after=wait)
        try:
            principal = await self._principal(presented)
        except Unauthenticated:
            # Of a signature only the key's id is remembered, which others may show, too.
            if not presented.signs:
                self._good.drop(credentials)
            self._failures.take(address)
            self._failed()
            raise
        self._remember(credentials)
        self.count(principal)
        return principal

    def count(self, principal: Principal) -> None:
        """Count a request of somebody who was admitted a moment ago; raises TooMany."""
        if wait := self._requests.take(principal.identity):
            raise TooMany(retry_after=wait)

    async def is_valid(self, principal: Principal) -> bool:
        """Whether who was admitted would be admitted still."""
        for authenticator in self._authenticators:
            if authenticator.kind == principal.kind:
                return await authenticator.is_valid(principal)
        return False

    async def find(self, kind: str, id: str) -> Principal | None:
        """Who was admitted by this kind of credential, if it lasts without being shown again."""
        for authenticator in self._authenticators:
            if authenticator.kind == kind:
                return await authenticator.find(id)
        return None

    async def _principal(self, presented: RequestCredentials) -> Principal:
        """Who the first kind that knows says; a bad credential is not in a good one's way.

        Raises Unavailable when none knows, and one cannot say; else Unauthenticated, with the
        first reason that one found.
        """
        unavailable: Unavailable | None = None
        refused: Unauthenticated | None = None
        for authenticator in self._authenticators:
            try:
                principal = await authenticator.principal(presented)
            except Unavailable as error:
                unavailable = error
            except Unauthenticated as error:
                refused = refused or error
            else:
                if principal is not None:
                    return principal
        if unavailable is not None:
            raise unavailable
        reason: Reason = "unknown_key" if presented.has_credential else "missing"
        raise refused or Unauthenticated(reason=reason)

    def _remember(self, credentials: bytes) -> None:
        self._good.put(credentials, None)


@lru_cache(maxsize=4096)
def _address(client: str | None) -> str:
    """Whose failures are counted together: an address, or the network of an IPv6 one."""
    if client is None or ":" not in client:
        return client or ""
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _NETWORK_BITS), strict=False))


def _fingerprint(presented: RequestCredentials) -> bytes:
    """Stands for the credentials, so that no secret stays in memory."""
    shown = [presented.headers.get(name, "") for name in CREDENTIAL_HEADERS]
    # A signature is made anew for each request; up to the first comma it names its key.
    shown[-1] = shown[-1].partition(",")[0]
    if presented.is_signed_request:
        shown[0] = shown[0].partition(",")[0]
    return hashlib.sha256("\n".join(shown).encode("utf-8", "surrogatepass")).digest()
