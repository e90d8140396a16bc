import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from deploylog.client import Client, NewDeployment, Timing, open_client
from deploylog.client.recorder import RunOptions, RunRecorder, open_recorder
from deploylog.client.spool import SpoolHeader, abandoned_spools, create_spool
from deploylog.client.uploader import MAX_EVENTS, Undelivered, resume
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
from support.waiting import until


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with open_client(server.url) as client:
        yield client


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return new_options(tmp_path)


def new_options(
    directory: Path, *, spool_bytes: int = 1 << 20, retry_timeout: float = 10
) -> RunOptions:
    return RunOptions(
        project="acme", stack="web", operation="apply", actor="alice",
        spool_directory=directory / "spool", spool_bytes=spool_bytes, retry_timeout=retry_timeout,
    )  # fmt: skip


def without_delays(delays: list[float] | None = None) -> Timing:
    """Timing whose sleeps take no time; ``delays`` records them."""

    async def sleep(seconds: float) -> None:
        if delays is not None:
            delays.append(seconds)
        await asyncio.sleep(0)

    return Timing(sleep=sleep)


class Log(list[str]):
    """The lines that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.has_line = asyncio.Event()

    def append(self, line: str) -> None:
        super().append(line)
        self.has_line.set()


@pytest.fixture
def log() -> Log:
    return Log()


def ignore(events: Sequence[NewEvent]) -> None:
    """An observer that does nothing."""


def sample(name: str = "04-apply-update-replace-slow.jsonl") -> list[bytes]:
    return (SAMPLES / name).read_bytes().splitlines()


def log_line(text: str) -> bytes:
    return b'{"@level":"info","@message":"%s","type":"log"}' % text.encode()


def ids_of(lines: Sequence[bytes], deployment_id: str, *, exit_code: int | None) -> list[object]:
    """The producer ids of the events of these lines, in order."""
    run = TerraformRun(deployment_id=deployment_id)
    events = [event for line in lines for event in run.feed(line, now=0)]
    return [event.producer_id for event in [*events, *run.close(now=0, exit_code=exit_code)]]


async def record_all(client: Client, options: RunOptions, log: Log, timing: Timing) -> RunRecorder:
    async with (
        asyncio.timeout(20),
        open_recorder(client, options, log=log.append, observe=ignore, timing=timing) as recorder,
    ):
        for line in sample():
            await recorder.record(line)
            # Let the uploader run, as reading a pipe would.
            await asyncio.sleep(0)
        await recorder.finish(exit_code=0)
    return recorder


async def test_every_line_arrives_once_and_in_order(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    recorder = await record_all(client, options, log, Timing())

    assert server.ids == ids_of(sample(), recorder.deployment_id, exit_code=0)
    assert server.repeated == 0
    assert recorder.failure is None
    assert log == []
    assert not list(options.spool_directory.iterdir())


async def test_the_deployment_is_opened_with_the_options(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    recorder = await record_all(client, options, log, without_delays())

    [opened] = server.opened
    assert parse_time(str(opened.pop("started"))) > 0
    assert [opened] == [
        {
            "id": recorder.deployment_id, "project": "acme", "stack": "web", "tool": "terraform",
            "operation": "apply", "actor": "alice",
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
async def test_transient_failures_lose_no_event_and_keep_the_order(
    server: FakeServer, client: Client, options: RunOptions, log: Log, script: list[Step]
) -> None:
    server.script.extend(script)

    recorder = await record_all(client, options, log, without_delays())

    assert server.ids == ids_of(sample(), recorder.deployment_id, exit_code=0)
    assert len(server.opened) == 1
    assert recorder.failure is None
    assert not list(options.spool_directory.iterdir())


async def test_the_server_may_restart_during_a_run(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    lines = sample()
    async with open_recorder(
        client, options, log=log.append, observe=ignore, timing=without_delays()
    ) as recorder:
        for line in lines[:20]:
            await recorder.record(line)
        await server.until(lambda server: len(server.events) >= 10)
        await server.stop()
        for line in lines[20:]:
            await recorder.record(line)
        assert recorder.pending > 0
        await until(lambda: log)
        await server.start()
        await recorder.finish(exit_code=0)

    assert server.ids == ids_of(lines, recorder.deployment_id, exit_code=0)
    assert log[-1] == f"{server.url} responds again"


async def test_an_outage_and_its_end_are_logged_once(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    server.script.extend([answer, refuse(503, "stopping"), refuse(503), cut_off])

    async with (
        asyncio.timeout(20),
        open_recorder(
            client, options, log=log.append, observe=ignore, timing=without_delays()
        ) as recorder,
    ):
        for line in sample():
            await recorder.record(line)
        # The end of the run during an outage would be logged, too.
        await until(lambda: log and log[-1].endswith("responds again"))
        await recorder.finish(exit_code=0)

    assert len(log) == 2
    assert log[0].startswith("stopping; retrying, events are buffered in ")
    assert log[1] == f"{server.url} responds again"


async def test_an_outage_at_the_end_says_how_long_the_server_is_waited_for(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    lines = sample()
    await server.stop()
    async with open_recorder(
        client, new_options(tmp_path, retry_timeout=0.01), log=log.append, observe=ignore,
        timing=without_delays(),
    ) as recorder:  # fmt: skip
        await recorder.record(lines[0])
        async with asyncio.timeout(10):
            await log.has_line.wait()

        await recorder.finish(exit_code=0)

    assert "waiting up to 0 s for it. Ctrl-C ends that; the events remain in" in log[1]


async def test_retry_after_is_honored(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    server.script.extend([refuse(429, retry_after="17")])
    delays: list[float] = []

    await record_all(client, options, log, without_delays(delays))

    assert delays[0] == 17.0


def has_events(server: FakeServer, *, number: int) -> bool:
    return len(server.events) == number


async def test_a_line_reaches_the_server_within_100_ms(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    latencies: list[float] = []
    async with open_recorder(client, options, log=log.append, observe=ignore) as recorder:
        for number in range(1, 21):
            start = time.monotonic()
            await recorder.record(log_line(f"line {number}"))
            await server.until(partial(has_events, number=number))
            latencies.append(time.monotonic() - start)
        await recorder.finish(exit_code=0)

    assert median(latencies) < 0.1


async def test_many_lines_share_a_request(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    async with open_recorder(
        client, options, log=log.append, observe=ignore, timing=without_delays()
    ) as recorder:
        for number in range(2 * MAX_EVENTS):
            await recorder.record(log_line(f"line {number}"))
        await recorder.finish(exit_code=0)

    assert len(server.events) == 2 * MAX_EVENTS + 1
    assert len(server.requests) <= 5


async def test_a_refusal_is_logged_at_once_and_the_events_stay_in_the_spool(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    server.script.extend([answer, refuse(403, "alice may not write project/acme")])

    recorder = await record_all(client, options, log, without_delays())

    assert log == ["alice may not write project/acme; no more events are sent"]
    assert recorder.failure is not None
    assert recorder.failure.message.startswith("alice may not write project/acme; ")
    assert server.events == []
    [(spool, events)] = abandoned_spools(options.spool_directory)
    assert len(events) == len(ids_of(sample(), recorder.deployment_id, exit_code=0))
    spool.close()


async def test_after_a_refusal_a_full_spool_does_not_block_the_tool(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    server.script.append(refuse(401, "no"))

    recorder = await record_all(
        client, new_options(tmp_path, spool_bytes=2000), log, without_delays()
    )

    assert recorder.failure is not None


async def test_a_full_spool_blocks_the_tool_until_the_server_is_back(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    lines = sample()
    await server.stop()
    async with (
        asyncio.timeout(20),
        open_recorder(
            client,
            new_options(tmp_path, spool_bytes=2000),
            log=log.append,
            observe=ignore,
            timing=without_delays(),
        ) as recorder,
    ):
        recording = asyncio.create_task(record_lines(recorder, lines))
        await log.has_line.wait()
        assert not recording.done()
        await server.start()
        await recording
        await recorder.finish(exit_code=0)

    assert server.ids == ids_of(lines, recorder.deployment_id, exit_code=0)


async def record_lines(recorder: RunRecorder, lines: Sequence[bytes]) -> None:
    for line in lines:
        await recorder.record(line)


async def test_after_the_retry_timeout_the_spool_remains_and_resume_delivers_it(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    options = new_options(tmp_path, retry_timeout=0.05)
    await server.stop()

    recorder = await record_all(client, options, log, without_delays())

    assert isinstance(recorder.failure, Undelivered)
    [(spool, events)] = abandoned_spools(options.spool_directory)
    assert str(spool.path) in recorder.failure.message
    await server.start()
    assert await resume(client, spool, events, retry_timeout=10, log=log.append) is None
    assert server.ids == ids_of(sample(), recorder.deployment_id, exit_code=0)
    assert not list(options.spool_directory.iterdir())


async def test_the_retry_timeout_restarts_with_every_acknowledged_batch(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    options = new_options(tmp_path, retry_timeout=0.5)

    async def slowly(server: FakeServer, request: object) -> None:
        await asyncio.sleep(0.2)

    server.script.extend([answer, *[slowly] * 4])
    async with open_recorder(
        client, options, log=log.append, observe=ignore, timing=without_delays()
    ) as recorder:
        for number in range(3 * MAX_EVENTS):
            await recorder.record(log_line(f"line {number}"))
        await recorder.finish(exit_code=0)

    assert recorder.failure is None
    assert len(server.events) == 3 * MAX_EVENTS + 1


async def test_stopping_to_wait_leaves_the_spool_at_once(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    await server.stop()
    async with (
        asyncio.timeout(10),
        open_recorder(client, options, log=log.append, observe=ignore) as recorder,
    ):
        await recorder.record(log_line("a"))
        asyncio.get_running_loop().call_soon(recorder.stop_waiting)
        await recorder.finish(exit_code=0)

    assert isinstance(recorder.failure, Undelivered)


async def test_one_remaining_event_is_counted_in_the_singular(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    await server.stop()
    async with open_recorder(client, options, log=log.append, observe=ignore) as recorder:
        asyncio.get_running_loop().call_soon(recorder.stop_waiting)
        await recorder.finish(exit_code=0)

    assert recorder.failure is not None
    assert "1 event remains in " in recorder.failure.message
    assert recorder.failure.message.endswith("To send it, run: deploylog ingest resume")


async def test_resume_ends_a_run_whose_end_was_not_recorded(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    deployment = NewDeployment(id="d1", project="acme", stack="web")
    header = SpoolHeader(server=client.server, deployment=deployment)
    create_spool(tmp_path, header).close()

    [(spool, events)] = abandoned_spools(tmp_path)
    await resume(client, spool, events, retry_timeout=10, log=log.append)

    [end] = server.events
    assert (end["type"], end["id"]) == ("deployment.failed", "d1/lost")


async def test_without_a_line_and_an_exit_code_there_was_no_run(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    async with open_recorder(client, options, log=log.append, observe=ignore) as recorder:
        await recorder.record(b"a shell's greeting")
        await recorder.finish(exit_code=None)

    assert not recorder.has_started
    assert server.requests == []


async def test_a_silent_tool_is_recorded_with_its_exit_code(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    async with open_recorder(client, options, log=log.append, observe=ignore) as recorder:
        await recorder.finish(exit_code=3)

    [end] = server.events
    assert end["type"] == "deployment.failed"


async def test_a_spool_that_cannot_be_created_is_logged_and_the_tool_continues(
    server: FakeServer, client: Client, tmp_path: Path, log: Log
) -> None:
    (tmp_path / "spool").write_text("not a directory")

    recorder = await record_all(client, new_options(tmp_path), log, without_delays())

    assert isinstance(recorder.failure, DeploylogError)
    assert len(log) == 1


async def test_every_event_is_observed(
    server: FakeServer, client: Client, options: RunOptions, log: Log
) -> None:
    observed: list[NewEvent] = []
    async with open_recorder(client, options, log=log.append, observe=observed.extend) as recorder:
        await record_lines(recorder, sample())
        await recorder.finish(exit_code=0)

    assert [event.producer_id for event in observed] == server.ids
