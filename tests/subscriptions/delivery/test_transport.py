"""The transport: one response or error, whatever the receiver does."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from deploylog.errors import InvalidSettings
from deploylog.subscriptions.delivery.egress import parse_networks
from deploylog.subscriptions.delivery.outcome import Request, Response
from deploylog.subscriptions.delivery.tls import make_tls
from deploylog.subscriptions.delivery.transport import (
    Limits,
    WebhookTransport,
    open_webhook_transport,
    parse_retry_after,
)
from support.receivers import (
    OK,
    Receiver,
    Step,
    certified,
    drip,
    hang,
    receiving,
    reset,
    say,
    say_and_close,
    status,
    talk_without_end,
)
from support.waiting import PATIENCE, until

NOW = 1_795_000_000 * 10**9
HERE = parse_networks("127.0.0.0/8")
BODY = b'{"id": "1"}'
NOT_PUBLIC = "the address is not public, and delivery_allowed_networks does not include it"

#: In the URL and the headers, but in no error.
SECRET = "hunter2"


def request(url: str, **headers: str) -> Request:
    address = f"{url}/{SECRET}?token={SECRET}"
    return Request(url=address, headers={"X-Secret": SECRET, **headers}, body=BODY)


@asynccontextmanager
async def local_transport(
    networks: str = "127.0.0.0/8", **options: Any
) -> AsyncIterator[WebhookTransport]:
    """A transport that may call this machine."""
    how = {name: options.pop(name) for name in ("ca_file", "lookup") if name in options}
    limits = Limits(**options)
    async with open_webhook_transport(
        parse_networks(networks), limits, clock=lambda: NOW, **how
    ) as transport:
        yield transport


async def response_of(step: Step, **options: Any) -> Response:
    async with receiving(step) as receiver, local_transport(**options) as transport:
        return await transport.send(request(receiver.url))


async def test_a_request_arrives_as_it_is():
    async with receiving() as receiver, local_transport() as transport:
        response = await transport.send(request(receiver.url, **{"Content-Type": "text/x"}))

    assert response == Response(status=200, body=b"ok")
    [(head, body)] = receiver.requests
    assert head.startswith(b"POST /hunter2?token=hunter2 HTTP/1.1\r\n")
    assert b"Content-Type: text/x\r\n" in head
    assert body == BODY
    assert b"cookie" not in head.lower()


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    async with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with local_transport() as transport:
            await transport.send(request(receiver.url))

    assert len(receiver.requests) == 1
    assert proxy.connections == 0


async def test_cookies_are_ignored():
    async with receiving(status(200, Set_Cookie="a=b")) as receiver, local_transport() as transport:
        for _ in range(2):
            await transport.send(request(receiver.url.replace("127.0.0.1", "localhost")))

    assert len(receiver.requests) == 2
    assert b"cookie" not in receiver.requests[1][0].lower()


@pytest.mark.parametrize("code", [201, 204, 302, 400, 410, 500, 503])
async def test_any_status_is_a_response(code: int):
    response = await response_of(status(code, body=b"" if code == 204 else b"so"))

    assert (response.status, response.error) == (code, None)


NO_BODY = {
    "length": b"Content-Length: 5\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "both": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "nonsense": b"content-length : many\r\nX-Y: 1\r\n",
    "neither": b"X-Y: 1\r\n",
}


@pytest.mark.parametrize("headers", NO_BODY)
@pytest.mark.parametrize("body", [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"])
@pytest.mark.parametrize("code", [204, 304])
async def test_a_response_without_a_body_ends_with_its_head(code: int, body: bytes, headers: str):
    raw = b"HTTP/1.1 %d So\r\n%s\r\n%s" % (code, NO_BODY[headers], body)
    async with receiving(say(raw)) as receiver, local_transport() as transport:
        responses = [await transport.send(request(receiver.url)) for _ in range(2)]

    assert responses == [Response(status=code), Response(status=200, body=b"ok")]
    # What may still come is not taken for the next response.
    is_plain = headers == "neither" and not body
    assert receiver.connections == (1 if is_plain else 2)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" * 20,
        b"HTTP/1.0 102 Processing\n\n",
    ],
)
@pytest.mark.parametrize("final", [OK, b"HTTP/1.1 204 So\r\nContent-Length: 5\r\n\r\nhello"])
async def test_an_interim_response_is_not_the_final_one(interim: bytes, final: bytes):
    response = await response_of(say(interim + final))

    assert response in (Response(status=200, body=b"ok"), Response(status=204))


@pytest.mark.parametrize("more", [b"more", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"])
async def test_bytes_after_a_complete_response_are_dropped_with_the_connection(more: bytes):
    async with receiving(say(OK + more)) as receiver, local_transport() as transport:
        responses = [await transport.send(request(receiver.url)) for _ in range(2)]

    assert responses == [Response(status=200, body=b"ok")] * 2
    assert receiver.connections == 2


async def test_a_response_may_arrive_byte_by_byte():
    async def step(receiver: Receiver, streams: tuple[Any, asyncio.StreamWriter]) -> None:
        for byte in b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 So\r\nContent-Length: 5\r\n\r\n":
            streams[1].write(bytes([byte]))
            await streams[1].drain()
            await asyncio.sleep(0)

    assert await response_of(step) == Response(status=204)


async def test_a_response_without_a_length_ends_with_the_connection():
    response = await response_of(say_and_close(b"HTTP/1.1 200 OK\r\n\r\nso"))

    assert response == Response(status=200, body=b"so")


async def test_what_is_no_http_is_reported_at_once():
    response = await response_of(say(b"SSH-2.0-OpenSSH_9.2\r\n"))

    assert response.error == "the response is not valid HTTP, or its headers are too large"


async def test_a_redirect_is_not_followed():
    async with (
        receiving() as private,
        receiving(status(307, Location=f"{private.url}/x")) as receiver,
        local_transport() as transport,
    ):
        response = await transport.send(request(receiver.url))

    assert response.status == 307
    assert private.requests == []


async def test_retry_after_is_reported():
    assert (await response_of(status(429, Retry_After="17"))).retry_after == 17.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("Thu, 18 Nov 2026 19:34:20 GMT", pytest.approx(1_795_030_460 - NOW / 10**9)),
        ("Thu, 18 Nov 2010 19:34:20 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("inf", None),
        ("9" * 30, None),
        ("Thu, 99 Nov 2026 19:34:20 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None):
    assert parse_retry_after(text, now=NOW) == seconds


async def test_a_connection_is_reused_after_a_short_response():
    async with receiving() as receiver, local_transport() as transport:
        for _ in range(3):
            await transport.send(request(receiver.url))

    assert receiver.connections == 1


async def test_a_long_response_is_truncated_and_its_connection_closed():
    long = status(500, body=b"x" * 1_000_000)
    async with receiving(long) as receiver, local_transport() as transport:
        response = await transport.send(request(receiver.url))
        again = await transport.send(request(receiver.url))

    assert response == Response(status=500, body=b"x" * 1024)
    assert again.status == 200
    assert receiver.connections == 2


async def test_an_endless_response_is_truncated():
    response = await response_of(talk_without_end, total=PATIENCE)

    assert response == Response(status=200, body=b"x" * 1024)


async def test_a_caller_can_read_more_of_a_response():
    async with receiving(status(200, body=b"x" * 5000)) as receiver, local_transport() as transport:
        response = await transport.send(request(receiver.url), max_bytes=10_000)

    assert len(response.body) == 5000


async def test_a_compressed_response_is_not_decompressed():
    response = await response_of(status(200, body=b"\x1f\x8bnot", Content_Encoding="gzip"))

    assert response == Response(status=200, body=b"\x1f\x8bnot")


LOST = "the connection was closed before the response"
NOT_HTTP = "the response is not valid HTTP, or its headers are too large"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (reset, LOST),
        (say_and_close(b""), LOST),
        (say_and_close(b"HTTP/1.1 200 OK\r\nContent-Le"), LOST),
        (
            say_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            "the response is incomplete",
        ),
        (
            say_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"),
            "the response is incomplete",
        ),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 9999 OK\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 100_000 + b"\r\n"), NOT_HTTP),
    ],
)
async def test_an_invalid_response_has_a_readable_error(step: Step, error: str):
    response = await response_of(step)

    assert response.status is None
    assert error in (response.error or "")


@pytest.mark.parametrize("step", [hang, drip, say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")])
async def test_a_slow_response_times_out(step: Step):
    response = await response_of(step, total=0.2)

    assert response == Response(error="no complete response within 0.2 s")


async def test_a_refused_connection_has_a_readable_error():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with local_transport() as transport:
            response = await transport.send(request(f"http://127.0.0.1:{unheard.getsockname()[1]}"))

    assert response == Response(error="connection failed: Connection refused")


async def test_a_connection_times_out():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        async with local_transport(connect=0.1) as transport:
            response = await transport.send(request(f"http://127.0.0.1:{full.getsockname()[1]}"))
        for other in others:
            other.close()

    assert response == Response(error="connection timed out after 0.1 s")


def resolving(*addresses: str):
    """A name server with these addresses, one per lookup; the last one repeats."""
    remaining = list(addresses)

    def lookup(*args: Any, **options: Any) -> Any:
        address = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    return lookup


async def test_a_private_address_is_blocked():
    async with receiving() as receiver, local_transport(networks="") as transport:
        response = await transport.send(request(receiver.url))

    assert response == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_a_name_of_a_private_address_is_blocked():
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        async with local_transport(networks="", lookup=resolving("127.0.0.1")) as transport:
            response = await transport.send(request(f"http://good.example:{port}"))

    assert response == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_a_rebound_name_is_blocked():
    """Its first address is an allowed one, here instead of a public one."""
    async with receiving(status(200, Connection="close")) as receiver:
        port = receiver.url.rpartition(":")[2]
        lookup = resolving("127.0.0.1", "127.0.0.2")
        async with local_transport(networks="127.0.0.1", lookup=lookup) as transport:
            first = await transport.send(request(f"http://good.example:{port}"))
            transport._connections.connector.clear_dns_cache()
            second = await transport.send(request(f"http://good.example:{port}"))

    assert first.status == 200
    assert second == Response(error=NOT_PUBLIC)


async def test_the_check_of_the_socket_is_enough_by_itself():
    """What a check of the text and of the name let pass, the socket does not."""
    async with receiving() as receiver, local_transport(networks="") as transport:
        transport._parsed = URL  # type: ignore[assignment]
        response = await transport.send(request(receiver.url))

    assert response == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_an_unknown_name_has_a_readable_error():
    def lookup(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    async with local_transport(lookup=lookup) as transport:
        response = await transport.send(request("http://nobody.example"))

    assert response == Response(error="the host name cannot be resolved")


async def test_an_invalid_header_has_a_readable_error():
    async with receiving() as receiver, local_transport() as transport:
        response = await transport.send(request(receiver.url, X="a\r\nEvil: b"))

    assert response.error == "invalid URL or headers"
    assert receiver.requests == []


async def test_a_certificate_is_verified(tmp_path: Path):
    tls, _ = certified(tmp_path)
    async with receiving(tls=tls) as receiver, local_transport() as transport:
        response = await transport.send(request(receiver.url))

    assert response.error == "invalid certificate: self-signed certificate"
    assert receiver.requests == []


async def test_an_operator_can_trust_a_certificate(tmp_path: Path):
    tls, file = certified(tmp_path)
    async with receiving(tls=tls) as receiver, local_transport(ca_file=file) as transport:
        response = await transport.send(request(receiver.url))

    assert response.status == 200


async def test_a_certificate_is_for_its_own_name_only(tmp_path: Path):
    tls, file = certified(tmp_path, name="127.0.0.2")
    async with receiving(tls=tls) as receiver, local_transport(ca_file=file) as transport:
        response = await transport.send(request(receiver.url))

    assert "invalid certificate: IP address mismatch" in (response.error or "")


async def test_a_receiver_without_tls_has_a_readable_error():
    async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_in_plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, local_transport() as transport:
        response = await transport.send(request(f"https://127.0.0.1:{port}"))

    assert response == Response(error="TLS handshake failed")


def test_a_certificate_file_must_contain_certificates(tmp_path: Path):
    (tmp_path / "empty.pem").write_text("no")

    with pytest.raises(InvalidSettings, match="contains no PEM certificates"):
        make_tls(str(tmp_path / "empty.pem"))
    with pytest.raises(InvalidSettings, match="cannot read"):
        make_tls(str(tmp_path / "none.pem"))


@pytest.mark.parametrize("step", [reset, hang, say(b"no\r\n\r\n"), say_and_close(OK[:-1])])
async def test_no_error_contains_a_secret(step: Step):
    response = await response_of(step, total=0.2)

    assert response.error
    assert SECRET not in response.error
    assert "127.0.0.1" not in response.error


async def test_a_request_can_be_cancelled():
    async with receiving(hang) as receiver, local_transport() as transport:
        task = asyncio.create_task(transport.send(request(receiver.url)))
        await until(lambda: receiver.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (await transport.send(request(receiver.url))).status == 200


async def test_concurrent_requests_are_limited_per_receiver():
    async with (
        receiving(hang, hang) as slow,
        receiving() as fast,
        local_transport(concurrency=2, total=PATIENCE) as transport,
    ):
        tasks = [asyncio.create_task(transport.send(request(slow.url))) for _ in range(5)]
        await until(lambda: len(slow.requests) == 2)

        response = await transport.send(request(fast.url))

        assert response.status == 200
        assert len(slow.requests) == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_are_sent_in_order():
    order: list[int] = []

    async def post(transport: WebhookTransport, receiver: Receiver, number: int) -> None:
        await transport.send(request(receiver.url))
        order.append(number)

    async with receiving() as receiver, local_transport(concurrency=1) as transport:
        await asyncio.gather(*(post(transport, receiver, number) for number in range(10)))

    assert order == list(range(10))


async def test_rate_limited_requests_are_sent_in_order():
    async with receiving() as receiver, local_transport(per_second=500) as transport:
        await asyncio.gather(
            *(transport.send(request(receiver.url, Number=str(number))) for number in range(10))
        )

    numbers = [head.partition(b"Number: ")[2][:1] for head, _ in receiver.requests]
    assert numbers == [b"%d" % number for number in range(10)]


async def test_the_request_rate_is_limited_per_receiver():
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with (
        receiving() as receiver,
        receiving() as other,
        local_transport(per_second=50) as transport,
    ):
        tasks = [asyncio.create_task(transport.send(request(receiver.url))) for _ in range(6)]
        await transport.send(request(other.url))
        before = len(receiver.requests)
        await asyncio.gather(*tasks)
        took = loop.time() - started

    assert before < 6
    assert took >= 5 / 50


async def test_the_limits_of_an_idle_receiver_are_dropped():
    async with receiving() as receiver, local_transport() as transport:
        await transport.send(request(receiver.url))

        assert dict(transport._limiters) == {}
