"""The HTTP transport of deliveries: a request, and a response or the reason why there is none."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from weakref import WeakValueDictionary

import aiohttp
import msgspec
from aiohttp.connector import Connection
from yarl import URL

from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import InvalidSubscription
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.connection import (
    LOST,
    ConnectionPool,
    Connector,
    NoResponse,
    protocol_of,
)
from deploylog.subscriptions.delivery.egress import (
    NOT_PUBLIC,
    AddressBlocked,
    Networks,
    parse_url,
)
from deploylog.subscriptions.delivery.outcome import Request, Response
from deploylog.subscriptions.delivery.resolver import EgressResolver, Lookup, LookupTimeout
from deploylog.subscriptions.delivery.tls import make_tls
from deploylog.subscriptions.subscription import MAX_RESPONSE_BYTES

#: Seconds for which a resolved name is cached.
_DNS_SECONDS = 10

#: The headers of every request, before its own.
_HEADERS = "Accept: */*\r\nAccept-Encoding: identity\r\n"

_DELAY = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Timeouts of a request, and the load that one receiver gets: one host and port."""

    #: Seconds for the complete response, and for the connection. Neither includes the wait for the
    #: receiver's limits.
    total: float = 10.0
    connect: float = 5.0
    #: Concurrent requests to one receiver.
    concurrency: int = 8
    #: Requests per second to one receiver; 0 for no limit.
    per_second: float = 0.0


class _Receiver(msgspec.Struct, frozen=True):
    """A URL, and what is derived from it."""

    url: URL
    #: Scheme, host and port.
    origin: str
    #: Host and port.
    name: str
    #: The first lines of a request, after its method.
    head: str


def _receiver_of(url: URL) -> _Receiver:
    head = f"{url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{_HEADERS}"
    return _Receiver(url, str(url.origin()), f"{url.raw_host}:{url.port}", head)


class _HostLimiter:
    """Limits the requests to one receiver, in the order in which they arrive."""

    def __init__(self, concurrency: int) -> None:
        self.slots = asyncio.Semaphore(concurrency)
        #: Held by the request that waits for the rate limit.
        self.turn = asyncio.Lock()


class WebhookTransport:
    """Sends to receivers, without redirects, cookies or proxies of the environment.

    ``open_webhook_transport`` opens one.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        networks: Networks,
        limits: Limits,
        *,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` returns ns since 1970."""
        self._connections = connections
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._limiters: WeakValueDictionary[str, _HostLimiter] = WeakValueDictionary()
        self._rate = RateLimiter(limits.per_second, burst=1, clock=time.monotonic)
        # For this transport only: other networks would allow other URLs.
        self._parsed = partial(parse_url, networks=networks)
        self._receiver = lru_cache(maxsize=1024)(lambda url: _receiver_of(self._parsed(url)))

    async def send(
        self,
        request: Request,
        *,
        sign: Callable[[], dict[str, str]] = dict,
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> Response:
        try:
            receiver = self._receiver(request.url)
        except InvalidSubscription as error:
            return Response(error=error.message)
        limiter = self._limiter(receiver.name)
        async with limiter.slots:
            if self._limits.per_second:
                await self._wait_for_rate(limiter, receiver.name)
            try:
                return await self._exchange(receiver, request, sign(), max_bytes)
            except (aiohttp.ClientError, NoResponse, OSError, ValueError) as error:
                return Response(error=_describe(error, self._limits))

    def _limiter(self, receiver: str) -> _HostLimiter:
        limiter = self._limiters.get(receiver)
        if limiter is None:
            limiter = self._limiters[receiver] = _HostLimiter(self._limits.concurrency)
        return limiter

    async def _wait_for_rate(self, limiter: _HostLimiter, receiver: str) -> None:
        async with limiter.turn:
            wait = self._rate.acquire(receiver)
            while wait:
                await asyncio.sleep(wait)
                wait = self._rate.acquire(receiver)

    async def _exchange(
        self, receiver: _Receiver, request: Request, signature: dict[str, str], max_bytes: int
    ) -> Response:
        data = _render(receiver, request, signature)
        started = self._loop.time()
        connection = await self._connect(receiver)
        try:
            response = await protocol_of(connection).exchange(
                data, max_bytes=max_bytes, seconds=started + self._limits.total - self._loop.time()
            )
        finally:
            self._connections.give_back(receiver.origin, connection)
        text = response.retry_after
        retry_after = parse_retry_after(text, now=self._clock()) if text else None
        return Response(status=response.status, body=response.body, retry_after=retry_after)

    async def _connect(self, receiver: _Receiver) -> Connection:
        try:
            return await self._connections.take(receiver.url, receiver.origin)
        except TimeoutError:
            if self._limits.connect > self._limits.total:
                raise
            message = f"connection timed out after {self._limits.connect:g} s"
            raise NoResponse(message) from None


def _render(receiver: _Receiver, request: Request, signature: dict[str, str]) -> bytes:
    """The bytes of a request; raises ValueError when its headers are invalid."""
    headers = {**request.headers, **signature}
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not len(headers) == lines.count("\r") == lines.count("\n") or "\0" in lines:
        raise ValueError("a header contains a line break or a NUL character")
    head = f"{request.method} {receiver.head}Content-Length: {len(request.body)}\r\n{lines}\r\n"
    return head.encode() + request.body


@asynccontextmanager
async def open_webhook_transport(
    networks: Networks,
    limits: Limits,
    *,
    ca_file: str = "",
    lookup: Lookup = socket.getaddrinfo,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[WebhookTransport]:
    """Open a transport; ``ca_file`` has certificates to trust beside the system's.

    Raises InvalidSettings when the file has none.
    """
    resolver = EgressResolver(networks, lookup=lookup)
    connector = Connector(
        resolver=resolver,
        socket_factory=resolver.make_socket,
        ssl=make_tls(ca_file),
        limit=0,
        ttl_dns_cache=_DNS_SECONDS,
    )
    async with connector:
        connections = ConnectionPool(connector, connect_seconds=min(limits.connect, limits.total))
        try:
            yield WebhookTransport(connections, networks, limits, clock=clock)
        finally:
            connections.close()


def parse_retry_after(text: str, *, now: int) -> float | None:
    """Seconds to wait by ``Retry-After`` (RFC 9110, 10.2.3), which has seconds or a date.

    ``None`` for anything else. ``now`` in ns.
    """
    if _DELAY.fullmatch(text.strip()):
        return float(text)
    try:
        date = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(date - now / SECOND, 0.0)


def _describe(error: Exception, limits: Limits) -> str:
    """Describe an error for users. Its own text could contain the URL, which may be secret."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"invalid certificate: {_certificate_error(error)}"
        case aiohttp.ClientConnectorSSLError():
            return "TLS handshake failed"
        case aiohttp.ClientConnectorError():
            return _describe_connection(error.os_error)
        case TimeoutError():
            return f"no complete response within {limits.total:g} s"
        case NoResponse():
            return str(error)
        case aiohttp.InvalidURL() | ValueError():
            return "invalid URL or headers"
        case _:
            return LOST


def _certificate_error(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    message = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""
    return message or "it cannot be verified"


def _describe_connection(cause: OSError) -> str:
    match cause:
        case AddressBlocked():
            return NOT_PUBLIC
        case LookupTimeout():
            return "the DNS lookup timed out"
        case socket.gaierror():
            return "the host name cannot be resolved"
        case _:
            reason = os.strerror(cause.errno) if cause.errno else "no response"
            return f"connection failed: {reason}"
