"""Connections: what a client may send, and how slowly, before its request is complete."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploylog.server.connection_limits import Limits, limits_of
from deploylog.server.refusals import Refusals
from deploylog.server.settings import load_settings
from deploylog.store.contract import Store
from support.backends import store_url_at
from support.servers import EVENTS, LINES, STREAM, Local, line, running, spawned
from support.waiting import PATIENCE, until

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


class Peer:
    """A client that sends bytes as it pleases."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send, however little of it the server takes."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        received = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while piece := await self._reader.read(65536):
                    received += piece
            except ConnectionError:
                pass
        return received

    async def status(self) -> int:
        """The status of the next answer."""
        async with asyncio.timeout(PATIENCE):
            line = await self._reader.readline()
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await self._reader.readexactly(int(length[1]))
        return int(line.split()[1])


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


def counted(server: Local, reason: str, metrics: str) -> float:
    found = re.search(rf'deploylog_refusals_total{{reason="{reason}"}} (\S+)', metrics)
    return float(found[1]) if found else 0.0


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    """One that does not wait for long."""
    short: dict[str, Any] = {"header_seconds": 0.5, "body_seconds": 0.5, "keep_alive_seconds": 0.5}
    async with running(store, **short) as made:
        yield made


@pytest.fixture
async def patient(store: Store) -> AsyncIterator[Local]:
    async with running(store) as made:
        yield made


TOO_MUCH = {
    "a long target": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n", 414, "target_length"),
    "a long header": (GET + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n", 431, "header_length"),
    "a header without an end": (GET + b"X-Long: " + b"a" * 2_000_000, 431, "header_length"),
    "many bytes in many headers": (GET + b"X-Some: 012345678\r\n" * 120_000, 431, "header_count"),
    "long headers together": (
        GET + (b"X-Some: " + b"a" * 4_000 + b"\r\n") * 30 + b"\r\n",
        431,
        "header_length",
    ),
    "empty lines": (b"\r\n" * 1_000_000, 431, "header_length"),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "malformed"),
    "trailers": (
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"X-Some: 012345678\r\n" * 120_000,
        431,
        "header_count",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
async def test_a_head_that_is_too_much_is_refused(patient: Local, case: str):
    sent, status, reason = TOO_MUCH[case]

    async with connected(patient.port) as peer:
        sending = asyncio.create_task(peer.send(sent))
        received = await peer.rest()
        await sending

    # Where a request was answered before its trailers came, nothing may follow the answer.
    assert b" %d " % status in received or case == "trailers"
    metrics = (await patient.get("/metrics")).body.decode()
    assert counted(patient, reason, metrics) == 1


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_a_head_within_the_limits_is_taken_in_any_pieces(patient: Local, step: int):
    request = GET + b"X-Long: " + b"a" * 2_000 + b"\r\n" + b"X-Some: a\r\n" * 100 + b"\r\n"

    async with connected(patient.port) as peer:
        for start in range(0, len(request), step):
            await peer.send(request[start : start + step])
        status = await peer.status()

    assert status == 200


async def test_pipelined_requests_are_all_answered(patient: Local):
    async with connected(patient.port) as peer:
        await peer.send((GET + b"\r\n") * 100)
        statuses = [await peer.status() for _ in range(100)]

    assert statuses == [200] * 100


async def test_requests_pipelined_without_end_close_the_connection(patient: Local):
    async with connected(patient.port) as peer:
        sending = asyncio.create_task(peer.send((GET + b"\r\n") * 100_000))
        await peer.rest()
        await sending

    answer = await patient.get("/metrics")
    assert counted(patient, "pipelined", answer.body.decode()) == 1


SLOW = {
    "silence": (b"", None),
    "empty lines": (b"\r\n", None),
    "some of the target": (b"GET /hea", 408),
    "some headers": (GET, 408),
    "no body": (
        b"POST /log/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
        408,
    ),
    "some of a body": (
        b"POST /log/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        408,
    ),
}


@pytest.mark.parametrize("case", SLOW)
async def test_who_stops_sending_is_not_waited_for(server: Local, case: str):
    sent, status = SLOW[case]

    async with connected(server.port) as peer:
        await peer.send(sent)
        received = await peer.rest()

    assert (b"HTTP/1.1 408 " in received) if status else (received == b"")


async def test_an_idle_connection_is_closed(server: Local):
    async with connected(server.port) as peer:
        await peer.send(GET + b"\r\n")
        status = await peer.status()
        await peer.send(b"\r\n")
        rest = await peer.rest()

    assert (status, rest) == (200, b"")


async def test_a_body_that_is_not_wanted_does_not_keep_its_connection(server: Local):
    async with connected(server.port) as peer:
        await peer.send(b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n")
        status = await peer.status()
        rest = await peer.rest()

    assert (status, rest) == (405, b"")


async def test_an_upload_of_minutes_is_taken_while_it_moves(patient: Local):
    content = json_lines(60)
    now, pieces = asyncio.get_running_loop().time(), range(0, len(content), 2000)

    async def slowly() -> AsyncIterator[bytes]:
        for number, start in enumerate(pieces, 1):
            yield content[start : start + 2000]
            if number < len(pieces):
                await until(lambda: any(c._body_bytes >= 1024 for c in patient.open_connections))
                patient.connections.sweep(now + number * 60)

    answer = await patient.ask("POST", EVENTS, data=slowly(), headers={"Content-Type": LINES})

    assert len(pieces) > 5
    assert answer.status == 201
    assert len(answer.ids) == 60


async def test_an_upload_that_trickles_is_ended(patient: Local):
    now = asyncio.get_running_loop().time()
    async with connected(patient.port) as peer:
        await peer.send(
            b"POST /log/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
        )
        await peer.send(b" " * 1000)
        await until(lambda: any(c._body_bytes == 1000 for c in patient.open_connections))
        patient.connections.sweep(now + 60)
        received = await peer.rest()

    assert received.startswith(b"HTTP/1.1 408 ")


async def test_a_stream_outlives_every_limit_of_time(server: Local):
    async with server.stream() as stream:
        async with connected(server.port) as silent:
            assert await silent.rest() == b""
        async with connected(server.port) as silent:
            assert await silent.rest() == b""
        [id] = await server.append([line()])

        assert await stream.take(1) == [id]


async def test_half_a_request_behind_a_stream_does_not_end_it(server: Local):
    async with connected(server.port) as peer:
        await peer.send(b"GET /log/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\nGET /h")
        async with connected(server.port) as silent:
            assert await silent.rest() == b""
        await server.append([line(message="behind")])
        async with asyncio.timeout(PATIENCE):
            received = await peer._reader.readuntil(b"behind")

    assert b" 408 " not in received


async def test_a_fault_behind_a_request_leaves_its_answer_alone(patient: Local):
    async with connected(patient.port) as peer:
        await peer.send((GET + b"\r\n") * 2 + b"no HTTP\r\n\r\n")
        statuses = [await peer.status() for _ in range(2)]
        rest = await peer.rest()

    assert (statuses, rest) == ([200, 200], b"")


async def test_a_torn_body_behind_a_request_leaves_its_answer_alone(patient: Local):
    torn = b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"

    async with connected(patient.port) as peer:
        await peer.send(GET + b"\r\n" + torn)
        status = await peer.status()
        rest = await peer.rest()

    assert (status, rest) == (200, b"")


async def test_a_fault_after_the_answer_gets_no_second_answer(patient: Local):
    async with connected(patient.port) as peer:
        await peer.send(
            b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
        )
        status = await peer.status()
        await peer.send(b"no size\r\n")
        rest = await peer.rest()

    assert (status, rest) == (405, b"")


async def test_an_early_refusal_of_who_awaits_100_ends_the_connection(patient: Local):
    """Some clients send no body then, and the next request would be taken for it."""
    async with connected(patient.port) as peer:
        await peer.send(
            b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            head = await peer._reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"connection: close" in head


async def test_who_awaited_100_keeps_the_connection(patient: Local):
    body = json_lines(1)
    async with connected(patient.port) as peer:
        await peer.send(
            b"POST /log/v1/events HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-ndjson\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
        )
        async with asyncio.timeout(PATIENCE):
            interim = await peer._reader.readuntil(b"\r\n\r\n")
        await peer.send(body)
        status = await peer.status()
        await peer.send(GET + b"\r\n")

        assert (interim, status) == (b"HTTP/1.1 100 Continue\r\n\r\n", 201)
        assert await peer.status() == 200


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_refused_upload_on_a_closing_connection_is_no_reset(patient: Local, version: bytes):
    """Some clients read the answer only after they have sent all of the body."""
    size = 4 << 20
    async with connected(patient.port) as peer:
        await peer.send(
            b"POST /healthz HTTP/%s\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % (version, size)
        )
        async with asyncio.timeout(PATIENCE):
            head = await peer._reader.readuntil(b"\r\n\r\n")
            for _ in range(size >> 16):
                peer.writer.write(b" " * 65536)
                await peer.writer.drain()
        await peer.rest()
        await until(lambda: len(patient.open_connections) == 0)

    assert head.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("is_split", [True, False])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_offer_of_http_2_leaves_the_body_alone(
    patient: Local, framing: str, is_split: bool
):
    """curl and Java's client offer it with the first request that they send."""
    body = json_lines(2)
    framed = {
        "length": (b"Content-Length: %d" % len(body), body),
        "chunks": (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
    }
    header, sent = framed[framing]
    head = (
        b"POST /log/v1/events HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-ndjson\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n" + header + b"\r\n\r\n"
    )
    async with connected(patient.port) as peer:
        if is_split:
            await peer.send(head)
            await until(lambda: any(c._receiving == "body" for c in patient.open_connections))
            await peer.send(sent + GET + b"\r\n")
        else:
            await peer.send(head + sent + GET + b"\r\n")
        statuses = [await peer.status(), await peer.status()]

    assert statuses == [201, 200]
    assert len((await patient.get(EVENTS)).ids) == 2


async def test_requests_behind_an_offer_of_another_protocol_are_answered(patient: Local):
    offer = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    async with connected(patient.port) as peer:
        await peer.send(offer + GET + b"\r\n" + offer)
        statuses = [await peer.status() for _ in range(3)]

    assert statuses == [200] * 3


async def test_a_stream_ends_with_its_client_though_requests_wait_behind_it(store: Store):
    async with running(store, heartbeat_seconds=0.1) as server:
        async with connected(server.port) as peer:
            await peer.send(b"GET /log/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: server.hub.readers == 1)
            await peer.send(GET + b"\r\n")
            await until(lambda: any(c.pipeline for c in server.open_connections))

        await until(lambda: server.hub.readers == 0)


async def test_answers_that_no_client_reads_do_not_keep_their_connection(server: Local):
    async with connected(server.port) as peer:
        await peer.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        await until(lambda: any(c.flow.write_paused for c in server.open_connections))

        await until(lambda: not server.open_connections)


async def test_a_connection_is_not_evicted_while_its_answer_is_being_read(store: Store):
    async with running(store, max_connections=1) as server:
        await server.http.close()
        await until(lambda: not server.open_connections)
        async with connected(server.port) as first:
            await first.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            await until(lambda: any(c.flow.write_paused for c in server.open_connections))
            [connection] = server.open_connections
            server.connections.idle(connection)
            async with connected(server.port) as second:
                received = await second.rest()

    assert received.startswith(b"HTTP/1.1 503 ")


async def test_at_the_limit_the_oldest_silent_connection_makes_room(store: Store):
    async with running(store, max_connections=3) as server:
        await server.get("/healthz")
        async with connected(server.port) as first, connected(server.port) as second:
            await second.send(GET)
            async with connected(server.port) as third:
                gone = await first.rest()
                await third.send(GET + b"\r\n")

                assert (gone, await third.status()) == (b"", 200)
        answer = await server.get("/metrics")

    assert counted(server, "evicted", answer.body.decode()) >= 1


async def test_connections_with_a_request_are_not_closed_for_others(store: Store):
    async with running(store, max_connections=2) as server:
        await server.http.close()
        asked = b"GET /log/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with connected(server.port) as first, connected(server.port) as second:
            for peer in (first, second):
                await peer.send(asked)
                async with asyncio.timeout(PATIENCE):
                    await peer._reader.readuntil(b"\r\n\r\n")
            async with connected(server.port) as third:
                await third.send(GET + b"\r\n")
                received = await third.rest()

    assert received.startswith(b"HTTP/1.1 503 ")


async def test_an_address_has_its_share_of_the_connections(store: Store):
    async with running(store, max_connections_per_address=2) as server:
        async with connected(server.port), connected(server.port), connected(server.port) as third:
            received = await third.rest()
        await until(lambda: not server.open_connections)
        answer = await server.get("/healthz")

    assert received.startswith(b"HTTP/1.1 503 ")
    assert answer.status == 200


async def test_connections_of_a_unix_socket_have_no_address_to_share(
    store_url: str, tmp_path: Path
):
    path = str(tmp_path / "socket")
    async with spawned(store_url, unix_socket=path, max_connections_per_address=1) as server:
        connector = aiohttp.UnixConnector(path, force_close=True)
        http = aiohttp.ClientSession("http://localhost", connector=connector)
        async with http, http.get(STREAM), http.get(STREAM), http.get("/healthz") as answer:
            status = answer.status
        assert server.process.returncode is None

    assert status == 200


async def test_malformed_requests_are_logged_together(caplog: pytest.LogCaptureFixture):
    refusals = Refusals(lambda reason: None)

    for _ in range(1000):
        refusals.add("malformed")
    refusals.report(1000.0)
    refusals.add("malformed")
    refusals.report(1030.0)
    refusals.report(1060.0)

    assert [record.getMessage() for record in caplog.records] == [
        "refused before a request was complete: malformed 1000",
        "refused before a request was complete: malformed 1",
    ]


async def test_with_few_open_files_silent_connections_keep_nobody_out(tmp_path: Path):
    """The service may open 256 files, and 240 connections say nothing."""
    url = store_url_at(tmp_path / "log.db")
    program = (sys.executable, "-m", "deploylog", "serve", "--port", "0", "--store", url)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", *program,
        stderr=asyncio.subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    assert process.stderr is not None
    silent: list[asyncio.StreamWriter] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while b"listening on" not in (said := await process.stderr.readline()):
                assert said, "the service did not start"
            port = int(said.split(b"listening on http://127.0.0.1:")[1].split(b",")[0])
            for _ in range(240):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                silent.append(writer)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                async with http.get("/readyz") as ready:
                    status = ready.status
                lines = {"Content-Type": LINES}
                async with http.post(EVENTS, data=json_lines(1), headers=lines) as posted:
                    appended = posted.status
    finally:
        for writer in silent:
            writer.close()
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert (status, appended) == (200, 201)


async def test_100_mib_of_headers_take_no_memory(tmp_path: Path):
    async with spawned(store_url_at(tmp_path / "log.db")) as server:
        await server.get("/healthz")
        before = peak_of(server.process.pid)
        async with connected(server.port) as many, connected(server.port) as long:
            sending = [
                asyncio.create_task(many.send(GET + b"X-Some: a\r\n" * (8 << 20))),
                asyncio.create_task(long.send(GET + b"X-Long: " + b"a" * (64 << 20))),
            ]
            answers = [await many.rest(), await long.rest()]
            await asyncio.gather(*sending)
        after = peak_of(server.process.pid)

    assert all(b"HTTP/1.1 431 " in answer for answer in answers)
    assert after - before < 64 << 20


def peak_of(pid: int) -> int:
    """The most memory that the process has had, in bytes."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


def limits() -> Limits:
    return limits_of(load_settings({}, environ={}, config=None))


def json_lines(number: int) -> bytes:
    return b"\n".join(json.dumps(line(message="m" * 80)).encode() for _ in range(number))
