"""HTTP/1.1 below the client: against receivers that keep to it, and against those that do not."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deploylog.client import Client, ServerUnreachable, open_client
from deploylog.client.transport import (
    ConnectionLost,
    NotHttp,
    Timeouts,
    Transport,
    open_transport,
    parse_address,
)
from deploylog.errors import OperatorError
from support.receivers import (
    OK,
    Receiver,
    Step,
    Streams,
    certified,
    drip,
    hang,
    receiving,
    reset,
    say,
    say_and_close,
    status,
)

PATIENT = Timeouts(total=10)


@asynccontextmanager
async def talking(*steps: Step) -> AsyncIterator[tuple[Receiver, Transport]]:
    async with receiving(*steps) as receiver, open_transport(receiver.url) as transport:
        yield receiver, transport


async def ask(
    transport: Transport,
    method: str = "GET",
    path: str = "/",
    *,
    body: bytes | None = None,
    timeouts: Timeouts = PATIENT,
    headers: Mapping[str, str] = {},
) -> tuple[int, bytes]:
    async with transport.request(
        method, path, headers=headers, body=body, timeouts=timeouts
    ) as response:
        return response.status, await response.read()


async def answer_and_close_later(receiver: Receiver, streams: Streams) -> None:
    """Respond, and drop the connection when the next request arrives."""
    streams[1].write(OK)
    await streams[0].read(1)
    streams[1].transport.abort()


# Responses


@pytest.mark.parametrize(
    "step",
    [
        say(OK),
        say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
        say(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK),
        say_and_close(b"HTTP/1.1 200 OK\r\n\r\nok"),
        say_and_close(b"HTTP/1.0 200 OK\r\n\r\nok"),
        status(200, body=gzip.compress(b"ok"), Content_Encoding="gzip"),
    ],
)
async def test_a_response_ends_where_its_framing_says(step: Step):
    async with talking(step) as (_, transport):
        assert await ask(transport) == (200, b"ok")


@pytest.mark.parametrize("code", [204, 304])
async def test_a_response_without_a_body_ends_with_its_head(code: int):
    async with talking(say(b"HTTP/1.1 %d So\r\n\r\n" % code)) as (_, transport):
        assert await ask(transport) == (code, b"")


async def test_a_stream_is_given_as_it_arrives():
    arrived = asyncio.Event()

    async def stream(receiver: Receiver, streams: Streams) -> None:
        streams[1].write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await arrived.wait()
        streams[1].write(b"1\r\nb\r\n0\r\n\r\n")

    async with (
        talking(stream) as (_, transport),
        transport.request("GET", "/", headers={}, timeouts=PATIENT) as response,
    ):
        chunks = []
        async for chunk in response.chunks():
            chunks.append(chunk)
            arrived.set()

    assert chunks == [b"a", b"b"]


async def test_a_refusal_is_read_before_the_whole_body_was():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        is_over.set()

    is_over = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with open_transport(f"http://127.0.0.1:{port}") as transport:
            answer = await ask(transport, "POST", body=bytes(16 * 1024 * 1024))
        await is_over.wait()

    assert answer == (413, b"")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (reset, ConnectionError),
        (say_and_close(b""), ConnectionLost),
        (say_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), ConnectionLost),
        (say_and_close(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NotHttp),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), NotHttp),
        (say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), NotHttp),
        (status(200, body=b"no gzip", Content_Encoding="gzip"), NotHttp),
    ],
)
async def test_what_is_no_whole_response_is_an_error(step: Step, error: type[Exception]):
    async with talking(step) as (_, transport):
        with pytest.raises(error):
            await ask(transport)


@pytest.mark.parametrize(
    ("step", "timeouts"),
    [
        (hang, Timeouts(total=0.05)),
        (hang, Timeouts(read=0.05)),
        (drip, Timeouts(total=0.2)),
    ],
)
async def test_a_request_that_takes_too_long_ends(step: Step, timeouts: Timeouts):
    async with talking(step) as (_, transport):
        with pytest.raises(TimeoutError):
            await ask(transport, timeouts=timeouts)


# Connections


async def test_a_connection_is_used_again():
    async with talking() as (receiver, transport):
        answers = [await ask(transport), await ask(transport, "POST", body=b"x")]

    assert answers == [(200, b"ok")] * 2
    assert receiver.connections == 1


async def test_requests_at_the_same_time_have_connections_of_their_own():
    async with talking() as (receiver, transport):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(ask(transport))

        assert receiver.connections == 3


@pytest.mark.parametrize(
    "step",
    [
        status(200, body=b"ok", Connection="close"),
        say(OK + b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_a_connection_that_ends_or_says_more_than_it_may_is_not_used_again(step: Step):
    async with talking(step) as (receiver, transport):
        answers = [await ask(transport), await ask(transport)]

    assert answers == [(200, b"ok")] * 2
    assert receiver.connections == 2


async def test_a_response_that_was_not_read_leaves_nothing_behind():
    async with talking(drip) as (receiver, transport):
        async with transport.request("GET", "/", headers={}, timeouts=PATIENT) as response:
            assert response.status == 200

        assert await ask(transport) == (200, b"ok")
        assert receiver.connections == 2


async def test_a_read_is_sent_again_when_the_server_has_closed_the_idle_connection():
    async with talking(answer_and_close_later) as (receiver, transport):
        answers = [await ask(transport), await ask(transport)]

    assert answers == [(200, b"ok")] * 2
    assert receiver.connections == 2


async def test_a_write_is_never_sent_again_here():
    async with talking(answer_and_close_later) as (receiver, transport):
        await ask(transport)

        with pytest.raises(ConnectionError):
            await ask(transport, "POST", body=b"x")

    assert receiver.connections == 1


# TLS


async def ask_client(url: str) -> tuple[str, ...]:
    async with open_client(url) as client:
        return await Client.projects(client)


async def test_a_certificate_of_a_known_authority_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tls, certificates = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", certificates)
    body = b'{"projects": ["acme"]}'

    async with receiving(status(200, body=body), tls=tls) as receiver:
        assert await ask_client(receiver.url) == ("acme",)


async def test_a_certificate_of_an_unknown_authority_is_refused_with_its_reason(tmp_path: Path):
    tls, _ = certified(tmp_path)

    async with receiving(tls=tls) as receiver:
        with pytest.raises(ServerUnreachable, match=r"\(self-signed certificate\)"):
            await ask_client(receiver.url)

    assert receiver.requests == []


async def test_a_certificate_for_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tls, certificates = certified(tmp_path, name="127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", certificates)

    async with receiving(tls=tls) as receiver:
        with pytest.raises(ServerUnreachable, match="mismatch"):
            await ask_client(receiver.url)

    assert receiver.requests == []


# Requests and addresses


async def test_a_request_has_what_was_asked_for():
    async with (
        receiving() as receiver,
        open_transport(f"{receiver.url}/lög") as transport,
        transport.request(
            "POST",
            "/a%2Fb",
            params=[("q", "a b&c"), ("q", "ä")],
            headers={"X-Own": "1"},
            body=b"body",
            timeouts=PATIENT,
        ) as response,
    ):
        assert response.status == 200

    [(head, body)] = receiver.requests
    line, *headers = head.decode().splitlines()
    assert line == "POST /l%C3%B6g/a%2Fb?q=a+b%26c&q=%C3%A4 HTTP/1.1"
    assert f"Host: {receiver.url.removeprefix('http://')}" in headers
    assert {"X-Own: 1", "Content-Length: 4"} <= set(headers)
    assert body == b"body"


async def test_a_header_that_would_end_the_head_is_refused_without_showing_it():
    async with talking() as (receiver, transport):
        with pytest.raises(OperatorError, match=r"^a header contains invalid characters$"):
            await ask(transport, headers={"X-Own": "secret\r\nX-Other: 1"})

    assert receiver.requests == []


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "base"),
    [
        ("http://a.example", "a.example", 80, "a.example", ""),
        ("https://a.example/log", "a.example", 443, "a.example", "/log"),
        ("http://[::1]:8325", "::1", 8325, "[::1]:8325", ""),
        ("https://bücher.example:1/", "xn--bcher-kva.example", 1, "xn--bcher-kva.example:1", "/"),
        ("http://u:p%40@a.example/x?y=1", "a.example", 80, "a.example", "/x?y=1"),
    ],
)
def test_an_address_is_parsed(url: str, host: str, port: int, authority: str, base: str):
    address = parse_address(url)

    assert (address.host, address.port, address.authority, address.base) == (
        host, port, authority, base,
    )  # fmt: skip
    assert address.is_secure == url.startswith("https:")


def test_a_user_in_the_address_is_sent_as_basic_authentication():
    assert parse_address("http://u:p%40@a.example").authorization == "Basic dTpwQA=="


@pytest.mark.parametrize(
    "url",
    ["a.example", "ftp://a.example", "http://", "http://a.example:x", "http://a b", "http://[1"],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(OperatorError, match="invalid server address"):
        parse_address(url)
