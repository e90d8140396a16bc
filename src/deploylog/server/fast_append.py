"""The fast path: plain requests to append are answered without ASGI; see ADR 0033.

Parsing, checks, the service and what is answered are the native API's own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from deploylog.api.context import ApiContext
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.http.endpoint import as_ours
from deploylog.api.native.appends import QUICK_BYTES, Appends
from deploylog.api.native.errors import response_of
from deploylog.api.native.paths import EVENTS
from deploylog.api.native.plain_appends import Head, PlainAppend, PlainLimits, read_plain
from deploylog.api.native.settings import NativeSettings
from deploylog.api.settings import paths_of
from deploylog.auth.authentication import Authentication
from deploylog.events.access import Principal
from deploylog.server.connection import Connection, plain_protocol
from deploylog.server.connections import Connections
from deploylog.server.requests import Answered, Observe
from deploylog.server.settings import Settings

#: Seconds for which a connection's principal is cached, on top of ``auth.cache.CACHE_TTL``.
TRUST_SECONDS = 0.25

_CLOSE = b"connection: close\r\n"


class FastAppend:
    """Answers plain requests to append."""

    def __init__(
        self,
        appends: Appends,
        gate: Authentication,
        *,
        bodies: BodyBudget,
        failed: Callable[[str], None],
        observe: Observe,
        body_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``bodies`` counts the bytes of all bodies, ``failed`` each error by its class;
        ``observe`` takes each response, and ``clock`` is monotonic, in seconds.
        """
        self._appends = appends
        self._bodies = bodies
        self._gate = gate
        self._failed = failed
        self._observe = observe
        self.body_bytes = body_bytes
        self._clock = clock
        self._own: tuple[Sequence[tuple[bytes, bytes]], bytes] = ((), b"")

    def own_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The headers of every response, which uvicorn replaces once a second."""
        if headers is not self._own[0]:
            self._own = headers, b"".join(b"%s: %s\r\n" % header for header in headers)
        return self._own[1]

    async def answer(self, request: PlainAppend, client: str | None) -> tuple[bytes, bytes]:
        """The status line of the response, and everything after uvicorn's own headers."""
        start = self._clock()
        status, response = await self._respond(request, client)
        self._observe(
            Answered(
                method="POST",
                route=EVENTS,
                path=EVENTS,
                status=status,
                seconds=self._clock() - start,
                client=client or "-",
            )
        )
        return STATUS_LINE[status], response

    async def _respond(self, request: PlainAppend, client: str | None) -> tuple[int, bytes]:
        """The status of the response, and everything after uvicorn's own headers."""
        try:
            receipts = await self._record(request, client)
        except Exception as error:
            return _rendered(response_of(as_ours(error, self._failed)))
        head = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(receipts)
        return 201, head + receipts

    async def _record(self, request: PlainAppend, client: str | None) -> bytes:
        """The receipts; raises DeploylogError."""
        with self._bodies.share() as share:
            share.grow(len(request.body))
            principal = await self._authenticate(request.head, request.query, client)
            principal.require_anywhere("write")
            defaults = await self._appends.defaults(principal, request.query)
            return await self._appends.record(
                principal, request.head.headers, request.query, request.body, defaults
            )

    async def _authenticate(self, head: Head, query: str, client: str | None) -> Principal:
        """The principal; raises Unauthenticated, TooMany or Unavailable."""
        now = self._clock()
        if head.principal is not None and now < head.until:
            self._gate.count(head.principal)
            return head.principal
        head.principal = None
        principal = await self._gate.authenticate(head.credentials(query, client))
        if principal.expires is None:
            head.principal, head.until = principal, now + TRUST_SECONDS
        return principal


def _rendered(response: Response) -> tuple[int, bytes]:
    head = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return response.status_code, b"%s\r\n%s" % (head, bytes(response.body))


def make_fast_append(
    context: ApiContext,
    settings: Settings,
    gate: Authentication,
    failed: Callable[[str], None],
    observe: Observe,
) -> FastAppend | None:
    """The fast path, unless its path may be another's below a base path."""
    if not can_be_fast(paths_of(settings.base_paths)):
        return None
    appends = Appends(context, settings.section(NativeSettings))
    return FastAppend(
        appends, gate, bodies=context.bodies, failed=failed, observe=observe,
        body_bytes=context.limits.sent,
    )  # fmt: skip


def fast_protocol(connections: Connections, append: FastAppend | None) -> type[asyncio.Protocol]:
    """What uvicorn makes for each connection; without ``append``, all requests take its own way."""
    if append is None:
        return plain_protocol(connections)
    limits = PlainLimits(
        target_bytes=connections.limits.target_bytes,
        header_bytes=connections.limits.header_bytes,
        headers=connections.limits.headers,
        body_bytes=min(append.body_bytes, QUICK_BYTES),
    )

    def make(
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> FastConnection:
        return FastConnection(append, limits, connections, config, server_state, app_state, _loop)

    return cast("type[asyncio.Protocol]", make)


def can_be_fast(base_paths: Sequence[str]) -> bool:
    """Whether the path of appends is that of nothing else below a base path."""
    return not any(EVENTS.startswith(f"{base}/") for base in base_paths)


class FastConnection(Connection):
    """A connection that answers plain requests to append by itself, one at a time."""

    def __init__(
        self,
        append: FastAppend,
        plain: PlainLimits,
        connections: Connections,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(connections, config, server_state, app_state, _loop)
        self._append = append
        self._plain = plain
        self._head: Head | None = None
        self._is_appending = False
        #: Received while an append was under way. Reading is paused, so this stays small.
        self._buffered: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Answer a plain request; parse any other."""
        if self._is_appending:
            self._buffered.append(data)
            self.flow.pause_reading()
            return
        if self._is_between_requests:
            request = read_plain(data, self._head, self._plain)
            if request is not None:
                self._start(request)
                return
        super().data_received(data)

    @property
    def _is_between_requests(self) -> bool:
        """Whether the parser is at the beginning of a request, and nothing is being answered."""
        return (
            self._receiving == "nothing"
            and not self._unparsed
            and self._keeps_alive
            and not self._has_ended
            and not self._is_answering
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _start(self, request: PlainAppend) -> None:
        self._head = request.head
        self._is_appending = self._has_asked = True
        self._connections.busy(self)
        task = self.loop.create_task(self._answer(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, request: PlainAppend) -> None:
        client = self.client[0] if self.client else None
        try:
            status, rest = await self._append.answer(request, client)
        except BaseException:
            # The service stops before the store has answered.
            self._is_appending = False
            self.transport.close()
            raise
        self._finish(status, rest)

    def _finish(self, status: bytes, rest: bytes) -> None:
        self._is_appending = False
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        own = self._append.own_headers(self.server_state.default_headers)
        if not self._keeps_alive:
            self.transport.write(b"".join((status, own, _with_close(rest))))
            self.transport.close()
            return
        self.transport.write(b"".join((status, own, rest)))
        self._since = self.loop.time()
        self._connections.idle(self)
        self._go_on()

    def _go_on(self) -> None:
        """Handle what was received meanwhile."""
        self.flow.resume_reading()
        buffered, self._buffered = self._buffered, []
        for data in buffered:
            self.data_received(data)

    def shutdown(self) -> None:
        """Close after the current answer."""
        if self._is_appending:
            self._keeps_alive = False
        else:
            super().shutdown()

    def check(self, now: float) -> None:
        """End a connection that waits for its client too long; never one whose client waits."""
        if not self._is_appending or self.transport.is_closing():
            super().check(now)


def _with_close(rest: bytes) -> bytes:
    """Say after the other headers that the connection ends, as uvicorn does."""
    head, end, body = rest.partition(b"\r\n\r\n")
    return b"".join((head, b"\r\n", _CLOSE, b"\r\n", body)) if end else rest
