"""Tailing: one stream of events, over as many connections as it takes."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import parsedate_to_datetime

from deploylog.client.connection import (
    ClientError,
    Connection,
    ServerUnreachable,
    error_of,
    translated_errors,
)
from deploylog.client.models import Params
from deploylog.client.retry import RetryPolicy, RetryTimeout
from deploylog.client.sse import Message, MessageParser
from deploylog.client.transport import Timeouts
from deploylog.events.times import SECOND, render_time

#: Fails at once when the first connection fails, and reconnects without end after that.
ENDLESS = RetryTimeout(initial=0, later=math.inf)

# The server sends a heartbeat at least every 15 s; after three missed ones the connection is dead.
_STREAM = Timeouts(read=45)


class Tail:
    """A stream that starts ``after`` an event, or where ``params`` say, and its current place."""

    def __init__(
        self, connection: Connection, params: Params, *, after: str | None, policy: RetryPolicy
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._params = list(params)
        self._last_id = after
        self._start_time: str | None = None
        self._has_connected = False

    async def messages(self) -> AsyncGenerator[Message]:
        """Yield messages without end; raises the error that the policy does not retry."""
        while True:
            failure: ServerUnreachable | ClientError
            try:
                async with aclosing(self._connect()) as messages:
                    async for message in messages:
                        yield message
                failure = ServerUnreachable(f"{self._connection.server} closed the stream")
            except (ServerUnreachable, ClientError) as error:
                failure = error
            await self._policy.wait(failure)

    async def _connect(self) -> AsyncGenerator[Message]:
        """Yield the messages of one connection."""
        server = self._connection.server
        with translated_errors(server):
            async with self._connection.request(
                "GET", "/log/v1/events/stream", self._query(), _STREAM, headers=self._headers()
            ) as response:
                if response.status != 200:
                    raise error_of(server, response, await response.read())
                self._connected(response.headers.get("date"))
                parser = MessageParser()
                async with aclosing(response.chunks()) as chunks:
                    async for chunk in chunks:
                        for message in parser.feed(chunk):
                            yield self._advance(message)
                        backoff = self._policy.backoff
                        backoff.first = parser.retry or backoff.first

    def _query(self) -> Params:
        if self._start_time is None or self._last_id is not None:
            return self._params
        others = [(name, value) for name, value in self._params if name != "from"]
        return [*others, ("from", self._start_time)]

    def _headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def _connected(self, date: str | None) -> None:
        """Remember when a stream that starts now started, by the server's clock.

        A connection that is lost before the first message would otherwise start again from a
        later now, and skip the events in between.
        """
        start = dict(self._params).get("from", "now")
        if not self._has_connected and start == "now" and date is not None:
            seconds = int(parsedate_to_datetime(date).timestamp())
            self._start_time = render_time(seconds * SECOND)
        self._has_connected = True
        self._policy.connected()

    def _advance(self, message: Message) -> Message:
        self._last_id = message.id or self._last_id
        self._policy.backoff.reset()
        return message
