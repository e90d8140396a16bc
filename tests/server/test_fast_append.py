"""The fast path: plain appends are answered as any other request is, and recorded so."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploylog.api.native.plain_appends import PlainLimits, read_plain
from deploylog.auth.api_keys import make_key
from deploylog.auth.store import Credential
from deploylog.errors import StoreUnavailable
from deploylog.events.access import parse_grant
from deploylog.events.event import Event, NewEvent
from deploylog.events.store import EventLog, IdempotencyKey
from deploylog.server.fast_append import TRUST_SECONDS, can_be_fast
from deploylog.store import open_store
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from support.backends import Backend
from support.factories import Commits, now
from support.servers import BATCH, EVENTS, LINES, ONE, Local, event, line, running
from support.waiting import PATIENCE

#: The grants of each key; nobody knows ``unknown``.
GRANTS = {
    "writer": ["write:project/acme"],
    "reader": ["read:/"],
    "admin": ["admin:/"],
    "revoked": ["admin:/"],
}

LIMITS = PlainLimits(target_bytes=8_192, header_bytes=65_536, headers=100, body_bytes=64 * 1024)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and whether it is plain."""

    body: bytes = b""
    type: str | None = LINES
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    key: str | None = "writer"
    method: str = "POST"
    path: str = EVENTS
    is_plain: bool = True
    #: For what HTTP clients do not send.
    version: str = "HTTP/1.1"
    length: str | None = None

    def render(self, keys: dict[str, str]) -> bytes:
        headers = [("Host", "localhost"), *self.headers]
        if self.key is not None:
            headers.append(("Authorization", f"Bearer {keys[self.key]}"))
        if self.type is not None:
            headers.append(("Content-Type", self.type))
        if self.length != "":
            headers.append(("Content-Length", self.length or str(len(self.body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        start = f"{self.method} {self.path}{self.query} {self.version}\r\n"
        return f"{start}{head}\r\n".encode("latin-1") + self.body


def lines(*events: object) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events)


def one(**attributes: Any) -> bytes:
    return json.dumps(event(**attributes)).encode()


def batch(*events: object) -> bytes:
    return json.dumps(events).encode()


def binary(**attributes: str) -> tuple[tuple[str, str], ...]:
    """The headers of binary mode."""
    all = {
        "specversion": "1.0", "id": "1", "source": "terraform", "type": "deployment.log",
        "scopes": "project/acme", **attributes,
    }  # fmt: skip
    return tuple((f"ce-{name}", value) for name, value in all.items())


UNSOURCED = {"type": "deployment.log"}
MANY = [line(id=str(number)) for number in range(100)]

#: The requests that append, right and wrong. New ones belong here.
CASES = {
    # Right
    "a line": Case(body=lines(line())),
    "lines": Case(body=lines(*MANY)),
    "lines with blank ones": Case(body=b"\n\n" + lines(line(), line()) + b"\n\n"),
    "one event": Case(type=ONE, body=one()),
    "one event with a charset": Case(type=f"{ONE}; charset=UTF-8", body=one()),
    "a batch": Case(type=BATCH, body=batch(*MANY)),
    "an empty batch": Case(type=BATCH, body=b"[]"),
    "binary mode": Case(type="application/json", headers=binary(), body=b'{"a": [1]}'),
    "binary mode with text": Case(type="text/plain", headers=binary(), body="grüß".encode()),
    "binary mode with bytes": Case(type="image/png", headers=binary(), body=b"\x00\xff"),
    "binary mode, encoded": Case(type=None, headers=binary(subject="a%20%C3%BC"), body=b"1"),
    "data": Case(type=ONE, body=one(data={"a": [1, None, "ü"]}, datacontenttype="text/json")),
    "extensions": Case(type=ONE, body=one(traceparent="00-1-2-03", more=1)),
    "groups": Case(type=ONE, body=one(groups="ops%20team dev")),
    "a resource": Case(
        type=ONE, body=one(resourcetype="a", resourcename="b", resourceidvalue="i-0")
    ),
    "the same event twice": Case(body=lines(line(id="a"), line(id="a"))),
    "source and scope by query": Case(
        query="?source=ci&scope=project/acme&scope=project%2Facme%2Fx", body=lines(UNSOURCED)
    ),
    "an empty query": Case(query="?", body=lines(line())),
    "a time": Case(type=ONE, body=one(time="2026-11-28T10:00:00.5+01:00", elapsedms=12)),
    "headers that say nothing": Case(
        headers=(("User-Agent", "curl/8"), ("Accept", "*/*"), ("X-Request-Id", "7")),
        body=lines(line()),
    ),
    "keep-alive": Case(headers=(("Connection", "Keep-Alive"),), body=lines(line())),
    "the log's name for a lost run": Case(
        body=lines(
            line(
                "deployment.failed",
                source="deploylog",
                id="0199/lost",
                scopes="project/acme/stack/a/deployment/0199",
            )
        )
    ),
    # Bodies that are wrong
    "no JSON": Case(body=b"{"),
    "no JSON in one event": Case(type=ONE, body=b"{'a'}"),
    "no JSON in a batch": Case(type=BATCH, body=b"[{]"),
    "no event": Case(body=b"\n \n"),
    "no id": Case(type=ONE, body=json.dumps(line()).encode()),
    "no type": Case(type=ONE, body=one(type="")),
    "no source": Case(body=lines(UNSOURCED)),
    "no scope": Case(body=lines({**UNSOURCED, "source": "ci"})),
    "another version": Case(type=ONE, body=one(specversion="0.3")),
    "a bad second line": Case(body=lines(line()) + b"\n\n{'type'}"),
    "a bad event in a batch": Case(type=BATCH, body=batch(line(), line(elapsedms=-1))),
    "a bad time": Case(type=ONE, body=one(time="yesterday")),
    "a bad scope": Case(type=ONE, body=one(scopes="project//acme")),
    "a bad name": Case(type=ONE, body=one(subject="x" * 2_000)),
    "a NUL": Case(type=ONE, body=one(message="a\0b")),
    "deep data": Case(type=ONE, body=b'{"data": ' + b"[" * 2_000 + b"]" * 2_000 + b"}"),
    "bytes that are no text": Case(body=b"\xff\xfe"),
    "binary mode without a type": Case(
        type="application/json", headers=binary(type=""), body=b"{}", is_plain=False
    ),
    "binary mode with bad data": Case(type="application/json", headers=binary(), body=b"{"),
    "binary mode with data in a header": Case(
        type="application/json", headers=(*binary(), ("ce-data", "1")), body=b"{}"
    ),
    "an event that ends what never began": Case(
        body=lines(line("stack.created", scopes="project/acme/stack/a"))
    ),
    "the log's own source": Case(type=ONE, body=one(source="deploylog")),
    "the log's own source, second": Case(body=lines(line(), line(source="Deploylog/x"))),
    "the log's own source by query": Case(query="?source=deploylog", body=lines(UNSOURCED)),
    "another content type": Case(type="text/plain", body=one()),
    "no content type": Case(type=None, body=one()),
    "too many events": Case(body=lines(*([line()] * 101))),
    "too many lines": Case(body=b"\n" * 500),
    "too many in a batch": Case(type=BATCH, body=batch(*([line()] * 101))),
    # Who may not
    "a scope that is another's": Case(type=ONE, body=one(scopes="project/other")),
    "one scope that is another's": Case(type=ONE, body=one(scopes="project/acme project/b")),
    "a scope that is another's, second": Case(
        body=lines(line(), line(scopes="project/other"))
    ),
    "who may only read": Case(key="reader", body=lines(line())),
    "nobody": Case(key=None, body=lines(line())),
    "an unknown key": Case(key="unknown", body=lines(line())),
    "a revoked key": Case(key="revoked", body=lines(line())),
    "no key at all": Case(
        key=None, headers=(("Authorization", "Bearer dlk_1"),), body=lines(line())
    ),
    "a deployment that is not there": Case(query="?deployment=0199", body=lines(line())),
    # What is not plain
    "more than one piece": Case(body=lines(*[line(message="x" * 900)] * 90), is_plain=False),
    "too large": Case(type=ONE, body=one(message="x" * 200_000), is_plain=False),
    "an empty body": Case(is_plain=False),
    "a bad query": Case(query="?scopes=a", body=lines(line()), is_plain=False),
    "a scope that cannot be": Case(query="?scope=a//b", body=lines(line()), is_plain=False),
    "a source twice": Case(query="?source=a&source=b", body=lines(line()), is_plain=False),
    "an Idempotency-Key": Case(
        headers=(("Idempotency-Key", "a"),), body=lines(line(), line()), is_plain=False
    ),
    "a packed body": Case(
        headers=(("Content-Encoding", "gzip"),),
        body=gzip.compress(lines(line()), mtime=0),
        is_plain=False,
    ),
    "an encoding": Case(headers=(("Content-Encoding", "br"),), body=one(), is_plain=False),
    "chunks": Case(
        headers=(("Transfer-Encoding", "chunked"),),
        length="",
        body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(lines(line())), lines(line())),
        is_plain=False,
    ),
    "Expect": Case(headers=(("Expect", "200-ok"),), body=lines(line()), is_plain=False),
    "two credentials": Case(headers=(("X-Api-Key", "a"),), body=lines(line()), is_plain=False),
    "a cookie": Case(headers=(("Cookie", "a=b"),), body=lines(line()), is_plain=False),
    "a signature of Huawei": Case(
        key=None,
        headers=(("Authorization", "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=0"),),
        body=lines(line()),
        is_plain=False,
    ),
    "a signature of AWS": Case(
        key=None,
        headers=(("Authorization", "AWS4-HMAC-SHA256 Credential=A/B/C/D/aws4_request"),),
        body=lines(line()),
        is_plain=False,
    ),
    "a signature of Bluelink": Case(
        key=None,
        headers=(("Bluelink-Signature-V1", "keyId=a, signature=b"),),
        body=lines(line()),
        is_plain=False,
    ),
    "the last request": Case(
        headers=(("Connection", "close"),), body=lines(line()), is_plain=False
    ),
    "HTTP/1.0": Case(version="HTTP/1.0", body=lines(line()), is_plain=False),
    "no HTTP": Case(version="HTTP/x", body=lines(line()), is_plain=False),
    "a header twice": Case(headers=(("Content-Type", ONE),), body=one(), is_plain=False),
    "lengths that differ": Case(
        headers=(("Content-Length", "3"),), body=lines(line()), is_plain=False
    ),
    "a length that is none": Case(length="x", body=lines(line()), is_plain=False),
    "a header with a tab": Case(headers=(("A", "b\tc"),), body=lines(line()), is_plain=False),
    "a header in Latin-1": Case(headers=(("A", "ü"),), body=lines(line()), is_plain=False),
    "HEAD": Case(method="HEAD", type=None, length="", is_plain=False),
    "OPTIONS": Case(method="OPTIONS", type=None, length="", is_plain=False),
    "a handshake": Case(
        method="OPTIONS",
        type=None,
        length="",
        headers=(("WebHook-Request-Origin", "example.com"),),
        is_plain=False,
    ),
    "PUT": Case(method="PUT", body=lines(line()), is_plain=False),
    "another path": Case(path=f"{EVENTS}/", body=lines(line()), is_plain=False),
    "the stream": Case(path=f"{EVENTS}/stream", body=lines(line()), is_plain=False),
    "an encoded path": Case(path="/log/v1/%65vents", body=lines(line()), is_plain=False),
    "a whole URL": Case(path=f"http://localhost{EVENTS}", body=lines(line()), is_plain=False),
}  # fmt: skip


class Wire:
    """A connection on which a client sends bytes as it pleases."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            # The server gets its turn.
            await asyncio.sleep(0)

    async def answer(self, *, is_head: bool = False) -> tuple[str, list[str], bytes]:
        """The status line, the headers but the date, and the body."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *headers = head.strip().split("\r\n")
            found = re.search(r"content-length: (\d+)", head)
            length = int(found[1]) if found and not is_head else 0
            body = await self._reader.readexactly(length)
        return status, [each for each in headers if not each.startswith("date: ")], body

    async def ask(self, request: bytes) -> tuple[str, list[str], bytes]:
        await self.send(request)
        return await self.answer(is_head=request.startswith(b"HEAD"))

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(service: Local) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", service.port))
    try:
        yield wire
    finally:
        wire.close()


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two services that differ in the fast path alone."""

    fast: Local
    parsed: Local
    keys: dict[str, str]
    credentials: dict[str, Credential]

    @property
    def both(self) -> tuple[Local, Local]:
        return self.fast, self.parsed


@pytest.fixture
async def pair(backend: Backend, tmp_path: Path) -> AsyncIterator[Pair]:
    made = {
        name: make_key(name=name, groups=(), grants=[*map(parse_grant, grants)], now=1)
        for name, grants in GRANTS.items()
    }
    async with (
        service(backend, tmp_path / "fast", made, is_fast=True) as fast,
        service(backend, tmp_path / "parsed", made, is_fast=False) as parsed,
    ):
        keys = {name: secret for name, (_, secret) in made.items()}
        keys["unknown"] = "dlk_0123456789abcdef_" + "0" * 64
        credentials = {name: credential for name, (credential, _) in made.items()}
        yield Pair(fast=fast, parsed=parsed, keys=keys, credentials=credentials)


@asynccontextmanager
async def service(
    backend: Backend, path: Path, keys: dict[str, tuple[Credential, str]], *, is_fast: bool
) -> AsyncIterator[Local]:
    clock = Clock(now=lambda: 1_795_860_000_000_000_000)
    async with open_store(backend.url_at(path), observer=Commits()) as store:
        for credential, _ in keys.values():
            await store.credentials.add(credential)
        await store.credentials.revoke(keys["revoked"][0].id, now())
        limits: dict[str, Any] = {"max_batch_events": 100, "max_body_bytes": 100_000}
        async with running(store, clock=clock, is_fast=is_fast, **limits) as made:
            yield made


#: What differs from log to log: ids, and when they were recorded.
VARYING = re.compile(
    rb'[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|"recordedtime":"[^"]+"'
)


def comparable(body: bytes) -> bytes:
    return VARYING.sub(b"*", body)


async def recorded(service: Local, keys: dict[str, str]) -> bytes:
    """Everything in the log, oldest first."""
    headers = {"Authorization": f"Bearer {keys['admin']}"}
    answer = await service.get(f"{EVENTS}?order=oldest&limit=1000", headers=headers)
    assert answer.status == 200
    return comparable(answer.body)


async def counted(service: Local) -> list[str]:
    """What the metrics say of errors and of failed attempts."""
    text = (await service.get("/metrics")).body.decode()
    return re.findall(r"^deploylog_(?:errors|failed_attempts)_total.*", text, re.MULTILINE)


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_plain_or_not(name: str):
    case = CASES[name]
    request = case.render(dict.fromkeys((*GRANTS, "unknown"), "dlk_a_b"))

    assert (read_plain(request, None, LIMITS) is not None) == case.is_plain


@pytest.mark.parametrize("name", CASES)
async def test_both_paths_answer_and_record_the_same(pair: Pair, name: str):
    request = CASES[name].render(pair.keys)
    first, second, log, metrics = [], [], [], []

    for service in pair.both:
        async with connected(service) as wire:
            status, headers, body = await wire.ask(request)
            first.append((status, headers, comparable(body)))
            if "connection: close" not in headers:
                # Once more, as on a connection that is known.
                status, headers, body = await wire.ask(request)
                second.append((status, headers, comparable(body)))
            else:
                assert await wire.is_closed()
        log.append(await recorded(service, pair.keys))
        metrics.append(await counted(service))

    assert first[0] == first[1]
    assert second[:1] == second[1:]
    assert log[0] == log[1]
    assert metrics[0] == metrics[1]


async def test_all_requests_of_a_connection_answer_and_record_the_same(pair: Pair):
    answers: list[list[object]] = []
    logs = []

    for service in pair.both:
        seen: list[object] = []
        async with connected(service) as wire:
            for case in CASES.values():
                if case.key == "writer" and "close" not in str(case) and case.version == "HTTP/1.1":
                    status, headers, body = await wire.ask(case.render(pair.keys))
                    if "connection: close" in headers:
                        break
                    seen.append((status, headers, comparable(body)))
        answers.append(seen)
        logs.append(await recorded(service, pair.keys))

    assert answers[0] == answers[1]
    assert len(answers[0]) > 50
    assert logs[0] == logs[1]


@pytest.mark.parametrize("step", [1, 7, 100])
async def test_a_request_in_pieces_is_answered(pair: Pair, step: int):
    request = CASES["a line"].render(pair.keys)
    pieces = [request[start : start + step] for start in range(0, len(request), step)]

    async with connected(pair.fast) as wire:
        before = await wire.ask(request)
        await wire.send(*pieces)
        between = await wire.answer()
        after = await wire.ask(request)

    assert [before[0], between[0], after[0]] == ["HTTP/1.1 201 Created"] * 3


async def test_requests_ahead_of_the_answers_are_answered_in_order(pair: Pair):
    request = CASES["a line"].render(pair.keys)
    key = pair.keys["admin"]
    get = (
        f"GET {EVENTS}?limit=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    )
    answers: list[list[tuple[str, bytes]]] = []

    for service in pair.both:
        async with connected(service) as wire:
            await wire.send(request, request + get + request, get + request[:9], request[9:])
            got = [await wire.answer() for _ in range(6)]
        answers.append([(status, comparable(body)) for status, _, body in got])

    assert answers[0] == answers[1]
    assert [status[9:12] for status, _ in answers[0]] == ["201", "201", "200", "201", "200", "201"]


async def test_what_follows_a_plain_request_and_is_no_http_ends_the_connection(pair: Pair):
    answers = []

    for service in pair.both:
        async with connected(service) as wire:
            await wire.send(CASES["a line"].render(pair.keys) + b"\x16\x03\x01\r\n\r\n")
            answers.append([(await wire.answer())[0]])
            assert b"201" in answers[-1][0].encode()

    assert answers[0] == answers[1]


async def test_a_revoked_key_is_refused_within_a_second(pair: Pair):
    request = CASES["a line"].render(pair.keys)
    loop = asyncio.get_running_loop()

    async with connected(pair.fast) as wire:
        accepted = await wire.ask(request)
        await pair.fast.store.credentials.revoke(pair.credentials["writer"].id, now())
        revoked = loop.time()
        while (await wire.ask(request))[0] != "HTTP/1.1 401 Unauthorized":
            assert loop.time() < revoked + 1

    assert accepted[0] == "HTTP/1.1 201 Created"


async def test_the_rate_of_a_principal_is_limited(backend: Backend, tmp_path: Path):
    statuses = []

    for is_fast in (True, False):
        async with (
            open_store(backend.url_at(tmp_path / str(is_fast)), observer=Commits()) as store,
            running(store, is_fast=is_fast, max_requests_per_second=3) as made,
            connected(made) as wire,
        ):
            request = Case(key=None, body=lines(line())).render({})
            answers = [await wire.ask(request) for _ in range(4)]
            statuses.append([(status, headers) for status, headers, _ in answers])

    assert statuses[0] == statuses[1]
    assert statuses[0][-1][0] == "HTTP/1.1 429 Too Many Requests"


@pytest.mark.parametrize("host", ["localhost", "example.com"])
async def test_an_open_service_takes_only_what_is_from_this_machine(
    backend: Backend, tmp_path: Path, host: str
):
    statuses = []

    for is_fast in (True, False):
        async with (
            open_store(backend.url_at(tmp_path / str(is_fast)), observer=Commits()) as store,
            running(store, is_fast=is_fast) as made,
            connected(made) as wire,
        ):
            request = Case(key=None, body=lines(line())).render({})
            answer = await wire.ask(request.replace(b"Host: localhost", f"Host: {host}".encode()))
            statuses.append(answer[:2])

    assert statuses[0] == statuses[1]


class GatedLog:
    """A log whose appends wait, or fail."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def append(
        self, events: Sequence[NewEvent], *, request: IdempotencyKey | None = None
    ) -> list[Event]:
        self.waiting.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await self._log.append(events, request=request)


@asynccontextmanager
async def gated(store: Store, *, is_fast: bool = True) -> AsyncIterator[tuple[Local, GatedLog]]:
    log = GatedLog(store.log)
    store.log = log  # type: ignore[misc, assignment]
    async with running(store, is_fast=is_fast, body_seconds=0.1, header_seconds=0.1) as made:
        yield made, log


LINE = Case(key=None, body=lines(line())).render({})


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("the disk is full"), ValueError("of no interest")]
)
async def test_a_store_that_fails_is_answered_as_elsewhere(
    backend: Backend, tmp_path: Path, failure: Exception
):
    answers = []

    for is_fast in (True, False):
        url = backend.url_at(tmp_path / str(is_fast))
        async with (
            open_store(url, observer=Commits()) as store,
            gated(store, is_fast=is_fast) as (made, log),
            connected(made) as wire,
        ):
            log.failure = failure
            log.gate.set()
            answers.append((await wire.ask(LINE), await counted(made)))

    assert answers[0] == answers[1]
    assert answers[0][0][0].split()[1] in ("503", "500")


async def test_a_client_that_goes_while_it_waits_is_recorded(store: Store):
    async with gated(store) as (made, log):
        async with connected(made) as wire:
            await wire.send(LINE)
            await log.waiting.wait()
        await made.until(lambda: not made.open_connections)
        log.gate.set()
        await made.until(lambda: made.hub.head)

        assert len((await made.get(EVENTS)).ids) == 1


async def test_who_waits_for_long_is_not_timed_out(store: Store):
    async with gated(store) as (made, log), connected(made) as wire:
        await wire.send(LINE)
        await log.waiting.wait()
        made.connections.sweep(asyncio.get_running_loop().time() + 3_600)
        log.gate.set()

        assert (await wire.answer())[0] == "HTTP/1.1 201 Created"


async def test_a_service_that_stops_answers_what_it_has_taken(store: Store):
    async with gated(store) as (made, log), connected(made) as wire:
        await wire.send(LINE)
        await log.waiting.wait()
        for connection in list(made.open_connections):
            connection.shutdown()
        await wire.send(LINE)
        log.gate.set()
        status, headers, _ = await wire.answer()

        assert (status, headers[-1]) == ("HTTP/1.1 201 Created", "connection: close")
        assert await wire.is_closed()
        assert len((await made.get(EVENTS)).ids) == 1


async def test_a_connection_that_waits_for_the_store_is_not_evicted(store: Store):
    async with gated(store) as (made, log), connected(made) as wire:
        await wire.send(LINE)
        await log.waiting.wait()

        assert not made.connections._evict()
        log.gate.set()
        await wire.answer()
        assert made.connections._evict()


def test_a_base_path_that_begins_like_the_path_leaves_it_alone():
    assert can_be_fast([])
    assert can_be_fast(["/deploylog", "/lo"])
    assert not can_be_fast(["/a", "/log"])
    assert not can_be_fast(["/log/v1"])


def test_a_principal_is_believed_for_less_than_a_second():
    from deploylog.auth.cache import CACHE_TTL

    assert TRUST_SECONDS + CACHE_TTL < 1


@pytest.mark.parametrize("limit", ["target_bytes", "header_bytes", "headers", "body_bytes"])
def test_a_request_beyond_a_limit_is_not_plain(limit: str):
    request = Case(query="?source=ci", body=lines(line())).render({"writer": "dlk_a_b"})
    narrow = msgspec.structs.replace(LIMITS, **{limit: 3})

    assert read_plain(request, None, LIMITS) is not None
    assert read_plain(request, None, narrow) is None


def test_a_known_head_is_taken_only_where_all_of_it_is_the_same():
    keys = {"writer": "dlk_a_b", "admin": "dlk_c_d"}
    first = read_plain(Case(body=lines(line())).render(keys), None, LIMITS)
    assert first is not None

    again = read_plain(Case(body=lines(line(), line())).render(keys), first.head, LIMITS)
    other = read_plain(Case(body=lines(line()), key="admin").render(keys), first.head, LIMITS)
    odd = Case(body=lines(line()), headers=(("Expect", "100-continue"),)).render(keys)

    assert again is not None
    assert again.head is first.head
    assert other is not None
    assert other.head is not first.head
    assert read_plain(odd, first.head, LIMITS) is None
