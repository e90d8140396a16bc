"""The native API from the other side: a client for one server."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from deploylog.catalogue import Counts, Status
from deploylog.errors import DeploylogError, OperatorError
from deploylog.times import SECOND, render_time

Params = Sequence[tuple[str, str]]
Sleep = Callable[[float], Awaitable[object]]
#: Gives a number in [0, 1).
Jitter = Callable[[], float]
Say = Callable[[str], None]

_T = TypeVar("_T")

_CONNECT_SECONDS = 5.0
_REQUEST = aiohttp.ClientTimeout(total=30, sock_connect=_CONNECT_SECONDS)
# The server says something at least every 15 s; three silences in a row are a dead connection.
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=45)

#: The longest that one request may wait for a deployment to end, in seconds.
MAX_WAIT = 300


class ServerUnreachable(DeploylogError):
    """The server does not answer."""


class ClientError(DeploylogError):
    """The server refused the request."""

    def __init__(
        self, message: str, *, status: int, problem: str = "", retry_after: float | None = None
    ) -> None:
        """Keep the HTTP ``status``, the last word of the ``problem`` type, and Retry-After (s)."""
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in (408, 429) or self.status >= 500


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment is opened with."""

    #: UUID, given by whoever opens it, so that a retry opens nothing twice.
    id: str
    project: str
    stack: str
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: RFC 3339; absent, it started when the server was told.
    started: str | None = None


class DeploymentState(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, as the server tells of it."""

    id: str
    project: str
    stack: str
    stack_id: str
    status: Status
    started: datetime
    ended: datetime | None = None
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    message: str | None = None
    counts: Counts
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class DeploymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some deployments, last started first."""

    deployments: tuple[DeploymentState, ...]
    #: Where the next page goes on from (``before=``), when there may be one.
    next: str | None = None


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, as the server tells of it."""

    id: str
    project: str
    name: str
    created: datetime
    deleted: datetime | None = None
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event has been recorded."""

    id: str
    position: str


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, each as the server wrote it."""

    events: tuple[msgspec.Raw, ...]
    #: Where the next page goes on from, when there may be one.
    next: str | None = None
    previous: str | None = None


class LoggedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is shown of an event; its JSON holds the rest."""

    id: str
    type: str
    source: str
    time: datetime
    scopes: str = ""
    subject: str | None = None
    actor: str | None = None
    message: str | None = None
    resourceaddress: str | None = None
    resourcename: str | None = None
    resourcetype: str | None = None


class _Problem(msgspec.Struct):
    """RFC 9457."""

    type: str = ""
    title: str = ""
    detail: str = ""


class _Appended(msgspec.Struct):
    events: tuple[Receipt, ...]


class _Stacks(msgspec.Struct):
    stacks: tuple[StackState, ...]


class _Projects(msgspec.Struct):
    projects: tuple[str, ...]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a Server-Sent Events stream."""

    event: str
    data: str
    #: The stream's last id so far.
    id: str | None


class MessageParser:
    """Reads a Server-Sent Events stream (WHATWG HTML, 9.2.6) in pieces of any size."""

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        #: What the stream says to wait before reconnecting, in seconds.
        self.retry: float | None = None
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that ``piece`` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode(errors="replace")
            if text:
                self._take_field(*text.partition(":"))
            elif self._data:
                yield self._dispatch()
            else:
                self._event = ""

    def _take_field(self, name: str, _colon: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000

    def _dispatch(self) -> Message:
        message = Message(
            event=self._event or "message", data="\n".join(self._data), id=self._id or None
        )
        self._event, self._data = "", []
        return message


class Backoff:
    """How long to wait before the next try: twice as long each time, with jitter."""

    def __init__(self, jitter: Jitter, *, first: float = 0.1, longest: float = 5.0) -> None:
        """Wait about ``first`` seconds at first, and never more than ``longest``."""
        self.first = first
        self._jitter = jitter
        self._longest = longest
        self._tries = 0

    def next(self) -> float:
        """The seconds to wait now."""
        # Bounded, because two to the power of a week's tries is no float.
        seconds: float = min(self.first * 2 ** min(self._tries, 32), self._longest)
        self._tries += 1
        return seconds * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """Begin again: it has worked."""
        self._tries = 0


def parse_event(raw: msgspec.Raw | str) -> LoggedEvent:
    """What a person is shown of an event that the server sent."""
    return _decode(LoggedEvent, raw if isinstance(raw, str) else bytes(raw))


@asynccontextmanager
async def open_client(
    server: str,
    key: str | None = None,
    *,
    sleep: Sleep = asyncio.sleep,
    jitter: Jitter = random.random,
) -> AsyncIterator["Client"]:
    """A client for ``server``, such as ``http://127.0.0.1:8325``."""
    if not server.startswith(("http://", "https://")):
        raise OperatorError(f"{server!r} is not a server's address: write http://HOST:PORT")
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise OperatorError("the key holds characters that no key has")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=True) as session:
        yield Client(session, server.rstrip("/"), sleep=sleep, jitter=jitter)


class Client:
    """Speaks the native API to one server. Every call raises ServerUnreachable or ClientError."""

    def __init__(
        self, session: aiohttp.ClientSession, server: str, *, sleep: Sleep, jitter: Jitter
    ) -> None:
        """Use ``session``, which carries the key."""
        self.server = server
        self._session = session
        self._sleep = sleep
        self._jitter = jitter

    async def append(self, events: bytes, *, deployment: str) -> tuple[Receipt, ...]:
        """Record events, one CloudEvents JSON object a line, in an open deployment."""
        appended = await self._call(
            "POST", "/log/v1/events", _Appended,
            params=[("deployment", deployment)], body=events, media="application/x-ndjson",
        )  # fmt: skip
        return appended.events

    async def events(self, params: Params) -> EventPage:
        """One page of the events that ``params`` select."""
        return await self._call("GET", "/log/v1/events", EventPage, params=params)

    async def event(self, id: str) -> msgspec.Raw:
        """One event."""
        return await self._call("GET", f"/log/v1/events/{_segment(id)}", msgspec.Raw)

    async def stream(
        self, params: Params, *, after: str | None = None, say: Say = lambda sentence: None
    ) -> AsyncGenerator[Message]:
        """Follow the events that ``params`` select, without end.

        When the connection is lost it says so, connects again and goes on after the last
        message; only the first connection's failure is raised, and a refusal.
        """
        place = _Place(params, after, Backoff(self._jitter))
        while True:
            try:
                async with aclosing(self._stream_once(place)) as messages:
                    async for message in messages:
                        yield message
                lost = f"{self.server} ended the stream"
            except (ServerUnreachable, ClientError) as error:
                if not place.connected or (isinstance(error, ClientError) and not error.transient):
                    raise
                lost = error.message
            place.lose(lost, say)
            await self._sleep(place.backoff.next())

    async def _stream_once(self, place: "_Place") -> AsyncGenerator[Message]:
        with _reaching(self.server):
            async with self._request(
                "GET", "/log/v1/events/stream", place.params(), _STREAM, headers=place.headers()
            ) as response:
                if response.status != 200:
                    raise _refusal(self.server, response, await response.read())
                place.connect(response.headers.get("Date"))
                parser = MessageParser()
                async for piece in response.content.iter_any():
                    for message in parser.feed(piece):
                        yield place.advance(message)
                    place.backoff.first = parser.retry or place.backoff.first

    async def open_deployment(self, opening: Opening) -> DeploymentState:
        """Open a deployment, and its stack if there is none of that name."""
        return await self._call(
            "POST", "/log/v1/deployments", DeploymentState,
            body=msgspec.json.encode(opening), media="application/json",
        )  # fmt: skip

    async def deployment(self, id: str) -> DeploymentState:
        """One deployment."""
        return await self._call("GET", f"/log/v1/deployments/{_segment(id)}", DeploymentState)

    async def wait(self, id: str, timeout: int) -> DeploymentState:
        """The deployment once it has ended, or as it is after ``timeout`` seconds."""
        return await self._call(
            "GET", f"/log/v1/deployments/{_segment(id)}/wait", DeploymentState,
            params=[("timeout", str(timeout))],
            timeout=aiohttp.ClientTimeout(total=timeout + 15, sock_connect=_CONNECT_SECONDS),
        )  # fmt: skip

    async def deployments(self, params: Params) -> DeploymentPage:
        """One page of the deployments of a ``project`` or ``stack``, last started first."""
        return await self._call("GET", "/log/v1/deployments", DeploymentPage, params=params)

    async def stacks(self, params: Params) -> tuple[StackState, ...]:
        """The stacks, of a ``project`` or of all."""
        return (await self._call("GET", "/log/v1/stacks", _Stacks, params=params)).stacks

    async def projects(self) -> tuple[str, ...]:
        """The names of the projects."""
        return (await self._call("GET", "/log/v1/projects", _Projects)).projects

    async def delete_stack(self, project: str, name: str) -> None:
        """End a stack: its name is free again, its events stay."""
        params = [("project", project), ("name", name)]
        await self._call("DELETE", "/log/v1/stacks", msgspec.Raw, params=params)

    async def _call(
        self,
        method: str,
        path: str,
        type_: type[_T],
        *,
        params: Params = (),
        body: bytes | None = None,
        media: str | None = None,
        timeout: aiohttp.ClientTimeout = _REQUEST,
    ) -> _T:
        headers = {"Content-Type": media} if media else {}
        with _reaching(self.server):
            async with self._request(
                method, path, params, timeout, headers=headers, body=body
            ) as response:
                content = await response.read()
        if not response.ok or response.status >= 300:
            raise _refusal(self.server, response, content)
        return _decode(type_, content)

    def _request(
        self,
        method: str,
        path: str,
        params: Params,
        timeout: aiohttp.ClientTimeout,
        *,
        headers: dict[str, str],
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        # A redirected POST would arrive as a GET, and the key might go to another host.
        return self._session.request(
            method, self.server + path, params=list(params), data=body,
            headers=headers, timeout=timeout, allow_redirects=False,
        )  # fmt: skip


class _Place:
    """How far a stream has come, over all its connections."""

    def __init__(self, params: Params, after: str | None, backoff: Backoff) -> None:
        self.connected = False
        self.backoff = backoff
        self._params = list(params)
        self._last = after
        self._since: str | None = None
        self._is_lost = False

    def params(self) -> Params:
        if self._since is None or self._last is not None:
            return self._params
        others = [(name, value) for name, value in self._params if name != "from"]
        return [*others, ("from", self._since)]

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last} if self._last else {}

    def connect(self, date: str | None) -> None:
        """Remember when a stream from now on began, by the server's own clock.

        Otherwise a connection lost before the first message would begin from another now,
        and miss what came between the two.
        """
        start = dict(self._params).get("from", "now")
        if not self.connected and start == "now" and date is not None:
            self._since = render_time(int(parsedate_to_datetime(date).timestamp()) * SECOND)
        self.connected = True
        self._is_lost = False

    def lose(self, reason: str, say: Say) -> None:
        """Say it once, however long it takes to connect again."""
        if not self._is_lost:
            say(f"{reason}; connecting again")
        self._is_lost = True

    def advance(self, message: Message) -> Message:
        self._last = message.id or self._last
        self.backoff.reset()
        return message


def _segment(name: str) -> str:
    return quote(name, safe="")


def _decode(type_: type[_T], content: bytes | str) -> _T:
    try:
        return msgspec.json.decode(content or b"null", type=type_)
    except msgspec.DecodeError as error:
        raise ClientError(f"the server's answer is not Deploylog's: {error}", status=200) from error


#: What to look at, since the service tells nobody why.
_UNKNOWN = "Is DEPLOYLOG_KEY or --key a key of this service, not revoked?"


def _refusal(server: str, response: aiohttp.ClientResponse, content: bytes) -> ClientError:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    fallback = f"{server} answered {response.status} {response.reason}"
    message = problem.detail or problem.title or fallback
    return ClientError(
        f"{message} {_UNKNOWN}" if response.status == 401 else message,
        status=response.status,
        problem=problem.type.rpartition(":")[2].rpartition("/")[2],
        retry_after=_parse_retry_after(response.headers.get("Retry-After", "")),
    )


def _parse_retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


@contextmanager
def _reaching(server: str) -> Iterator[None]:
    """Say in one line that ``server`` did not answer, whatever the reason."""
    try:
        yield
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise OperatorError(f"{server!r} is not a server's address") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ServerUnreachable(f"{server} does not answer ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    if isinstance(error, aiohttp.ServerDisconnectedError) or not str(error):
        return "connection lost"
    return str(error).partition("\n")[0]
