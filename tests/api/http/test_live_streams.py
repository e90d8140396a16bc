"""Live streams over real sockets: what is written to many readers at once, and who leaves."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from api.http.test_streams import all_ids, slow_reader
from deploylog.store.contract import Store
from support.factories import new_event, new_events
from support.servers import STREAM, Local, running
from support.waiting import PATIENCE, until


def live(server: Local) -> int:
    """The readers that the hub writes to."""
    return sum(map(len, server.hub._audiences.values()))


async def test_readers_at_the_head_form_one_audience_for_each_view(server: Local):
    async with server.stream() as one, server.stream() as two, server.stream("type=a") as other:
        await server.until(lambda: live(server) == 3)
        assert len(server.hub._audiences) == 2
        assert server.hub.waiting == set()

        events = await server.store.log.append([new_event("a"), new_event("b")])

        assert await one.take(2) == await two.take(2) == [event.id for event in events]
        assert await other.take(1) == [events[0].id]
        assert live(server) == 3

    await server.until(lambda: server.hub._audiences == {})


async def test_many_readers_some_stalled_get_every_event_in_order(server: Local):
    """Each stalled reader leaves its audience, and comes back when it has caught up."""
    number, size = 1_500, 2_000

    async def write() -> None:
        chance = random.Random(3)
        written = 0
        while written < number:
            events = min(chance.randint(1, 40), number - written)
            await server.store.log.append(new_events(events, message="x" * size))
            written += events

    async with AsyncExitStack() as streams:
        fast = [await streams.enter_async_context(server.stream()) for _ in range(30)]
        slow = [await streams.enter_async_context(slow_reader(server, "")) for _ in range(5)]
        await server.until(lambda: live(server) == 35)
        reading = [asyncio.create_task(stream.take(number)) for stream in fast]
        await write()
        seen = [await each for each in reading]
        await server.until(lambda: live(server) == 30)
        late = [[(await reader.next()).id for _ in range(number)] for reader in slow]
        await server.until(lambda: live(server) == 35)
        [newest] = await server.store.log.append(new_events(1))
        assert [await stream.take(1) for stream in fast] == [[newest.id]] * 30
        assert [(await reader.next()).id for reader in slow] == [newest.id] * 5

    everything = (await all_ids(server.store))[:-1]
    assert len(everything) == number
    for ids in (*seen, *late):
        assert ids == everything


async def test_readers_resume_anywhere_during_appends(server: Local):
    history = [event.id for event in await server.store.log.append(new_events(6_000))]
    await server.until(lambda: server.hub.head == 6_000)
    total = 6_300

    async def write() -> None:
        for _ in range(100):
            await server.store.log.append(new_events(3))

    async def read(start: int) -> list[str]:
        async with server.stream(headers={"Last-Event-ID": history[start]}) as stream:
            return await stream.take(total - start - 1)

    chance = random.Random(1)
    # Most start together, so that they share pages; the others start inside of these pages.
    starts = [99 if number % 3 else chance.randint(0, 5_990) for number in range(40)]
    _, *seen = await asyncio.gather(write(), *map(read, starts))

    everything = await all_ids(server.store)
    for start, ids in zip(starts, seen, strict=True):
        assert ids == everything[start + 1 :]


async def test_a_page_of_history_is_read_once_for_all(
    server: Local, monkeypatch: pytest.MonkeyPatch
):
    ids = [event.id for event in await server.store.log.append(new_events(2_000))]
    await server.until(lambda: server.hub.head == 2_000)
    reads, read = [], server.store.log.read

    async def counted(query):
        reads.append(query.after)
        return await read(query)

    async with AsyncExitStack() as streams:
        monkeypatch.setattr(server.store.log, "read", counted)
        opened = [await streams.enter_async_context(server.stream("from=start")) for _ in range(20)]
        seen = await asyncio.gather(*(stream.take(2_000) for stream in opened))

    assert all(each == ids for each in seen)
    # A stream that was alone at first read its first pages for itself.
    assert len(reads) < 5 * len(set(reads))
    assert len(reads) < 20 * len(set(reads)) / 2


async def test_large_events_reach_every_reader(store: Store):
    async with running(store, max_stream_memory_mib=16) as server, AsyncExitStack() as streams:
        opened = [await streams.enter_async_context(server.stream()) for _ in range(5)]
        await server.until(lambda: live(server) == 5)
        mixed = [*new_events(2), *new_events(1, message="x" * 65_000), *new_events(2)]
        data = [event.id for event in await store.log.append(mixed)]

        assert [await stream.take(5) for stream in opened] == [data] * 5


async def test_live_readers_get_heartbeats(store: Store):
    async with running(store, heartbeat_seconds=0.05) as server, server.stream() as stream:
        await stream.block()
        await server.until(lambda: live(server) == 1)

        beats = [await stream.block() for _ in range(3)]

        assert [beat.raw for beat in beats if beat] == [b":\n"] * 3
        assert live(server) == 1


async def test_live_readers_are_counted_in_the_metrics(server: Local):
    async with AsyncExitStack() as streams:
        opened = [await streams.enter_async_context(server.stream()) for _ in range(4)]
        await server.until(lambda: live(server) == 4)
        await server.store.log.append(new_events(3))
        for stream in opened:
            await stream.take(3)

        text = (await server.get("/metrics")).body.decode()

    assert "deploylog_events_sent_total 12.0" in text
    assert 'deploylog_reader_lag_events_bucket{le="0.0"} 4.0' in text
    assert "deploylog_reader_lag_events_count 4.0" in text


async def test_a_closed_stream_is_written_nothing_more(server: Local):
    async with server.stream() as one, server.stream() as other:
        await server.until(lambda: live(server) == 2)
        [reader, *_] = server.hub._readers
        reader.close()
        [event] = await server.store.log.append(new_events(1))

        blocks = [await one.block(), await one.block(), await other.block(), await other.block()]

    assert sum(block is not None and block.id == event.id for block in blocks) == 1
    assert sum(block is None for block in blocks) == 1


async def test_a_client_that_disconnects_leaves_its_audience(server: Local):
    async with server.stream() as stays:
        async with server.stream():
            await server.until(lambda: live(server) == 2)
        await server.store.log.append(new_events(1))
        await stays.take(1)

        await until(lambda: live(server) == 1 and server.hub.readers == 1)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1\r\nConnection: close\r\n", b"HTTP/1.0\r\n", b"HTTP/1.1\r\n"]
)
async def test_every_kind_of_connection_is_written_to(server: Local, head: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET %b %bHost: localhost\r\n\r\n" % (STREAM.encode(), head))
    await server.until(lambda: live(server) == 1)
    [event] = await server.store.log.append(new_events(1))

    async with asyncio.timeout(PATIENCE):
        raw = await reader.readuntil(b"\n\n\r\n")
        server.hub.close()
        rest = await reader.readuntil(b"0\r\n\r\n")
    writer.close()

    body = raw.partition(b"\r\n\r\n")[2]
    assert body.startswith(b"c\r\nretry: 1000\n\r\n")
    size, _, frame = body.removeprefix(b"c\r\nretry: 1000\n\r\n").partition(b"\r\n")
    assert int(size, 16) == len(frame) - 2
    assert frame.startswith(f"id: {event.id}\n".encode())
    assert rest == b"0\r\n\r\n"
