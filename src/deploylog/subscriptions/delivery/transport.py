"""HTTP out: one POST, one answer, whatever happens."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from weakref import WeakValueDictionary

import aiohttp
import msgspec
from yarl import URL

from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import InvalidSettings, InvalidSubscription
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.egress import (
    AddressRefused,
    EgressResolver,
    Lookup,
    LookupTooLong,
    Networks,
    parse_url,
)
from deploylog.subscriptions.delivery.framing import Connector
from deploylog.subscriptions.delivery.outcome import Request, Response
from deploylog.subscriptions.subscription import MAX_RESPONSE_BYTES

#: Seconds that an idle connection is kept. Many servers close one after five; a request that is
#: sent at that moment is lost.
_IDLE_SECONDS = 4.0

#: Seconds that what a name resolved to is good for.
_NAME_SECONDS = 10

_DELAY = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request may take, and what one receiver, a host and port, is spared."""

    #: Seconds until the answer is there, and until there is a connection. Waiting for one's turn
    #: counts for neither.
    total: float = 10.0
    connect: float = 5.0
    #: Requests to one receiver at the same time.
    concurrency: int = 8
    #: Requests to one receiver in a second; 0 is no limit.
    per_second: float = 0.0


class _HostLimiter:
    """The way to one receiver: those who wait go through in the order in which they came."""

    def __init__(self, concurrency: int) -> None:
        self.places = asyncio.Semaphore(concurrency)
        self.turns = asyncio.Lock()


class WebhookTransport:
    """Posts to receivers. Follows no redirect, keeps no cookie, heeds no proxy of the
    environment. Made by ``open_transport``.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        networks: Networks,
        limits: Limits,
        *,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` gives ns since 1970."""
        self._http = http
        self._limits = limits
        self._clock = clock
        self._doors: WeakValueDictionary[str, _HostLimiter] = WeakValueDictionary()
        self._rate = RateLimiter(limits.per_second, burst=1, clock=time.monotonic)
        # Kept by each poster: other networks would allow other addresses.
        self._parsed = lru_cache(maxsize=1024)(lambda url: parse_url(url, networks))

    async def post(
        self,
        outgoing: Request,
        *,
        sign: Callable[[], dict[str, str]] = dict,
        most: int = MAX_RESPONSE_BYTES,
    ) -> Response:
        """Post it, when it is its turn, and say what came back, or why nothing did.

        ``sign`` gives more headers, at that moment: a signature made before the wait may be too old
        after it. Of the answer's body ``most`` bytes are read. Raises nothing; cancelling it ends
        it.
        """
        try:
            url = self._parsed(outgoing.url)
        except InvalidSubscription as error:
            return Response(error=error.message)
        door = self._door(f"{url.raw_host}:{url.port}")
        async with door.places:
            if self._limits.per_second:
                await self._take_turn(door, f"{url.raw_host}:{url.port}")
            try:
                return await self._exchange(url, outgoing, sign(), most)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return Response(error=_in_words(error, self._limits))

    def _door(self, receiver: str) -> _HostLimiter:
        door = self._doors.get(receiver)
        if door is None:
            door = self._doors[receiver] = _HostLimiter(self._limits.concurrency)
        return door

    async def _take_turn(self, door: _HostLimiter, receiver: str) -> None:
        async with door.turns:
            wait = self._rate.take(receiver)
            while wait:
                await asyncio.sleep(wait)
                wait = self._rate.take(receiver)

    async def _exchange(
        self, url: URL, outgoing: Request, signature: dict[str, str], most: int
    ) -> Response:
        headers = {**outgoing.headers, **signature}
        async with self._http.post(
            url, data=outgoing.body, headers=headers, allow_redirects=False
        ) as response:
            body = await _read(response, most)
            asked = response.headers.get("Retry-After")
            wait = parse_retry_after(asked, now=self._clock()) if asked else None
            return Response(status=response.status, body=body, retry_after=wait)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = b""
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > most:
            # What is not read to its end is not used again: see ``ClientResponse.release``.
            return body[:most]
    return body


@asynccontextmanager
async def open_transport(
    networks: Networks,
    limits: Limits,
    *,
    ca_file: str = "",
    lookup: Lookup = socket.getaddrinfo,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[WebhookTransport]:
    """A poster. ``ca_file`` holds certificates to trust beside the system's; raises
    InvalidSettings when it does not.
    """
    guard = EgressResolver(networks, lookup=lookup)
    connector = Connector(
        resolver=guard,
        socket_factory=guard.make_socket,
        ssl=make_tls(ca_file),
        limit=0,
        ttl_dns_cache=_NAME_SECONDS,
        keepalive_timeout=_IDLE_SECONDS,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=limits.total, connect=limits.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        # An answer that was small on the way could be large in memory.
        auto_decompress=False,
        headers={"Accept": "*/*", "Accept-Encoding": "identity"},
        trust_env=False,
    ) as http:
        yield WebhookTransport(http, networks, limits, clock=clock)


def make_tls(ca_file: str) -> ssl.SSLContext:
    """Trusts the system's certificates, and those of the file if one is named; raises
    InvalidSettings.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise InvalidSettings(f"{ca_file} holds no certificates in PEM") from None
        except OSError as error:
            message = f"cannot read the certificates in {ca_file}: {error.strerror}"
            raise InvalidSettings(message) from error
    return context


def parse_retry_after(text: str, *, now: int) -> float | None:
    """Seconds, of which it says the number or the end (RFC 9110, 10.2.3); ``now`` in ns.

    ``None`` when it says neither.
    """
    if _DELAY.fullmatch(text.strip()):
        return float(text)
    try:
        then = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(then - now / SECOND, 0.0)


def _in_words(error: Exception, limits: Limits) -> str:
    """What went wrong. An error's own text could name the address, which may be secret."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not valid: {_certificate_error(error)}"
        case aiohttp.ClientConnectorSSLError():
            return "there is no TLS with it"
        case aiohttp.ClientConnectorError():
            return _no_connection(error.os_error)
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {limits.connect:g} s"
        case TimeoutError():
            return f"no whole answer within {limits.total:g} s"
        case aiohttp.ClientResponseError():
            return "the answer is not valid HTTP, or has too large headers"
        case aiohttp.ClientPayloadError():
            return "the answer was cut off, or is not valid HTTP"
        case aiohttp.InvalidURL() | ValueError():
            return "no request can be made of the address and the headers"
        case _:
            return "the connection was lost before the answer"


def _certificate_error(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""
    return said or "it cannot be verified"


def _no_connection(cause: OSError) -> str:
    match cause:
        case AddressRefused():
            return "the address is not public, and delivery_allowed_networks does not include it"
        case LookupTooLong():
            return "the name server does not answer"
        case socket.gaierror():
            return "the host name has no address"
        case _:
            reason = os.strerror(cause.errno) if cause.errno else "it does not answer"
            return f"no connection: {reason}"
