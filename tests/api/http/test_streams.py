"""Streams over real sockets: history, then live, without seam, whatever happens in between."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.factories import Commits, new_event, new_events, now
from support.servers import (
    DEPLOYMENTS,
    EVENTS,
    STREAM,
    Frame,
    Local,
    line,
    parse_frame,
    running,
)
from support.waiting import PATIENCE, until


async def all_ids(store: Store) -> list[str]:
    """The ids of everything in the log, oldest first."""
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await store.log.read(Query(after=after, order="oldest", limit=100_000))
        found += [event.id for event in page]
        after = page.next
    return found


# History and live


async def test_history_continues_into_live_events_during_writes(server: Local):
    async def write() -> None:
        for _ in range(100):
            await server.store.log.append(new_events(7))

    await server.store.log.append(new_events(1200))
    writing = asyncio.create_task(write())
    async with server.stream("from=start") as stream:
        seen = await stream.take(1900)
    await writing

    assert seen == await all_ids(server.store)


async def test_readers_that_start_at_any_time_see_the_same_events(server: Local):
    async def write() -> None:
        for _ in range(60):
            await server.store.log.append(new_events(5))

    async def read(wait_for: int) -> list[str]:
        await server.until(lambda: server.hub.head >= wait_for)
        async with server.stream("from=start") as stream:
            return await stream.take(300)

    readers = [asyncio.create_task(read(head)) for head in range(0, 300, 15)]
    await write()

    everything = await all_ids(server.store)
    for reader in readers:
        assert await reader == everything


async def test_events_of_another_process_are_streamed(server: Local, store_url: str):
    async with server.stream() as stream, open_store(store_url, observer=Commits()) as other:
        await stream.block()

        [event] = await other.log.append([new_event()])

        assert await stream.take(1) == [event.id]


async def test_a_stream_cut_at_any_event_resumes_with_the_next(server: Local):
    events = await server.store.log.append(new_events(12))
    ids = [event.id for event in events]

    for cut in range(len(ids)):
        headers = {"Last-Event-ID": ids[cut]}
        async with server.stream("from=start", headers=headers) as stream:
            rest = await stream.take(len(ids) - cut - 1)
            [live] = await server.append([line()])
            assert rest == ids[cut + 1 :]
            assert await stream.take(1) == [live]
        ids.append(live)


async def test_a_reader_that_is_disconnected_repeatedly_misses_nothing(server: Local):
    async def write() -> None:
        for _ in range(200):
            await server.store.log.append(new_events(3))

    chance = random.Random(1)
    writing = asyncio.create_task(write())
    seen: list[str] = []
    while len(seen) < 600:
        headers = {"Last-Event-ID": seen[-1]} if seen else None
        async with server.stream("from=start", headers=headers) as stream:
            seen += await stream.take(min(chance.randint(1, 40), 600 - len(seen)))
    await writing

    assert seen == await all_ids(server.store)


async def test_the_header_wins_over_the_parameter(server: Local):
    ids = await server.append([line() for _ in range(4)])

    async with server.stream(f"after={ids[0]}") as by_parameter:
        assert await by_parameter.take(3) == ids[1:]
    async with server.stream(f"after={ids[0]}", headers={"Last-Event-ID": ids[2]}) as by_header:
        assert await by_header.take(1) == ids[3:]


@pytest.mark.parametrize("query", ["", "from=now"])
async def test_from_now_streams_only_new_events(server: Local, query: str):
    await server.append([line(), line()])

    async with server.stream(query) as stream:
        await stream.block()
        new = await server.append([line()])
        assert await stream.take(1) == new


async def test_from_a_time_streams_events_recorded_since(server: Local):
    await server.append([line(time="2026-01-01T00:00:00Z") for _ in range(3)])
    first = (await server.get(EVENTS)).json["events"][0]
    # The clock has to move on for the log to see two times.
    await server.until(lambda: now() // 1_000_000 > now_of(first))
    later = await server.append([line(time="2020-01-01T00:00:00Z")])
    since = (await server.get(f"{EVENTS}/{later[0]}")).json["recordedtime"]

    async with server.stream(f"from={since}") as stream:
        assert await stream.take(1) == later


def now_of(expected: dict[str, str]) -> int:
    """The Unix milliseconds of an event's id."""
    return int(expected["id"].replace("-", "")[:12], 16) + 1


async def test_from_long_ago_streams_all_events(server: Local):
    ids = await server.append([line(), line()])

    for start in ("-1d", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "-999999999d"):
        async with server.stream(f"from={start}") as stream:
            assert await stream.take(2) == ids


@pytest.mark.parametrize(
    "query", ["from=yesterday", "scope=a//b", "since=x", "limit=3", "type=a&x"]
)
async def test_a_stream_with_a_bad_parameter_is_refused(server: Local, query: str):
    response = await server.get(f"{STREAM}?{query}")

    assert response.status == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert server.hub.readers == 0


# Frames


async def test_the_bytes_of_a_frame_are_as_documented(server: Local):
    async with server.stream() as stream:
        opening = await stream.block()
        await server.append([line(data={"a": "x\ny"}, message="two\nlines\r\n")])
        frame = await stream.block()

    assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert opening is not None
    assert opening.raw == b"retry: 1000\n"
    [visible] = (await server.get(EVENTS)).json["events"]
    assert frame is not None
    id_line, event_line, data_line, *end = frame.raw.split(b"\n")
    assert id_line == f"id: {visible['id']}".encode()
    assert event_line == b"event: resource.create.started"
    assert data_line.startswith(b"data: {")
    assert json.loads(data_line[6:]) == visible
    assert end == [b"", b""]


async def test_an_idle_stream_sends_heartbeats(store: Store):
    async with running(store, heartbeat_seconds=0.05) as server, server.stream() as stream:
        await stream.block()

        beats = [await stream.block() for _ in range(3)]

        assert [beat.raw for beat in beats if beat] == [b":\n"] * 3
        new = await server.append([line()])
        assert await stream.take(1) == new


async def test_every_block_of_a_stream_has_data(store: Store):
    async with running(store, heartbeat_seconds=0.05) as server, server.stream() as stream:
        raw = b""
        for events in range(1, 4):
            await server.append([line()])
            # A heartbeat, or two, before the next.
            while raw.count(b"data: ") < events or not raw.endswith(b"\n:\n"):
                raw += await stream.response.content.readline()

    assert raw.startswith(b"retry: 1000\n")
    blocks = raw.rpartition(b"\n\n")[0].split(b"\n\n")
    assert len(blocks) == 3
    assert all(b"\ndata: {" in block for block in blocks)


async def test_an_initial_gap_is_in_the_first_block(server: Local):
    await server.append([line()])

    async with server.stream("after=00000000-0000-7000-8000-000000000000") as stream:
        first = await stream.response.content.readline()
        second = await stream.response.content.readline()

    assert (first, second) == (b"retry: 1000\n", b"event: gap\n")


# Selection


async def test_only_events_that_match_filter_and_scope_are_sent(server: Local):
    wanted = line("a.b", scopes="project/acme/stack/1", actor="alice")
    others = [
        {**wanted, "type": "a"},
        {**wanted, "actor": "bob"},
        {**wanted, "scopes": "project/acme/stack/11"},
        {**wanted, "scopes": "project/acme"},
    ]
    history = await server.append([*others, wanted, *others])

    query = "from=start&scope=project/acme/stack/1&type=a.*&type=c&actor=alice"
    async with server.stream(query) as stream:
        seen = await stream.take(1)
        live = await server.append([*others, wanted, {**wanted, "type": "c"}, *others])
        seen += await stream.take(2)

    assert seen == [history[4], live[4], live[5]]


async def test_time_bounds_apply_to_a_stream(server: Local):
    early, late = line(time="2020-01-01T00:00:00Z"), line(time="2030-01-01T00:00:00Z")
    history = await server.append([early, late])

    async with server.stream("from=start&since=2025-01-01T00:00:00Z") as stream:
        seen = await stream.take(1)
        live = await server.append([early, late])
        seen += await stream.take(1)

    assert seen == [history[1], live[1]]


# Gaps


async def test_a_pruned_cursor_causes_a_gap_and_then_the_rest(server: Local):
    old = await server.store.log.append(new_events(5))
    stored = await _prune_all_but_new(server.store, 3)

    headers = {"Last-Event-ID": old[1].id}
    async with server.stream(headers=headers) as stream:
        gap = await stream.next()
        rest = await stream.take(3)

    assert (gap.event, gap.id) == ("gap", None)
    assert gap.data == {
        "after": str(old[1].position),
        "oldest": str(old[-1].position + 1),
        "reason": "expired",
    }
    assert rest == stored
    assert stream.last_id == stored[-1]


async def test_the_last_pruned_event_is_no_gap(server: Local):
    old = await server.store.log.append(new_events(5))
    stored = await _prune_all_but_new(server.store, 3)

    async with server.stream(f"after={old[-1].id}") as stream:
        assert await stream.take(3) == stored


async def _prune_all_but_new(store: Store, number: int) -> list[str]:
    """The ids of the new events."""
    before = (await store.log.read(Query(limit=1)))[0].recorded
    await until(lambda: now() > before)
    new = await store.log.append(new_events(number))
    await store.log.prune(new[0].recorded)
    return [event.id for event in new]


@pytest.mark.parametrize(
    "id", ["01939c2e-0000-7000-8000-000000000001", "x", "42", "\xff", "", "0" * 2000]
)
async def test_a_cursor_of_another_log_causes_a_gap_and_then_all_events(server: Local, id: str):
    ids = await server.append([line() for _ in range(3)])

    async with server.stream("from=start", headers={"Last-Event-ID": id}) as stream:
        if id:
            gap = await stream.next()
            assert (gap.event, gap.id, gap.data["reason"]) == ("gap", None, "unknown")
        assert await stream.take(3) == ids


async def test_a_cursor_beyond_the_head_causes_a_gap_and_then_all_events(server: Local):
    ids = await server.append([line() for _ in range(3)])

    async with server.stream(headers={"Last-Event-ID": f"{ids[-1][:-4]}ffff"}) as stream:
        gap = await stream.next()
        rest = await stream.take(3)

    assert gap.data["reason"] == "unknown"
    assert rest == ids


async def test_events_pruned_while_a_reader_lags_cause_a_gap(server: Local):
    await server.store.log.append(new_events(3000, message="x" * 2000))

    async with slow_reader(server, "from=start") as slow:
        stored = await _prune_all_but_new(server.store, 4)
        gaps, expected, last = [], 1, ""
        while last != stored[-1]:
            frame = await slow.next()
            if frame.event == "gap":
                gaps.append(frame.data["reason"])
                expected = int(frame.data["oldest"])
            else:
                assert int(frame.data["position"]) == expected
                expected, last = expected + 1, frame.data["id"]

    # Pruning proceeds in steps, so a reader may meet the next one.
    assert set(gaps) == {"expired"}


# Slow readers


class Slow:
    """A reader of raw bytes that reads only on request."""

    def __init__(self, socket_: socket.socket) -> None:
        self._socket = socket_
        self._rest = b""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def next(self) -> Frame:
        """The next event."""
        async with asyncio.timeout(PATIENCE):
            if self._reader is None:
                self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
                await self._reader.readuntil(b"\r\n\r\n")
            while True:
                while b"\n\n" not in self._rest:
                    self._rest += await self._chunk(self._reader)
                raw, _, self._rest = self._rest.partition(b"\n\n")
                frame = parse_frame(raw + b"\n\n")
                if frame.data is not None:
                    return frame

    async def _chunk(self, reader: asyncio.StreamReader) -> bytes:
        size = int(await reader.readline(), 16)
        chunk = await reader.readexactly(size + 2)
        return chunk[:size]

    async def close(self) -> None:
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
            await self._writer.wait_closed()


@asynccontextmanager
async def slow_reader(server: Local, query: str) -> AsyncIterator[Slow]:
    """A reader that has opened a stream and read nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", server.port))
    await loop.sock_sendall(
        connection, f"GET {STREAM}?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    await server.until(lambda: server.hub.readers > 0)
    reader = Slow(connection)
    try:
        yield reader
    finally:
        await reader.close()


@pytest.mark.parametrize("number", [300, 6000])
async def test_a_stalled_reader_stays_connected_and_gets_all_events(server: Local, number: int):
    """More events than the ring holds, and more bytes than any buffer."""
    async with slow_reader(server, "from=start") as slow, server.stream("from=start") as fast:
        for _ in range(number // 300):
            await server.store.log.append(new_events(300, message="x" * 2000))
        quick = await fast.take(number)

        assert server.hub.readers == 2
        seen = [(await slow.next()).id for _ in range(number)]

    assert seen == quick == await all_ids(server.store)


async def test_a_stalled_reader_does_not_delay_others(server: Local):
    async with slow_reader(server, "from=start"), server.stream() as fast:
        await fast.block()
        await server.store.log.append(new_events(2000, message="x" * 2000))

        assert len(await fast.take(2000)) == 2000


# Many readers


async def test_two_hundred_readers_see_the_same_events_despite_reconnects(server: Local):
    total = 300

    async def write() -> None:
        await server.until(lambda: server.hub.readers >= 150)
        for _ in range(total // 3):
            await server.store.log.append(new_events(3))

    async def read(number: int) -> list[str]:
        chance = random.Random(number)
        leaves = number % 4 == 0
        seen: list[str] = []
        while len(seen) < total:
            headers = {"Last-Event-ID": seen[-1]} if seen else None
            many = min(chance.randint(20, 120), total - len(seen)) if leaves else total
            async with server.stream("from=start", headers=headers) as stream:
                seen += await stream.take(many)
        return seen

    responses = await asyncio.gather(write(), *(read(number) for number in range(200)))

    everything = await all_ids(server.store)
    assert len(everything) == total
    for seen in responses[1:]:
        assert seen == everything


async def test_a_disconnected_reader_is_released(server: Local):
    async with AsyncExitStack() as open_streams:
        for _ in range(20):
            stream = await open_streams.enter_async_context(server.stream())
            await stream.block()
        assert server.hub.readers == 20

    await server.until(lambda: server.hub.readers == 0)
    assert server.hub._rings == {}


async def test_a_reader_that_disconnects_during_a_send_is_released(server: Local):
    await server.store.log.append(new_events(3000, message="x" * 2000))

    async with slow_reader(server, "from=start"):
        pass

    await server.until(lambda: server.hub.readers == 0)


async def test_a_head_request_leaves_no_reader(server: Local):
    await server.ask("HEAD", STREAM)

    await server.until(lambda: server.hub.readers == 0)


async def test_a_stream_ends_cleanly_when_the_service_stops(store: Store):
    async with running(store) as server, server.stream() as stream:
        await stream.block()

        server.hub.close()

        assert await stream.block() is None


async def test_a_stream_opened_while_the_service_stops_ends_at_once(server: Local):
    server.hub.close()

    async with server.stream("from=start") as stream:
        await stream.block()
        assert await stream.block() is None


async def test_waiting_ends_when_the_service_stops(server: Local):
    id = (await server.open())["id"]
    waiting = asyncio.create_task(server.get(f"{DEPLOYMENTS}/{id}/wait?timeout=300"))
    await server.until(lambda: server.hub.readers == 1)

    server.hub.close()

    assert (await waiting).json["status"] == "running"
