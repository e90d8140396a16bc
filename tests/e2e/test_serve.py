"""The service as a process: how it starts, stops, refuses and comes back."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploylog.events.access import parse_grant
from deploylog.server.admin import add_key
from support.backends import empty_store_url_at
from support.refusals import assert_one_plain_line, refused
from support.servers import EVENTS, Spawned, line, spawned
from support.waiting import PATIENCE, until


@pytest.fixture
async def server(url: str) -> AsyncIterator[Spawned]:
    async with spawned(url) as server:
        yield server


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_every_stream_cleanly_and_soon(server: Spawned, number: signal.Signals):
    async with AsyncExitStack() as open_streams:
        streams = [
            await open_streams.enter_async_context(server.stream("from=start")) for _ in range(20)
        ]
        ids = await server.append([line(), line()])
        for stream in streams:
            assert await stream.take(2) == ids

        begun = time.monotonic()
        code, said = await server.end(number)
        took = time.monotonic() - begun

        assert [await stream.block() for stream in streams] == [None] * 20
    assert code == 0
    assert took < 1
    assert "Traceback" not in said
    assert "ERROR" not in said


async def test_a_stop_without_streams_is_clean_too(server: Spawned):
    await server.append([line()])

    code, said = await server.end()

    assert (code, "Traceback" in said) == (0, False)


async def test_a_stop_does_not_wait_for_those_who_wait(server: Spawned):
    id = (await server.open())["id"]
    path = f"/log/v1/deployments/{id}/wait?timeout=300"
    waiting = asyncio.create_task(server.get(path))

    async def somebody_waits() -> bool:
        return b"deploylog_readers 1.0" in (await server.get("/metrics")).body

    await until(somebody_waits)

    begun = time.monotonic()
    code, _ = await server.end()

    assert time.monotonic() - begun < 1
    assert ((await waiting).json["status"], code) == ("running", 0)


async def test_a_reader_that_does_not_read_cannot_hold_up_a_stop_for_long(server: Spawned):
    with socket.create_connection(("127.0.0.1", server.port)) as reader:
        reader.sendall(b"GET /log/v1/events/stream?from=start HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(40):
            await server.append([line(message="x" * 30_000) for _ in range(30)])

        begun = time.monotonic()
        code, _ = await server.end()

    assert time.monotonic() - begun < 10
    assert code == 0


# Refusing to start


async def test_a_port_that_is_taken_is_one_plain_line(url: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        refusal = await refused("--store", url, "--port", str(port))

    assert_one_plain_line(refusal, str(port))


async def test_a_folder_that_is_not_there_is_one_plain_line(tmp_path: Path):
    refusal = await refused(
        "--store", empty_store_url_at(tmp_path / "nowhere" / "log.db"), "--port", "0"
    )

    assert_one_plain_line(refusal, "nowhere")


async def test_a_store_of_another_kind_is_one_plain_line():
    assert_one_plain_line(await refused("--store", "mysql://x", "--port", "0"), "mysql://x")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_listening_to_everybody_without_a_key_is_refused(url: str, host: str):
    refusal = await refused("--store", url, "--host", host, "--port", "0")

    assert_one_plain_line(refusal, host, "key")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--port", "70000"), ("--heartbeat-seconds", "0"), ("--log-level", "loud")],
)
async def test_a_setting_out_of_range_is_named(url: str, option: str, value: str):
    refusal = await refused("--store", url, option, value)

    assert_one_plain_line(refusal, option[2:].replace("-", "_"))


async def test_with_a_key_it_listens_to_everybody(url: str):
    await asyncio.to_thread(add_key, url, name="ci", groups=(), grants=[parse_grant("admin:/")])

    async with spawned(url, host="0.0.0.0") as server:
        answer = await server.get(EVENTS)

    assert answer.status == 401


# Coming back


async def test_what_was_acknowledged_outlives_a_kill(url: str):
    async with spawned(url) as server:
        first = await server.append([line() for _ in range(50)])
        writing = [asyncio.create_task(server.post(line(subject=str(n)))) for n in range(200)]
        acknowledged: list[str] = []
        for answer in asyncio.as_completed(writing):
            acknowledged += (await answer).ids
            if len(acknowledged) == 100:
                break
        await server.end(signal.SIGKILL)
        late = await asyncio.gather(*writing, return_exceptions=True)
        acknowledged += [
            id for answer in late if not isinstance(answer, BaseException) for id in answer.ids
        ]

    async with spawned(url) as again:
        kept = (await again.get(f"{EVENTS}?limit=1000&order=oldest")).ids
        [new] = await again.append([line()])

    assert kept[:50] == first
    assert set(acknowledged) <= set(kept)
    assert new > kept[-1]


async def test_a_stream_goes_on_after_a_restart(url: str):
    async with spawned(url) as server:
        ids = await server.append([line() for _ in range(5)])
        await server.end()

    async with spawned(url) as again, again.stream(headers={"Last-Event-ID": ids[1]}) as stream:
        assert await stream.take(3) == ids[2:]


async def test_two_services_over_one_store_tell_each_other_s_events(url: str):
    async with spawned(url) as one, spawned(url) as other, other.stream() as stream:
        await stream.block()

        ids = await one.append([line(), line()])

        assert await stream.take(2) == ids


async def test_old_events_are_deleted_when_the_settings_say_so(url: str):
    async with spawned(url) as server:
        await server.append([line(), line()])
        await server.end()

    async with spawned(url, event_retention_days=1e-9) as again:

        async def nothing_is_left() -> bool:
            return not (await again.get(EVENTS)).ids

        await until(nothing_is_left)


async def test_an_upload_under_way_ends_after_sigterm(server: Spawned):
    body = json.dumps(line()).encode()
    head = (
        f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(PATIENCE):
        writer.write(head.encode())
        # The endpoint waits for the body.
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        server.process.send_signal(signal.SIGTERM)
        await until(lambda: is_refused(server.port))
        # What is measured is a span of time: well over the second that it once was, and well
        # below the five that are documented.
        await asyncio.sleep(2)
        writer.write(body)
        answer = await reader.read()
        _, said = await server.process.communicate()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert server.process.returncode == 0
    assert b"Cancel" not in said


async def is_refused(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
