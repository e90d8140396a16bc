import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from deploylog.client import (
    Backoff,
    Client,
    ClientError,
    Message,
    MessageParser,
    NewDeployment,
    ServerUnreachable,
    Unanswered,
    open_client,
    parse_event,
)
from deploylog.errors import OperatorError
from support.fake_server import FakeServer, answer, cut_off, fake_server, refuse, stage_and_cut_off

EVENT = b'{"specversion":"1.0","id":"e1","source":"terraform","type":"deployment.log"}\n'


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with open_client(server.url, "secret", sleep=no_sleep) as client:
        yield client


def messages_of(stream: bytes, size: int) -> list[Message]:
    parser = MessageParser()
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    return [message for piece in pieces for message in parser.feed(piece)]


# The stream's lines


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_reads_the_same_in_pieces_of_any_size(size: int) -> None:
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


def test_a_message_without_data_is_none() -> None:
    assert messages_of(b"event: a\n\ndata: b\n\n", 100) == [
        Message(event="message", data="b", id=None)
    ]


def test_the_stream_says_how_long_to_wait() -> None:
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


async def test_a_problem_becomes_an_error_with_the_servers_sentence(
    server: FakeServer, client: Client
) -> None:
    server.script.append(refuse(403, "alice may not write project/acme"))

    with pytest.raises(ClientError) as caught:
        await client.append(EVENT, deployment="d1")

    assert caught.value.message == "alice may not write project/acme"
    assert (caught.value.status, caught.value.problem) == (403, "some-problem")
    assert not caught.value.transient


async def test_retry_after_is_understood(server: FakeServer, client: Client) -> None:
    server.script.append(refuse(503, retry_after="7"))

    with pytest.raises(ClientError) as caught:
        await client.append(EVENT, deployment="d1")

    assert caught.value.transient
    assert caught.value.retry_after == 7.0


async def test_an_answer_that_is_no_problem_is_told_by_its_status(
    server: FakeServer, client: Client
) -> None:
    with pytest.raises(ClientError, match=r"answered 404 Not Found"):
        await client.projects()


async def test_an_answer_that_is_not_ours_is_an_error(server: FakeServer, client: Client) -> None:
    with pytest.raises(ClientError, match=r"not Deploylog's"):
        parse_event('{"hello": 1}')


async def test_nobody_listening_is_one_plain_line() -> None:
    async with open_client("http://127.0.0.1:1") as client:
        with pytest.raises(ServerUnreachable) as caught:
            await client.projects()

    assert caught.value.message == "http://127.0.0.1:1 does not answer (connection refused)"


async def test_a_lost_connection_is_one_plain_line(server: FakeServer, client: Client) -> None:
    server.script.append(cut_off)

    with pytest.raises(ServerUnreachable, match=r"does not answer \(connection"):
        await client.append(EVENT, deployment="d1")


@pytest.mark.parametrize("address", ["localhost:8325", "ftp://x", "http://[::1", "http://"])
async def test_what_is_no_address_is_an_operators_error(address: str) -> None:
    with pytest.raises(OperatorError, match=r"is not a server's address"):
        async with open_client(address) as client:
            await client.projects()


async def test_a_key_that_is_none_is_an_operators_error() -> None:
    with pytest.raises(OperatorError, match="the key"):
        async with open_client("http://127.0.0.1:1", "two\nlines"):
            pass


# Streams


async def first(client: Client, number: int, **params: str) -> list[str]:
    found: list[str] = []
    async with (
        asyncio.timeout(10),
        aclosing(client.stream(list(params.items()), say=said.append)) as messages,
    ):
        async for message in messages:
            found.append(message.data)
            if len(found) == number:
                break
    return found


said: list[str] = []


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


async def test_a_stream_goes_on_after_the_last_message(server: FakeServer, client: Client) -> None:
    server.streams.extend([b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", b"id: 3\ndata: c\n\n"])

    found = await first(client, 3)

    assert found == ["a", "b", "c"]
    assert server.requests[1].headers["Last-Event-ID"] == "2"
    assert said == [f"{server.url} ended the stream; connecting again"]


async def test_a_stream_comes_back_however_often_the_server_fails(
    server: FakeServer, client: Client
) -> None:
    server.streams.extend([b"id: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n"])
    server.script.extend([answer, refuse(503), cut_off, refuse(429)])

    found = await first(client, 2)

    assert found == ["a", "b"]
    assert len(said) == 1


async def test_a_stream_from_now_on_does_not_skip_when_it_is_lost_before_its_first_message(
    server: FakeServer, client: Client
) -> None:
    server.streams.extend([b"retry: 1000\n\n", b"id: 1\ndata: a\n\n"])

    await first(client, 1, scope="project/acme")

    again = server.requests[1].query
    assert again["scope"] == "project/acme"
    assert again["from"].endswith(".000000Z")


async def test_a_first_connection_that_fails_is_raised(server: FakeServer, client: Client) -> None:
    server.script.append(refuse(503, "starting"))

    with pytest.raises(ClientError, match="starting"):
        await first(client, 1)


async def test_a_refusal_ends_a_stream(server: FakeServer, client: Client) -> None:
    server.streams.append(b"id: 1\ndata: a\n\n")
    server.script.extend([answer, refuse(401, "the key was revoked")])

    with pytest.raises(ClientError, match="the key was revoked"):
        await first(client, 2)


# Change sets

PLAN = b'{"format_version":"1.2"}'
CHANGESET = "6f1c2b7e-3f57-4a5b-9d39-0a4d5a1e7c55"

TOLD = b"id: 1\nevent: changeset.resource\ndata: a\n\n"
END = b"id: 2\nevent: changeset.completed\ndata: b\n\n"


async def stage(client: Client, *, patience: float = 30) -> str:
    state = await client.stage(
        PLAN, [("project", "acme")], id=CHANGESET, patience=patience, say=said.append
    )
    return state.id


async def follow(client: Client, *, patience: float = 30) -> list[str]:
    following = client.follow_changeset(CHANGESET, patience=patience, say=said.append)
    async with asyncio.timeout(10), aclosing(following) as messages:
        return [message.data async for message in messages]


async def test_a_plan_is_staged_under_our_id(server: FakeServer, client: Client) -> None:
    assert await stage(client) == CHANGESET

    [request] = server.requests
    assert dict(request.query) == {"project": "acme", "id": CHANGESET}
    assert request.headers["Idempotency-Key"] == CHANGESET
    assert request.headers["Content-Encoding"] == "gzip"
    assert server.staged == {CHANGESET: PLAN}


async def test_a_plan_is_sent_until_there_is_an_answer_and_staged_once(
    server: FakeServer, client: Client
) -> None:
    server.script.extend([refuse(429), cut_off, refuse(503, "starting"), stage_and_cut_off])

    assert await stage(client) == CHANGESET

    assert len(server.requests) == 5
    assert {request.headers["Idempotency-Key"] for request in server.requests} == {CHANGESET}
    assert server.staged == {CHANGESET: PLAN}
    assert len(said) == 1


async def test_a_plan_that_is_refused_is_not_sent_again(server: FakeServer, client: Client) -> None:
    server.script.append(refuse(400, "the plan is not JSON"))

    with pytest.raises(ClientError, match="the plan is not JSON"):
        await stage(client)

    assert server.staged == {}


async def test_who_stages_waits_no_longer_than_is_asked(client: Client, server: FakeServer) -> None:
    await server.stop()

    with pytest.raises(Unanswered, match=r"does not answer .*; change set 6f1c.* may not be stag"):
        await stage(client, patience=0.05)


async def test_a_change_set_is_followed_to_its_end_over_lost_connections(
    server: FakeServer, client: Client
) -> None:
    server.streams.extend([TOLD, END + b"id: 3\ndata: never read\n\n"])
    server.script.extend([refuse(503), answer, cut_off, answer, refuse(503)])

    assert await follow(client) == ["a", "b"]

    last = server.requests[-1]
    assert last.headers["Last-Event-ID"] == "1"
    assert dict(last.query) == {"scope": f"changeset/{CHANGESET}", "from": "start"}


async def test_who_may_not_read_a_change_set_is_told_so(server: FakeServer, client: Client) -> None:
    server.script.append(refuse(404, "there is no change set"))

    with pytest.raises(ClientError, match="there is no change set"):
        await follow(client)


async def test_who_follows_a_change_set_waits_no_longer_than_is_asked(
    server: FakeServer, client: Client
) -> None:
    server.script.extend([answer, *[refuse(503)] * 10_000])

    with pytest.raises(Unanswered, match="is staged all the same"):
        await follow(client, patience=0.05)


async def test_change_sets_are_listed_and_their_changes_read(
    server: FakeServer, client: Client
) -> None:
    await stage(client)

    page = await client.changesets([("project", "acme")])
    changes = await client.changes(CHANGESET)

    assert [one.id for one in page.changesets] == [CHANGESET]
    assert (await client.changeset(CHANGESET)).totals.create == 1
    assert changes.totals.create == 1


# Backoff


def test_the_wait_doubles_up_to_a_bound_and_begins_again() -> None:
    backoff = Backoff(lambda: 1.0, first=0.1, longest=5.0)

    waits = [backoff.next() for _ in range(8)]
    backoff.reset()

    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert backoff.next() == pytest.approx(0.1)


def test_jitter_takes_up_to_half_of_the_wait() -> None:
    assert Backoff(lambda: 0.0, first=1.0).next() == pytest.approx(0.5)


def test_a_week_of_tries_does_not_overflow() -> None:
    backoff = Backoff(lambda: 1.0)

    assert [backoff.next() for _ in range(2000)][-1] == 5.0
