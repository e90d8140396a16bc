"""Tailing: one stream of events, over as many connections as it takes."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import parsedate_to_datetime

import aiohttp

from deploylog.client.connection import (
    CONNECT_SECONDS,
    ClientError,
    Connection,
    ServerUnreachable,
    reaching,
    refusal,
)
from deploylog.client.models import Params
from deploylog.client.retry import RetryPolicy, RetryTimeout
from deploylog.client.sse import Message, MessageParser
from deploylog.events.times import SECOND, render_time

#: A first connection that fails is told at once; one that was there is awaited for ever.
ENDLESS = RetryTimeout(first=0, later=math.inf)

# The server says something at least every 15 s; three silences in a row are a dead connection.
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=45)


class Tail:
    """A stream, and how far it has come."""

    def __init__(
        self,
        connection: Connection,
        params: Params,
        *,
        after: str | None,
        persistence: RetryPolicy,
    ) -> None:
        """Begin ``after`` an event, or where ``params`` say."""
        self._connection = connection
        self._persistence = persistence
        self._params = list(params)
        self._last = after
        self._since: str | None = None
        self._is_connected = False

    async def messages(self) -> AsyncGenerator[Message]:
        """The messages, without end; raises what is final, and what outlasts the patience."""
        while True:
            lost: ServerUnreachable | ClientError
            try:
                async with aclosing(self._connected()) as messages:
                    async for message in messages:
                        yield message
                lost = ServerUnreachable(f"{self._connection.server} ended the stream")
            except (ServerUnreachable, ClientError) as error:
                lost = error
            await self._persistence.wait(lost)

    async def _connected(self) -> AsyncGenerator[Message]:
        """The messages of one connection."""
        server = self._connection.server
        with reaching(server):
            async with self._connection.request(
                "GET", "/log/v1/events/stream", self._place(), _STREAM, headers=self._headers()
            ) as response:
                if response.status != 200:
                    raise refusal(server, response, await response.read())
                self._connect(response.headers.get("Date"))
                parser = MessageParser()
                async for piece in response.content.iter_any():
                    for message in parser.feed(piece):
                        yield self._advance(message)
                    backoff = self._persistence.backoff
                    backoff.first = parser.retry or backoff.first

    def _place(self) -> Params:
        if self._since is None or self._last is not None:
            return self._params
        others = [(name, value) for name, value in self._params if name != "from"]
        return [*others, ("from", self._since)]

    def _headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last} if self._last else {}

    def _connect(self, date: str | None) -> None:
        """Remember when a stream from now on began, by the server's own clock.

        Otherwise a connection lost before the first message would begin from another now,
        and miss what came between the two.
        """
        start = dict(self._params).get("from", "now")
        if not self._is_connected and start == "now" and date is not None:
            self._since = render_time(int(parsedate_to_datetime(date).timestamp()) * SECOND)
        self._is_connected = True
        self._persistence.answered()

    def _advance(self, message: Message) -> Message:
        self._last = message.id or self._last
        self._persistence.backoff.reset()
        return message
