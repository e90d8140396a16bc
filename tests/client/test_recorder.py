import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median

import pytest

from deploylog.client import Client, NewDeployment, open_client
from deploylog.client.recorder import RunOptions, RunRecorder, open_feed
from deploylog.client.spool import SpoolHeader, abandoned_spools, create_spool
from deploylog.client.uploader import MAX_EVENTS, Timing, Undelivered, resume
from deploylog.errors import DeploylogError
from deploylog.events.event import NewEvent
from deploylog.events.times import parse_time
from deploylog.ingest.terraform.run import TerraformRun
from support.fake_server import (
    FakeServer,
    Step,
    answer,
    cut_off,
    fake_server,
    record_and_cut_off,
    refuse,
)
from support.paths import SAMPLES


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with open_client(server.url) as client:
        yield client


@pytest.fixture
def plan(tmp_path: Path) -> RunOptions:
    return new_plan(tmp_path)


def new_plan(directory: Path, *, limit: int = 1 << 20, patience: float = 10) -> RunOptions:
    return RunOptions(
        project="acme", stack="web", operation="apply", actor="alice",
        directory=directory / "spool", limit=limit, patience=patience,
    )  # fmt: skip


def hasty(waits: list[float] | None = None) -> Timing:
    """Time in which waiting takes no time; ``waits`` hears how long it would have been."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)
        await asyncio.sleep(0)

    return Timing(sleep=sleep)


class Said(list[str]):
    """What was said to people."""

    def __init__(self) -> None:
        super().__init__()
        self.something = asyncio.Event()

    def append(self, sentence: str) -> None:
        super().append(sentence)
        self.something.set()


@pytest.fixture
def said() -> Said:
    return Said()


def ignore(events: Sequence[NewEvent]) -> None:
    """Observe nothing."""


def sample(name: str = "04-apply-update-replace-slow.jsonl") -> list[bytes]:
    return (SAMPLES / name).read_bytes().splitlines()


def log_line(text: str) -> bytes:
    return b'{"@level":"info","@message":"%s","type":"log"}' % text.encode()


def ids_of(lines: Sequence[bytes], deployment_id: str, *, exit_code: int | None) -> list[object]:
    """The producer's ids of everything that these lines tell, in order."""
    run = TerraformRun(deployment_id=deployment_id)
    events = [event for line in lines for event in run.feed(line, now=0)]
    return [event.producer_id for event in [*events, *run.close(now=0, exit_code=exit_code)]]


async def feed_all(client: Client, plan: RunOptions, said: Said, timing: Timing) -> RunRecorder:
    async with (
        asyncio.timeout(20),
        open_feed(client, plan, say=said.append, observe=ignore, timing=timing) as feed,
    ):
        for line in sample():
            await feed.take(line)
            # Let the sender have its turn, as reading a pipe would.
            await asyncio.sleep(0)
        await feed.end(exit_code=0)
    return feed


async def test_every_line_arrives_once_and_in_order(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    feed = await feed_all(client, plan, said, Timing())

    assert server.ids == ids_of(sample(), feed.deployment_id, exit_code=0)
    assert server.repeated == 0
    assert feed.failure is None
    assert said == []
    assert not list(plan.directory.iterdir())


async def test_the_deployment_is_opened_as_planned(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    feed = await feed_all(client, plan, said, hasty())

    [opened] = server.opened
    assert parse_time(str(opened.pop("started"))) > 0
    assert [opened] == [
        {
            "id": feed.deployment_id, "project": "acme", "stack": "web", "tool": "terraform",
            "operation": "apply", "environment": None, "actor": "alice", "groups": [],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        [refuse(503)],
        [refuse(429), refuse(408), refuse(500), refuse(502)],
        [cut_off, cut_off],
        [answer, cut_off, record_and_cut_off],
        [answer, record_and_cut_off, refuse(503), answer, record_and_cut_off, answer, cut_off],
    ],
)
async def test_whatever_fails_for_a_while_nothing_is_lost_and_order_is_kept(
    server: FakeServer, client: Client, plan: RunOptions, said: Said, script: list[Step]
) -> None:
    server.script.extend(script)

    feed = await feed_all(client, plan, said, hasty())

    assert server.ids == ids_of(sample(), feed.deployment_id, exit_code=0)
    assert len(server.opened) == 1
    assert feed.failure is None
    assert not list(plan.directory.iterdir())


async def test_the_server_may_be_restarted_in_the_middle(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    lines = sample()
    async with open_feed(client, plan, say=said.append, observe=ignore, timing=hasty()) as feed:
        for line in lines[:20]:
            await feed.take(line)
        await server.until(lambda server: len(server.events) >= 10)
        await server.stop()
        for line in lines[20:]:
            await feed.take(line)
        assert feed.waiting > 0
        await server.start()
        await feed.end(exit_code=0)

    assert server.ids == ids_of(lines, feed.deployment_id, exit_code=0)
    assert said[-1] == f"{server.url} answers again"


async def test_an_outage_is_told_once_and_so_is_its_end(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    server.script.extend([answer, refuse(503, "stopping"), refuse(503), cut_off])

    await feed_all(client, plan, said, hasty())

    assert len(said) == 2
    assert said[0].startswith("stopping; trying again, events wait in ")
    assert said[1] == f"{server.url} answers again"


async def test_retry_after_is_honoured(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    server.script.extend([refuse(429, retry_after="17")])
    waits: list[float] = []

    await feed_all(client, plan, said, hasty(waits))

    assert waits[0] == 17.0


async def test_a_line_is_with_the_server_within_100_ms(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    taken: list[float] = []
    async with open_feed(client, plan, say=said.append, observe=ignore) as feed:
        for number in range(1, 21):
            began = time.monotonic()
            await feed.take(log_line(f"line {number}"))
            await server.until(lambda server, number=number: len(server.events) == number)
            taken.append(time.monotonic() - began)
        await feed.end(exit_code=0)

    assert median(taken) < 0.1


async def test_many_lines_share_a_request(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    async with open_feed(client, plan, say=said.append, observe=ignore, timing=hasty()) as feed:
        for number in range(2 * MAX_EVENTS):
            await feed.take(log_line(f"line {number}"))
        await feed.end(exit_code=0)

    assert len(server.events) == 2 * MAX_EVENTS + 1
    assert len(server.requests) <= 5


async def test_a_refusal_is_told_at_once_and_the_lines_are_taken_and_kept(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    server.script.extend([answer, refuse(403, "alice may not write project/acme")])

    feed = await feed_all(client, plan, said, hasty())

    assert said == ["alice may not write project/acme; nothing more is sent"]
    assert feed.failure is not None
    assert feed.failure.message.startswith("alice may not write project/acme; ")
    assert server.events == []
    [(spool, events)] = abandoned_spools(plan.directory)
    assert len(events) == len(ids_of(sample(), feed.deployment_id, exit_code=0))
    spool.close()


async def test_a_refusal_does_not_make_a_full_spool_hold_the_tool(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    server.script.append(refuse(401, "no"))

    feed = await feed_all(client, new_plan(tmp_path, limit=2000), said, hasty())

    assert feed.failure is not None


async def test_a_full_spool_holds_the_tool_until_the_server_is_back(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    lines = sample()
    await server.stop()
    async with (
        asyncio.timeout(20),
        open_feed(
            client, new_plan(tmp_path, limit=2000), say=said.append, observe=ignore, timing=hasty()
        ) as feed,
    ):
        taking = asyncio.create_task(take_all(feed, lines))
        await said.something.wait()
        assert not taking.done()
        await server.start()
        await taking
        await feed.end(exit_code=0)

    assert server.ids == ids_of(lines, feed.deployment_id, exit_code=0)


async def take_all(feed: RunRecorder, lines: Sequence[bytes]) -> None:
    for line in lines:
        await feed.take(line)


async def test_who_gives_up_leaves_the_spool_and_resuming_delivers_it(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    plan = new_plan(tmp_path, patience=0.05)
    await server.stop()

    feed = await feed_all(client, plan, said, hasty())

    assert isinstance(feed.failure, Undelivered)
    [(spool, events)] = abandoned_spools(plan.directory)
    assert str(spool.path) in feed.failure.message
    await server.start()
    assert await resume(client, spool, events, patience=10, say=said.append) is None
    assert server.ids == ids_of(sample(), feed.deployment_id, exit_code=0)
    assert not list(plan.directory.iterdir())


async def test_while_events_arrive_nobody_gives_up(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    plan = new_plan(tmp_path, patience=0.5)

    async def slowly(server: FakeServer, request: object) -> None:
        await asyncio.sleep(0.2)

    server.script.extend([answer, *[slowly] * 4])
    async with open_feed(client, plan, say=said.append, observe=ignore, timing=hasty()) as feed:
        for number in range(3 * MAX_EVENTS):
            await feed.take(log_line(f"line {number}"))
        await feed.end(exit_code=0)

    assert feed.failure is None
    assert len(server.events) == 3 * MAX_EVENTS + 1


async def test_hurrying_leaves_the_spool_at_once(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    await server.stop()
    async with (
        asyncio.timeout(10),
        open_feed(client, plan, say=said.append, observe=ignore) as feed,
    ):
        await feed.take(log_line("a"))
        asyncio.get_running_loop().call_soon(feed.hurry)
        await feed.end(exit_code=0)

    assert isinstance(feed.failure, Undelivered)


async def test_one_event_waits(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    await server.stop()
    async with open_feed(client, plan, say=said.append, observe=ignore) as feed:
        asyncio.get_running_loop().call_soon(feed.hurry)
        await feed.end(exit_code=0)

    assert feed.failure is not None
    assert "1 event waits in " in feed.failure.message
    assert feed.failure.message.endswith("(deploylog ingest resume sends it)")


async def test_a_run_whose_end_nobody_saw_is_ended_when_it_is_resumed(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    opening = NewDeployment(id="d1", project="acme", stack="web")
    heading = SpoolHeader(server=client.server, opening=opening)
    create_spool(tmp_path, heading).close()

    [(spool, events)] = abandoned_spools(tmp_path)
    await resume(client, spool, events, patience=10, say=said.append)

    [end] = server.events
    assert (end["type"], end["id"]) == ("deployment.failed", "d1/lost")


async def test_without_a_line_and_an_exit_code_there_was_no_run(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    async with open_feed(client, plan, say=said.append, observe=ignore) as feed:
        await feed.take(b"a shell's greeting")
        await feed.end(exit_code=None)

    assert not feed.has_begun
    assert server.requests == []


async def test_a_tool_that_says_nothing_is_recorded_with_its_exit_code(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    async with open_feed(client, plan, say=said.append, observe=ignore) as feed:
        await feed.end(exit_code=3)

    [end] = server.events
    assert end["type"] == "deployment.failed"


async def test_a_spool_that_cannot_be_made_is_told_and_the_lines_are_taken(
    server: FakeServer, client: Client, tmp_path: Path, said: Said
) -> None:
    (tmp_path / "spool").write_text("not a directory")

    feed = await feed_all(client, new_plan(tmp_path), said, hasty())

    assert isinstance(feed.failure, DeploylogError)
    assert len(said) == 1


async def test_every_event_is_observed(
    server: FakeServer, client: Client, plan: RunOptions, said: Said
) -> None:
    observed: list[NewEvent] = []
    async with open_feed(client, plan, say=said.append, observe=observed.extend) as feed:
        await take_all(feed, sample())
        await feed.end(exit_code=0)

    assert [event.producer_id for event in observed] == server.ids
