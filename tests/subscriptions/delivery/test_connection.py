"""Connections to receivers: which are used again, and responses that have no end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from deploylog.subscriptions.delivery.connection import (
    ConnectionPool,
    Connector,
    NoResponse,
    RawResponse,
    protocol_of,
)
from support.receivers import Receiver, Step, receiving, say
from support.waiting import PATIENCE, until

OK = RawResponse(200, b"ok", None)
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def pool(*, idle_seconds: float = 60) -> AsyncIterator[ConnectionPool]:
    connector = Connector(socket_factory=lambda info: socket.socket(*info[:3]))
    async with connector:
        connections = ConnectionPool(connector, connect_seconds=5, idle_seconds=idle_seconds)
        yield connections
        connections.close()


async def ask(connections: ConnectionPool, receiver: Receiver) -> RawResponse:
    url = URL(receiver.url)
    connection = await connections.take(url, str(url.origin()))
    try:
        return await protocol_of(connection).exchange(REQUEST, max_bytes=9, seconds=PATIENCE)
    finally:
        connections.give_back(str(url.origin()), connection)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_the_receiver_gives_up_is_not_used_again(raw: bytes):
    async with receiving(say(raw)) as receiver, pool() as connections:
        responses = [await ask(connections, receiver) for _ in range(2)]

    assert responses == [OK, OK]
    assert receiver.connections == 2


async def test_a_connection_is_used_again_after_chunks_and_trailers():
    chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nRetry: 1\r\n\r\n"
    async with receiving(say(b"HTTP/1.1 200 OK\r\n" + chunks)) as receiver, pool() as connections:
        responses = [await ask(connections, receiver) for _ in range(2)]

    assert responses == [OK, OK]
    assert receiver.connections == 1


async def test_requests_at_the_same_time_have_connections_of_their_own():
    async with receiving() as receiver, pool() as connections:
        responses = await asyncio.gather(*(ask(connections, receiver) for _ in range(3)))
        again = await asyncio.gather(*(ask(connections, receiver) for _ in range(3)))

    assert responses == again == [OK] * 3
    assert receiver.connections == 3


async def test_an_idle_connection_is_closed():
    closed = asyncio.Event()

    async def step(receiver: Receiver, streams: Any) -> None:
        await say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(receiver, streams)
        assert await streams[0].read() == b""
        closed.set()

    async with receiving(step) as receiver, pool(idle_seconds=0.05) as connections:
        await ask(connections, receiver)
        await asyncio.wait_for(closed.wait(), PATIENCE)
        await ask(connections, receiver)

    assert receiver.connections == 2


async def test_a_connection_that_was_closed_while_idle_is_not_used_again():
    async with receiving() as receiver, pool() as connections:
        await ask(connections, receiver)
        await receiver.end()
        url = URL(receiver.url)
        connection = await connections.take(url, str(url.origin()))
        connections.give_back(str(url.origin()), connection)
        await until(lambda: not protocol_of(connection).is_reusable or receiver.connections == 2)
        assert await ask(connections, receiver) == OK

    assert receiver.connections == 2


async def test_what_comes_without_a_request_is_no_response():
    late = asyncio.Event()

    async def step(receiver: Receiver, streams: Any) -> None:
        await say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(receiver, streams)
        await late.wait()
        await say(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")(receiver, streams)

    async with receiving(step) as receiver, pool() as connections:
        await ask(connections, receiver)
        url = URL(receiver.url)
        connection = await connections.take(url, str(url.origin()))
        connections.give_back(str(url.origin()), connection)
        late.set()
        await until(lambda: not protocol_of(connection).is_reusable)
        assert await ask(connections, receiver) == OK


def without_end(raw: bytes) -> Step:
    async def step(receiver: Receiver, streams: Any) -> None:
        streams[1].write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            streams[1].write(raw)
            await streams[1].drain()

    return step


@pytest.mark.parametrize("raw", [b"0" * 4096, b"0\r\nX: 1" + b"1" * 1000])
async def test_a_frame_without_end_is_refused(raw: bytes):
    async with receiving(without_end(raw)) as receiver, pool() as connections:
        with pytest.raises(NoResponse, match="not valid HTTP"):
            await ask(connections, receiver)
