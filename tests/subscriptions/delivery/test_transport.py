"""The poster: one answer, whatever the other side does."""

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
from deploylog.subscriptions.delivery.transport import (
    Limits,
    WebhookTransport,
    make_tls,
    open_transport,
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

#: In the address, the headers and the body; in no error.
SECRET = "hunter2"


def outgoing(url: str, **headers: str) -> Request:
    address = f"{url}/{SECRET}?token={SECRET}"
    return Request(url=address, headers={"X-Secret": SECRET, **headers}, body=BODY)


@asynccontextmanager
async def posting(networks: str = "127.0.0.0/8", **how: Any) -> AsyncIterator[WebhookTransport]:
    """A poster that may call this machine."""
    options = {name: how.pop(name) for name in ("ca_file", "lookup") if name in how}
    limits = Limits(**how)
    async with open_transport(
        parse_networks(networks), limits, clock=lambda: NOW, **options
    ) as poster:
        yield poster


async def answer_of(step: Step, **how: Any) -> Response:
    async with receiving(step) as receiver, posting(**how) as poster:
        return await poster.post(outgoing(receiver.url))


async def test_what_is_posted_arrives_as_it_is():
    async with receiving() as receiver, posting() as poster:
        answer = await poster.post(outgoing(receiver.url, **{"Content-Type": "text/x"}))

    assert answer == Response(status=200, body=b"ok")
    [(head, body)] = receiver.requests
    assert head.startswith(b"POST /hunter2?token=hunter2 HTTP/1.1\r\n")
    assert b"Content-Type: text/x\r\n" in head
    assert body == BODY
    assert b"cookie" not in head.lower()


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    async with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with posting() as poster:
            await poster.post(outgoing(receiver.url))

    assert len(receiver.requests) == 1
    assert proxy.connections == 0


async def test_no_cookie_is_kept():
    async with receiving(status(200, Set_Cookie="a=b")) as receiver, posting() as poster:
        for _ in range(2):
            await poster.post(outgoing(receiver.url.replace("127.0.0.1", "localhost")))

    assert len(receiver.requests) == 2
    assert b"cookie" not in receiver.requests[1][0].lower()


@pytest.mark.parametrize("code", [201, 204, 302, 400, 410, 500, 503])
async def test_any_status_is_an_answer(code: int):
    answer = await answer_of(status(code, body=b"" if code == 204 else b"so"))

    assert (answer.status, answer.error) == (code, None)


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
async def test_an_answer_without_a_body_ends_with_its_head(code: int, body: bytes, headers: str):
    said = b"HTTP/1.1 %d So\r\n%s\r\n%s" % (code, NO_BODY[headers], body)
    async with receiving(say(said)) as receiver, posting() as poster:
        answers = [await poster.post(outgoing(receiver.url)) for _ in range(2)]

    assert answers == [Response(status=code), Response(status=200, body=b"ok")]
    # What may still come is not taken for the next answer.
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
async def test_an_interim_answer_is_not_the_last(interim: bytes, final: bytes):
    answer = await answer_of(say(interim + final))

    assert answer in (Response(status=200, body=b"ok"), Response(status=204))


@pytest.mark.parametrize("more", [b"more", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"])
async def test_what_follows_a_whole_answer_is_dropped_with_the_connection(more: bytes):
    async with receiving(say(OK + more)) as receiver, posting() as poster:
        answers = [await poster.post(outgoing(receiver.url)) for _ in range(2)]

    assert answers == [Response(status=200, body=b"ok")] * 2
    assert receiver.connections == 2


async def test_an_answer_may_come_a_byte_at_a_time():
    async def step(receiver: Receiver, streams: tuple[Any, asyncio.StreamWriter]) -> None:
        for byte in b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 So\r\nContent-Length: 5\r\n\r\n":
            streams[1].write(bytes([byte]))
            await streams[1].drain()
            await asyncio.sleep(0)

    assert await answer_of(step) == Response(status=204)


async def test_an_answer_without_a_length_ends_with_the_connection():
    answer = await answer_of(say_and_close(b"HTTP/1.1 200 OK\r\n\r\nso"))

    assert answer == Response(status=200, body=b"so")


async def test_what_is_no_answer_is_told_at_once():
    answer = await answer_of(say(b"SSH-2.0-OpenSSH_9.2\r\n"))

    assert answer.error == "the answer is not valid HTTP, or has too large headers"


async def test_a_redirect_is_not_followed():
    async with (
        receiving() as private,
        receiving(status(307, Location=f"{private.url}/x")) as receiver,
        posting() as poster,
    ):
        answer = await poster.post(outgoing(receiver.url))

    assert answer.status == 307
    assert private.requests == []


async def test_the_wait_that_is_asked_for_is_told():
    assert (await answer_of(status(429, Retry_After="17"))).retry_after == 17.0


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
def test_a_wait_is_seconds_or_a_date(text: str, seconds: float | None):
    assert parse_retry_after(text, now=NOW) == seconds


async def test_a_connection_is_used_again_after_a_short_answer():
    async with receiving() as receiver, posting() as poster:
        for _ in range(3):
            await poster.post(outgoing(receiver.url))

    assert receiver.connections == 1


async def test_of_a_long_answer_the_first_bytes_are_read_and_the_connection_is_ended():
    long = status(500, body=b"x" * 1_000_000)
    async with receiving(long) as receiver, posting() as poster:
        answer = await poster.post(outgoing(receiver.url))
        again = await poster.post(outgoing(receiver.url))

    assert answer == Response(status=500, body=b"x" * 1024)
    assert again.status == 200
    assert receiver.connections == 2


async def test_an_endless_answer_is_cut_off():
    answer = await answer_of(talk_without_end, total=PATIENCE)

    assert answer == Response(status=200, body=b"x" * 1024)


async def test_more_of_an_answer_is_read_for_who_asks_for_it():
    async with receiving(status(200, body=b"x" * 5000)) as receiver, posting() as poster:
        answer = await poster.post(outgoing(receiver.url), most=10_000)

    assert len(answer.body) == 5000


async def test_what_an_answer_is_compressed_with_does_not_matter():
    answer = await answer_of(status(200, body=b"\x1f\x8bnot", Content_Encoding="gzip"))

    assert answer == Response(status=200, body=b"\x1f\x8bnot")


LOST = "the connection was lost before the answer"
NOT_HTTP = "the answer is not valid HTTP, or has too large headers"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (reset, LOST),
        (say_and_close(b""), LOST),
        (say_and_close(b"HTTP/1.1 200 OK\r\nContent-Le"), LOST),
        (
            say_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            "the answer was cut off",
        ),
        (
            say_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"),
            "the answer was cut off",
        ),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 9999 OK\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), NOT_HTTP),
        (say(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 100_000 + b"\r\n"), NOT_HTTP),
    ],
)
async def test_an_answer_that_is_none_is_told_in_words(step: Step, error: str):
    answer = await answer_of(step)

    assert answer.status is None
    assert error in (answer.error or "")


@pytest.mark.parametrize("step", [hang, drip, say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")])
async def test_what_takes_too_long_is_given_up(step: Step):
    answer = await answer_of(step, total=0.2)

    assert answer == Response(error="no whole answer within 0.2 s")


async def test_a_refused_connection_is_told_in_words():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with posting() as poster:
            answer = await poster.post(outgoing(f"http://127.0.0.1:{unheard.getsockname()[1]}"))

    assert answer == Response(error="no connection: Connection refused")


async def test_a_connection_that_nobody_takes_is_given_up():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        async with posting(connect=0.1) as poster:
            answer = await poster.post(outgoing(f"http://127.0.0.1:{full.getsockname()[1]}"))
        for other in others:
            other.close()

    assert answer == Response(error="no connection within 0.1 s")


def resolving(*addresses: str):
    """A name server that says these, one at a time, and the last of them for ever."""
    left = list(addresses)

    def lookup(*args: Any, **how: Any) -> Any:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    return lookup


async def test_a_private_address_is_not_called():
    async with receiving() as receiver, posting(networks="") as poster:
        answer = await poster.post(outgoing(receiver.url))

    assert answer == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_a_name_of_a_private_address_is_not_called():
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        async with posting(networks="", lookup=resolving("127.0.0.1")) as poster:
            answer = await poster.post(outgoing(f"http://good.example:{port}"))

    assert answer == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_a_name_that_is_rebound_is_not_called_the_second_time():
    """Its first address is an allowed one, here instead of a public one."""
    async with receiving(status(200, Connection="close")) as receiver:
        port = receiver.url.rpartition(":")[2]
        lookup = resolving("127.0.0.1", "127.0.0.2")
        async with posting(networks="127.0.0.1", lookup=lookup) as poster:
            first = await poster.post(outgoing(f"http://good.example:{port}"))
            poster._http.connector.clear_dns_cache()  # type: ignore[union-attr]
            second = await poster.post(outgoing(f"http://good.example:{port}"))

    assert first.status == 200
    assert second == Response(error=NOT_PUBLIC)


async def test_the_last_gate_holds_by_itself():
    """What a check of the text and of the name let pass, the socket does not."""
    async with receiving() as receiver, posting(networks="") as poster:
        poster._parsed = URL  # type: ignore[assignment]
        answer = await poster.post(outgoing(receiver.url))

    assert answer == Response(error=NOT_PUBLIC)
    assert receiver.connections == 0


async def test_a_name_that_is_nobodys_is_told_in_words():
    def lookup(*args: Any, **how: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    async with posting(lookup=lookup) as poster:
        answer = await poster.post(outgoing("http://nobody.example"))

    assert answer == Response(error="the host name has no address")


async def test_a_header_that_is_none_is_told_in_words():
    async with receiving() as receiver, posting() as poster:
        answer = await poster.post(outgoing(receiver.url, X="a\r\nEvil: b"))

    assert answer.error == "no request can be made of the address and the headers"
    assert receiver.requests == []


async def test_a_certificate_is_verified(tmp_path: Path):
    tls, _ = certified(tmp_path)
    async with receiving(tls=tls) as receiver, posting() as poster:
        answer = await poster.post(outgoing(receiver.url))

    assert answer.error == "its certificate is not valid: self-signed certificate"
    assert receiver.requests == []


async def test_an_operator_can_trust_a_certificate(tmp_path: Path):
    tls, file = certified(tmp_path)
    async with receiving(tls=tls) as receiver, posting(ca_file=file) as poster:
        answer = await poster.post(outgoing(receiver.url))

    assert answer.status == 200


async def test_a_certificate_is_for_its_own_name_only(tmp_path: Path):
    tls, file = certified(tmp_path, name="127.0.0.2")
    async with receiving(tls=tls) as receiver, posting(ca_file=file) as poster:
        answer = await poster.post(outgoing(receiver.url))

    assert "its certificate is not valid: IP address mismatch" in (answer.error or "")


async def test_a_receiver_without_tls_is_told_in_words():
    async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_in_plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, posting() as poster:
        answer = await poster.post(outgoing(f"https://127.0.0.1:{port}"))

    assert answer == Response(error="there is no TLS with it")


def test_a_file_of_certificates_must_hold_some(tmp_path: Path):
    (tmp_path / "empty.pem").write_text("no")

    with pytest.raises(InvalidSettings, match="holds no certificates"):
        make_tls(str(tmp_path / "empty.pem"))
    with pytest.raises(InvalidSettings, match="cannot read"):
        make_tls(str(tmp_path / "none.pem"))


@pytest.mark.parametrize("step", [reset, hang, say(b"no\r\n\r\n"), say_and_close(OK[:-1])])
async def test_no_error_names_what_is_secret(step: Step):
    answer = await answer_of(step, total=0.2)

    assert answer.error
    assert SECRET not in answer.error
    assert "127.0.0.1" not in answer.error


async def test_to_cancel_it_ends_it():
    async with receiving(hang) as receiver, posting() as poster:
        task = asyncio.create_task(poster.post(outgoing(receiver.url)))
        await until(lambda: receiver.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (await poster.post(outgoing(receiver.url))).status == 200


async def test_a_receiver_is_sent_so_many_at_once_and_others_do_not_wait():
    async with (
        receiving(hang, hang) as slow,
        receiving() as fast,
        posting(concurrency=2, total=PATIENCE) as poster,
    ):
        tasks = [asyncio.create_task(poster.post(outgoing(slow.url))) for _ in range(5)]
        await until(lambda: len(slow.requests) == 2)

        answer = await poster.post(outgoing(fast.url))

        assert answer.status == 200
        assert len(slow.requests) == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_came_first_goes_first():
    order: list[int] = []

    async def post(poster: WebhookTransport, receiver: Receiver, number: int) -> None:
        await poster.post(outgoing(receiver.url))
        order.append(number)

    async with receiving() as receiver, posting(concurrency=1) as poster:
        await asyncio.gather(*(post(poster, receiver, number) for number in range(10)))

    assert order == list(range(10))


async def test_who_came_first_goes_first_where_so_many_a_second_go():
    async with receiving() as receiver, posting(per_second=500) as poster:
        await asyncio.gather(
            *(poster.post(outgoing(receiver.url, Number=str(number))) for number in range(10))
        )

    numbers = [head.partition(b"Number: ")[2][:1] for head, _ in receiver.requests]
    assert numbers == [b"%d" % number for number in range(10)]


async def test_a_receiver_is_sent_so_many_a_second():
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with receiving() as receiver, receiving() as other, posting(per_second=50) as poster:
        tasks = [asyncio.create_task(poster.post(outgoing(receiver.url))) for _ in range(6)]
        await poster.post(outgoing(other.url))
        before = len(receiver.requests)
        await asyncio.gather(*tasks)
        took = loop.time() - begun

    assert before < 6
    assert took >= 5 / 50


async def test_a_receiver_that_is_called_no_more_is_forgotten():
    async with receiving() as receiver, posting() as poster:
        await poster.post(outgoing(receiver.url))

        assert dict(poster._doors) == {}
