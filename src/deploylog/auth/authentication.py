"""The authentication chain: from the credentials of a request to a principal."""

import base64
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from deploylog.auth.authorization import is_signature, parse_credentials
from deploylog.auth.rate_limit import RateLimiter
from deploylog.auth.source_signatures import signs_body
from deploylog.errors import Reason, TooMany, Unauthenticated, Unavailable
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap

#: Headers that may carry a credential.
CREDENTIAL_HEADERS = (
    "authorization",
    "x-api-key",
    "bluelink-api-key",
    "x-auth-token",
    "x-escape-token",
    "x-gitlab-token",
    "cookie",
    "bluelink-signature-v1",
)

_BLUELINK_SIGNATURE = CREDENTIAL_HEADERS[-1]

#: Valid credentials that are remembered, so that the limit on failures does not block them.
_MAX_VALID = 10_000

#: Length of an IPv6 network prefix; a client may choose the remaining bits.
_PREFIX_BITS = 64


async def _no_body() -> bytes:
    return b""


class RequestCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """A request's credentials, with the parts of the request that a signature covers."""

    method: str
    #: Path and query, percent-encoded as received.
    path: str
    query: str
    #: By lower-case name; of a repeated header, the first value.
    headers: Mapping[str, str]
    #: The client's address; ``None`` on a Unix socket.
    client: str | None
    #: All headers in the order received, with lower-case names. A name may repeat.
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    #: Reads the body, which some signatures cover. Raises TooLarge.
    body: Callable[[], Awaitable[bytes]] = _no_body

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def bearer(self) -> str:
        """The token in ``Authorization: Bearer``, or an empty string."""
        return parse_credentials(self.authorization, "bearer")

    @property
    def password(self) -> str:
        """The password in ``Authorization: Basic``, or an empty string."""
        try:
            credentials = parse_credentials(self.authorization, "basic")
            decoded = base64.b64decode(credentials, validate=True)
        except ValueError:
            return ""
        return decoded.decode("latin-1").partition(":")[2]

    @property
    def is_signed_request(self) -> bool:
        """Whether ``Authorization`` is a signature of the whole request."""
        return is_signature(self.authorization)

    @property
    def signs_body(self) -> bool:
        """Whether only the body can verify the request's signature."""
        return self.is_signed_request or self.is_signed_webhook

    @property
    def is_signed_webhook(self) -> bool:
        """Whether it is a webhook that a source has signed."""
        return signs_body(self.method, self.path, self.headers)

    @property
    def is_signed(self) -> bool:
        """Whether the request is signed in any way: the next one has another signature."""
        return self.signs_body or _BLUELINK_SIGNATURE in self.headers

    @property
    def has_credential(self) -> bool:
        """Whether the request carries a credential; a cookie may belong to another application."""
        named = any(name in self.headers for name in CREDENTIAL_HEADERS if name != "cookie")
        return named or self.is_signed_webhook


class Authenticator(Protocol):
    """Authenticates one kind of credential."""

    #: ``Principal.kind`` of the principals that it returns.
    kind: str

    async def principal(self, request: RequestCredentials) -> Principal | None:
        """Return the principal of the request's credential; ``None`` if the request has no valid
        credential of this kind.

        Raises Unauthenticated when the reason may be disclosed, and Unavailable when the credential
        cannot be verified now.
        """
        ...

    async def is_valid(self, principal: Principal) -> bool:
        """Whether the credential of a principal of this kind is still valid."""
        ...

    async def find(self, id: str) -> Principal | None:
        """Return the principal with this id; ``None`` if its credential is no longer valid, or
        cannot be verified without the request.
        """
        ...


class Authentication:
    """Authenticates requests with the first authenticator that can, within rate limits."""

    def __init__(
        self,
        authenticators: tuple[Authenticator, ...],
        *,
        requests: RateLimiter,
        failures: RateLimiter,
        failed: Callable[[], None],
    ) -> None:
        """``requests`` limits each principal, ``failures`` each client address; ``failed`` is
        called for each failure.
        """
        self._authenticators = authenticators
        self._requests = requests
        self._failures = failures
        self._failed = failed
        self._valid: BoundedMap[bytes, None] = BoundedMap(_MAX_VALID)

    async def authenticate(self, request: RequestCredentials) -> Principal:
        """Raises Unauthenticated, whose message discloses nothing, or TooMany."""
        credentials = _fingerprint(request)
        if credentials not in self._valid:
            self.require_few_failures(request.client)
        try:
            principal = await self._principal(request)
        except Unauthenticated:
            # The fingerprint of a signature holds only what anyone may send, such as the key id.
            if not request.is_signed:
                self._valid.drop(credentials)
            self.record_failure(request.client)
            raise
        self._remember(credentials)
        self.count(principal)
        return principal

    def require_few_failures(self, client: str | None) -> None:
        """Raise TooMany when a client's address has failed too often."""
        if wait := self._failures.delay(_address(client)):
            raise TooMany("too many failed attempts", retry_after=wait)

    def record_failure(self, client: str | None) -> None:
        """Count a failure of a client's address."""
        self._failures.acquire(_address(client))
        self._failed()

    def count(self, principal: Principal) -> None:
        """Count a request of a principal that was authenticated just before; raises TooMany."""
        if wait := self._requests.acquire(principal.identity):
            raise TooMany(retry_after=wait)

    async def authenticate_as(self, kind: str, request: RequestCredentials) -> Principal | None:
        """Return the principal of the request's credential of this kind; ``None`` without one."""
        for authenticator in self._authenticators:
            if authenticator.kind == kind:
                return await authenticator.principal(request)
        return None

    async def is_valid(self, principal: Principal) -> bool:
        """Whether the principal's credential is still valid."""
        for authenticator in self._authenticators:
            if authenticator.kind == principal.kind:
                return await authenticator.is_valid(principal)
        return False

    async def find(self, kind: str, id: str) -> Principal | None:
        """Return the principal, if its credential can be validated without the request."""
        for authenticator in self._authenticators:
            if authenticator.kind == kind:
                return await authenticator.find(id)
        return None

    async def _principal(self, request: RequestCredentials) -> Principal:
        """Ask each authenticator in turn: an invalid credential does not shadow a valid one.

        Raises Unavailable if none succeeds and one could not verify; otherwise Unauthenticated,
        with the first reason given.
        """
        unavailable: Unavailable | None = None
        refused: Unauthenticated | None = None
        for authenticator in self._authenticators:
            try:
                principal = await authenticator.principal(request)
            except Unavailable as error:
                unavailable = error
            except Unauthenticated as error:
                refused = refused or error
            else:
                if principal is not None:
                    return principal
        if unavailable is not None:
            raise unavailable
        reason: Reason = "unknown_key" if request.has_credential else "missing"
        raise refused or Unauthenticated(reason=reason)

    def _remember(self, credentials: bytes) -> None:
        self._valid.put(credentials, None)


@lru_cache(maxsize=4096)
def _address(client: str | None) -> str:
    """The key under which failures are counted: an IPv4 address, or an IPv6 network."""
    if client is None or ":" not in client:
        return client or ""
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _PREFIX_BITS), strict=False))


def _fingerprint(request: RequestCredentials) -> bytes:
    """A digest of the credentials, so that no secret stays in memory."""
    values = [request.headers.get(name, "") for name in CREDENTIAL_HEADERS]
    # Each request has a new signature. The part before the first comma names the key.
    values[-1] = values[-1].partition(",")[0]
    if request.is_signed_request:
        values[0] = values[0].partition(",")[0]
    if request.is_signed_webhook:
        values += [request.path, request.query]
    return hashlib.sha256("\n".join(values).encode("utf-8", "surrogatepass")).digest()
