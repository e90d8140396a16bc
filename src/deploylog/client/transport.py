"""HTTP/1.1 to one server: connections, their reuse, timeouts, and where a response ends.

h11 parses; asyncio and aiohappyeyeballs connect. A library with everything in it would take longer
to import than a short command takes to run.
"""

import asyncio
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from socket import SOCK_STREAM
from urllib.parse import quote, unquote, urlencode, urlsplit

import h11
import msgspec
from aiohappyeyeballs import start_connection

from deploylog.client.models import Params
from deploylog.errors import OperatorError

CONNECT_SECONDS = 5.0

#: Seconds in which one address may connect before the next one is tried as well (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25

_CHUNK_BYTES = 64 * 1024

#: Methods that may be sent again when a connection that was idle turns out to be closed.
_IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}

#: What stays as it is in the path of an address.
_PATH = "/%:@!$&'()*+,;=~"


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for a whole request, for its connection, and between two reads."""

    total: float | None = None
    connect: float = CONNECT_SECONDS
    read: float | None = None


class ConnectionLost(ConnectionError):
    """The server closed the connection before the end of the response."""


class NotHttp(Exception):
    """The server does not speak HTTP."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is, and what every request to it has."""

    host: str
    port: int
    is_secure: bool
    #: The ``Host`` header.
    authority: str
    #: What every path starts with.
    base: str
    #: The ``Authorization`` header, for an address with a user and a password.
    authorization: str | None


def parse_address(url: str) -> Address:
    """Parse the URL of a server; raises OperatorError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        name = host if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise OperatorError(f"invalid server address {url!r}") from error
    if not host or not host.isprintable() or " " in host or parts.scheme not in ("http", "https"):
        raise OperatorError(f"invalid server address {url!r}: expected http://HOST:PORT")
    bracketed = f"[{name}]" if ":" in name else name
    query = f"?{quote(parts.query, safe=_PATH + '?')}" if parts.query else ""
    return Address(
        host=name,
        port=port if port is not None else (443 if parts.scheme == "https" else 80),
        is_secure=parts.scheme == "https",
        authority=bracketed if port is None else f"{bracketed}:{port}",
        base=quote(parts.path, safe=_PATH) + query,
        authorization=_basic(parts.username, parts.password),
    )


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


class _Link:
    """A connection: one request at a time, and the events of its response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_open(self) -> bool:
        """Whether a request that is sent now may be answered."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    def renew(self) -> bool:
        """Make it ready for another request, after a complete response, if it can have one."""
        if self._http.their_state is not h11.DONE or self._http.trailing_data != (b"", False):
            return False
        self._http.start_next_cycle()
        return self.is_open

    def send(self, request: h11.Request, body: bytes) -> None:
        # Without waiting: a server may answer, and refuse, before it has read the whole body.
        parts = (request, *([h11.Data(data=body)] if body else ()), h11.EndOfMessage())
        self._writer.write(b"".join(self._http.send(part) or b"" for part in parts))

    async def next(self, seconds: float | None) -> h11.Event:
        """Return the next event of the response; raises ConnectionLost, NotHttp, and OSError."""
        data = None
        try:
            while not isinstance(event := self._http.next_event(), h11.Event):
                async with asyncio.timeout(seconds):
                    data = await self._reader.read(_CHUNK_BYTES)
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            if data == b"":
                raise ConnectionLost from error
            raise NotHttp(str(error)) from error
        return event

    def close(self) -> None:
        # At once: nothing is left to send.
        self._writer.transport.abort()


class Response:
    """A response whose head has arrived."""

    def __init__(self, link: _Link, head: h11.Response, read_seconds: float | None) -> None:
        self.status = head.status_code
        self.reason = bytes(head.reason).decode("latin-1")
        #: By names in lower case.
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers
        }
        #: Whether its end has been read.
        self.is_complete = False
        self._link = link
        self._read_seconds = read_seconds

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    async def read(self) -> bytes:
        """Return the body."""
        async with aclosing(self.chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body, as it arrives."""
        is_compressed = self.headers.get("content-encoding") == "gzip"
        gunzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if is_compressed else None
        async with aclosing(self._parts()) as parts:
            async for part in parts:
                try:
                    chunk = gunzip.decompress(part) if gunzip is not None else part
                except zlib.error as error:
                    raise NotHttp("the response is not valid gzip") from error
                if chunk:
                    yield chunk

    async def _parts(self) -> AsyncGenerator[bytes]:
        while isinstance(event := await self._link.next(self._read_seconds), h11.Data):
            yield bytes(event.data)
        self.is_complete = isinstance(event, h11.EndOfMessage)


class Transport:
    """Sends requests to one server; ``open_transport`` opens one."""

    def __init__(self, address: Address, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = {
            "Host": address.authority,
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            "User-Agent": "deploylog",
            **({"Authorization": address.authorization} if address.authorization else {}),
            **headers,
        }
        self._idle: list[_Link] = []
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeouts: Timeouts,
    ) -> AsyncIterator[Response]:
        """Send a request, and give its response; follows no redirect.

        Raises OSError, TimeoutError, ConnectionLost and NotHttp, also from the response.
        """
        request = self._request(method, path, params, headers, body)
        async with asyncio.timeout(timeouts.total):
            link, head = await self._exchange(request, body or b"", timeouts)
            try:
                response = Response(link, head, timeouts.read)
                yield response
                if response.is_complete and link.renew():
                    self._idle.append(link)
                    return
            except BaseException:
                link.close()
                raise
            link.close()

    def _request(
        self,
        method: str,
        path: str,
        params: Params,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> h11.Request:
        target = (self._address.base + path) or "/"
        query = f"?{urlencode(params)}" if params else ""
        length = {"Content-Length": str(len(body))} if body is not None else {}
        if body is None and method in ("POST", "PUT", "PATCH"):
            length = {"Content-Length": "0"}
        try:
            return h11.Request(
                method=method,
                target=f"/{target.lstrip('/')}{query}",
                headers=list({**self._headers, **headers, **length}.items()),
            )
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            # The header may be a secret.
            raise OperatorError("a header contains invalid characters") from error

    async def _exchange(
        self, request: h11.Request, body: bytes, timeouts: Timeouts
    ) -> tuple[_Link, h11.Response]:
        """Send the request, over a connection that is idle if there is one."""
        while self._idle:
            link = self._idle.pop()
            if not link.is_open:
                link.close()
                continue
            try:
                return link, await _answer(link, request, body, timeouts)
            except ConnectionError:
                # The server closed it while the request was under way.
                if request.method.decode() not in _IDEMPOTENT:
                    raise
        link = await self._connect(timeouts.connect)
        return link, await _answer(link, request, body, timeouts)

    async def _connect(self, seconds: float) -> _Link:
        loop = asyncio.get_running_loop()
        address = self._address
        tls = self._tls_context() if address.is_secure else None
        async with asyncio.timeout(seconds):
            found = await loop.getaddrinfo(address.host, address.port, type=SOCK_STREAM)
            socket = await start_connection(
                found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=loop
            )
            try:
                reader, writer = await asyncio.open_connection(
                    sock=socket, ssl=tls, server_hostname=address.host if tls else None
                )
            except BaseException:
                socket.close()
                raise
        return _Link(reader, writer)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def close(self) -> None:
        for link in self._idle:
            link.close()
        self._idle.clear()


async def _answer(
    link: _Link, request: h11.Request, body: bytes, timeouts: Timeouts
) -> h11.Response:
    try:
        link.send(request, body)
        while True:
            event = await link.next(timeouts.read)
            if isinstance(event, h11.Response):
                return event
    except BaseException:
        link.close()
        raise


@asynccontextmanager
async def open_transport(
    url: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Transport]:
    """Open a transport to the server at ``url``; raises OperatorError."""
    transport = Transport(parse_address(url), headers or {})
    try:
        yield transport
    finally:
        transport.close()
