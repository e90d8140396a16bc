import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest
from aiohttp import web

from deploylog.client import (
    Backoff,
    Client,
    ClientError,
    Message,
    MessageParser,
    NewDeployment,
    ServerUnreachable,
    Timing,
    TransientError,
    Unanswered,
    open_client,
    parse_event,
)
from deploylog.client.retry import RetryPolicy, retry, same_timeout
from deploylog.errors import DeploylogError, OperatorError
from support.fake_server import FakeServer, answer, cut_off, fake_server, refuse, stage_and_cut_off

EVENT = b'{"specversion":"1.0","id":"e1","source":"terraform","type":"deployment.log"}\n'


class Time:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)

    @property
    def timing(self) -> Timing:
        return Timing(monotonic=lambda: self.seconds, sleep=self.sleep)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with open_client(server.url, "secret", timing=Time().timing) as client:
        yield client


def messages_of(stream: bytes, size: int) -> list[Message]:
    parser = MessageParser()
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    return [message for chunk in chunks for message in parser.feed(chunk)]


# The parser of streams


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_parses_the_same_in_chunks_of_any_size(size: int) -> None:
    stream = (
        "retry: 1000\n\nid: 1\nevent: a\ndata: ä\ndata:b\n\n:\n\nid: 2\r\ndata: c\r\n\r\n".encode()
    )

    messages = messages_of(stream, size)

    assert messages == [
        Message(event="a", data="ä\nb", id="1"),
        Message(event="message", data="c", id="2"),
    ]


def test_a_message_without_an_id_keeps_the_last_one() -> None:
    messages = messages_of(b"id: 1\ndata: a\n\nevent: gap\ndata: b\n\n", 100)

    assert [message.id for message in messages] == ["1", "1"]


def test_a_message_without_data_is_ignored() -> None:
    assert messages_of(b"event: a\n\ndata: b\n\n", 100) == [
        Message(event="message", data="b", id=None)
    ]


def test_the_stream_sets_the_delay_before_reconnecting() -> None:
    parser = MessageParser()

    assert list(parser.feed(b"retry: 1500\n")) == []
    assert parser.retry == 1.5


# Requests


async def test_events_are_appended_to_a_deployment(server: FakeServer, client: Client) -> None:
    await client.append(EVENT, deployment="d1")

    [request] = server.requests
    assert request.query == {"deployment": "d1"}
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.headers["Authorization"] == "Bearer secret"
    assert server.ids == ["e1"]


async def test_a_deployment_is_opened_under_our_id(server: FakeServer, client: Client) -> None:
    state = await client.open_deployment(NewDeployment(id="d1", project="acme", stack="web"))

    assert (state.id, state.status, state.counts.added) == ("d1", "running", 1)
    assert server.opened[0]["project"] == "acme"


async def test_a_problem_becomes_an_error_with_the_servers_message(
    server: FakeServer, client: Client
) -> None:
    server.script.append(refuse(403, "alice may not write project/acme"))

    with pytest.raises(ClientError) as caught:
        await client.append(EVENT, deployment="d1")

    assert caught.value.message == "alice may not write project/acme"
    assert (caught.value.status, caught.value.problem) == (403, "some-problem")
    assert not caught.value.is_transient


async def test_retry_after_is_parsed(server: FakeServer, client: Client) -> None:
    server.script.append(refuse(503, retry_after="7"))

    with pytest.raises(ClientError) as caught:
        await client.append(EVENT, deployment="d1")

    assert caught.value.is_transient
    assert caught.value.retry_after == 7.0


async def test_a_response_without_a_problem_is_described_by_its_status(
    server: FakeServer, client: Client
) -> None:
    with pytest.raises(ClientError, match=r"returned 404 Not Found"):
        await client.stacks(())


async def test_https_for_a_server_without_tls_is_said_plainly(server: FakeServer) -> None:
    address = server.url.replace("http://", "https://")

    async with open_client(address) as client:
        with pytest.raises(OperatorError, match=r"does not use TLS: write http://"):
            await client.projects()


async def test_a_redirect_names_the_address_that_it_leads_to(
    server: FakeServer, client: Client
) -> None:
    async def redirect(server: FakeServer, request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": "https://log.example.com/"})

    server.script.append(redirect)

    with pytest.raises(ClientError, match=r"to https://log\.example\.com/: use the address"):
        await client.projects()


async def test_a_response_of_another_service_is_an_error(
    server: FakeServer, client: Client
) -> None:
    with pytest.raises(ClientError, match=r"unexpected response"):
        parse_event('{"hello": 1}')


async def test_an_unreachable_server_is_one_plain_line() -> None:
    async with open_client("http://127.0.0.1:1") as client:
        with pytest.raises(ServerUnreachable) as caught:
            await client.projects()

    assert caught.value.message == "no response from http://127.0.0.1:1 (connection refused)"


async def test_a_lost_connection_is_one_plain_line(server: FakeServer, client: Client) -> None:
    server.script.append(cut_off)

    with pytest.raises(ServerUnreachable, match=r"no response from .* \(connection"):
        await client.append(EVENT, deployment="d1")


@pytest.mark.parametrize("address", ["localhost:8325", "ftp://x", "http://[::1", "http://"])
async def test_an_invalid_address_is_an_operators_error(address: str) -> None:
    with pytest.raises(OperatorError, match=r"invalid server address"):
        async with open_client(address) as client:
            await client.projects()


async def test_an_invalid_key_is_an_operators_error() -> None:
    with pytest.raises(OperatorError, match="the key"):
        async with open_client("http://127.0.0.1:1", "two\nlines"):
            pass


# Streams


@pytest.fixture
def log() -> list[str]:
    """The lines that the client logs."""
    return []


async def first(client: Client, number: int, log: list[str], **params: str) -> list[str]:
    found: list[str] = []
    async with (
        asyncio.timeout(10),
        aclosing(client.stream(list(params.items()), log=log.append)) as messages,
    ):
        async for message in messages:
            found.append(message.data)
            if len(found) == number:
                break
    return found


async def test_a_stream_resumes_after_the_last_message(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.streams.extend([b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", b"id: 3\ndata: c\n\n"])

    found = await first(client, 3, log)

    assert found == ["a", "b", "c"]
    assert server.requests[1].headers["Last-Event-ID"] == "2"
    assert log == [f"{server.url} closed the stream; reconnecting"]


async def test_a_stream_reconnects_however_often_the_server_fails(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.streams.extend([b"id: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n"])
    server.script.extend([answer, refuse(503), cut_off, refuse(429)])

    found = await first(client, 2, log)

    assert found == ["a", "b"]
    assert len(log) == 1


async def test_a_stream_from_now_skips_nothing_when_it_is_lost_before_its_first_message(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.streams.extend([b"retry: 1000\n\n", b"id: 1\ndata: a\n\n"])

    await first(client, 1, log, scope="project/acme")

    again = server.requests[1].query
    assert again["scope"] == "project/acme"
    assert again["from"].endswith(".000000Z")


async def test_the_failure_of_the_first_connection_is_raised(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.script.append(refuse(503, "starting"))

    with pytest.raises(ClientError, match="starting"):
        await first(client, 1, log)


async def test_a_refusal_ends_a_stream(server: FakeServer, client: Client, log: list[str]) -> None:
    server.streams.append(b"id: 1\ndata: a\n\n")
    server.script.extend([answer, refuse(401, "the key was revoked")])

    with pytest.raises(ClientError, match="the key was revoked"):
        await first(client, 2, log)


# Change sets

PLAN = b'{"format_version":"1.2"}'
CHANGESET = "6f1c2b7e-3f57-4a5b-9d39-0a4d5a1e7c55"

RESOURCE = b"id: 1\nevent: changeset.resource\ndata: a\n\n"
END = b"id: 2\nevent: changeset.completed\ndata: b\n\n"


async def stage(client: Client, log: list[str]) -> str:
    state = await client.stage(
        PLAN, [("project", "acme")], id=CHANGESET, retry_timeout=30, log=log.append
    )
    return state.id


async def follow(client: Client, log: list[str]) -> list[str]:
    messages = client.follow_changeset(CHANGESET, retry_timeout=30, log=log.append)
    async with asyncio.timeout(10), aclosing(messages):
        return [message.data async for message in messages]


async def test_a_plan_is_staged_under_our_id(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    assert await stage(client, log) == CHANGESET

    [request] = server.requests
    assert dict(request.query) == {"project": "acme", "id": CHANGESET}
    assert request.headers["Idempotency-Key"] == CHANGESET
    assert request.headers["Content-Encoding"] == "gzip"
    assert server.staged == {CHANGESET: PLAN}


async def test_a_plan_is_sent_until_the_server_responds_and_staged_once(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.script.extend([refuse(429), cut_off, refuse(503, "starting"), stage_and_cut_off])

    assert await stage(client, log) == CHANGESET

    assert len(server.requests) == 5
    assert {request.headers["Idempotency-Key"] for request in server.requests} == {CHANGESET}
    assert server.staged == {CHANGESET: PLAN}
    assert len(log) == 1


async def test_a_plan_that_is_refused_is_not_retried(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.script.append(refuse(400, "the plan is not JSON"))

    with pytest.raises(ClientError, match="the plan is not JSON"):
        await stage(client, log)

    assert server.staged == {}


async def test_staging_gives_up_after_the_retry_timeout(
    client: Client, server: FakeServer, log: list[str]
) -> None:
    await server.stop()

    with pytest.raises(Unanswered, match=r"no response .*; change set 6f1c.* may not have"):
        await stage(client, log)


async def test_a_change_set_is_followed_to_its_end_across_lost_connections(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.streams.extend([RESOURCE, END + b"id: 3\ndata: never read\n\n"])
    server.script.extend([refuse(503), answer, cut_off, answer, refuse(503)])

    assert await follow(client, log) == ["a", "b"]

    last = server.requests[-1]
    assert last.headers["Last-Event-ID"] == "1"
    assert dict(last.query) == {"scope": f"changeset/{CHANGESET}", "from": "start"}


async def test_following_an_unreadable_change_set_raises_its_404(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.script.append(refuse(404, "there is no change set"))

    with pytest.raises(ClientError, match="there is no change set"):
        await follow(client, log)


async def test_following_a_change_set_gives_up_after_the_retry_timeout(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    server.script.extend([answer, *[refuse(503)] * 10_000])

    with pytest.raises(Unanswered, match="the server continues to stage"):
        await follow(client, log)


async def test_change_sets_are_listed_and_their_changes_read(
    server: FakeServer, client: Client, log: list[str]
) -> None:
    await stage(client, log)

    page = await client.changesets([("project", "acme")])
    changes = await client.changes(CHANGESET)

    assert [one.id for one in page.changesets] == [CHANGESET]
    assert (await client.changeset(CHANGESET)).totals.create == 1
    assert changes.totals.create == 1


# Retries


def new_policy(time: Time, log: list[str], seconds: float = 10) -> RetryPolicy:
    return RetryPolicy(same_timeout(seconds), time.timing, log=log.append, recovery="recovered")


def failing(*errors: DeploylogError) -> Callable[[], Awaitable[str]]:
    """A call that raises each error once, and then returns."""
    remaining = list(errors)

    async def call() -> str:
        if remaining:
            raise remaining.pop(0)
        return "done"

    return call


DOWN = ServerUnreachable("down")


async def test_a_call_is_retried_and_the_outage_logged_once(log: list[str]) -> None:
    result = await retry(failing(DOWN, DOWN, DOWN), new_policy(Time(), log))

    assert result == "done"
    assert log == ["down; retrying for up to 10 s", "recovered"]


async def test_a_retry_waits_as_long_as_the_service_asks(log: list[str]) -> None:
    time = Time()

    await retry(failing(TransientError("busy", retry_after=7)), new_policy(time, log))

    assert time.seconds == 7


async def test_an_outage_ends_at_the_retry_timeout(log: list[str]) -> None:
    time = Time()

    with pytest.raises(ServerUnreachable):
        await retry(failing(*[DOWN] * 100), new_policy(time, log, 10))

    assert time.seconds == pytest.approx(10)


async def test_every_outage_has_the_whole_timeout(log: list[str]) -> None:
    time = Time()
    policy = new_policy(time, log, 10)
    final = ClientError("no", status=404)
    await retry(failing(DOWN, DOWN), policy)
    with pytest.raises(ClientError):
        await retry(failing(DOWN, final), policy)
    time.seconds += 100

    assert await retry(failing(DOWN, DOWN), policy) == "done"


async def test_a_wait_for_a_deployment_retries_until_its_timeout(
    server: FakeServer, client: Client
) -> None:
    server.script.extend([refuse(503), cut_off, answer])
    server.events.append({"type": "deployment.completed"})

    assert (await client.wait("d1", 60)).status == "completed"

    server.script.extend([refuse(503)] * 1000)
    with pytest.raises(ClientError):
        await client.wait("d1", 60)


# Backoff


def test_the_delay_doubles_up_to_a_maximum_and_can_be_reset() -> None:
    backoff = Backoff(lambda: 1.0, first=0.1, max_delay=5.0)

    delays = [backoff.next() for _ in range(8)]
    backoff.reset()

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert backoff.next() == pytest.approx(0.1)


def test_jitter_is_up_to_half_of_the_delay() -> None:
    assert Backoff(lambda: 0.0, first=1.0).next() == pytest.approx(0.5)


def test_a_week_of_attempts_does_not_overflow() -> None:
    backoff = Backoff(lambda: 1.0)

    assert [backoff.next() for _ in range(2000)][-1] == 5.0
