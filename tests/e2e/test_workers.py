"""Several workers on one machine: as one service, whichever of them dies or is restarted."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from support.backends import empty_store_url_at
from support.followers import Follower
from support.refusals import assert_one_plain_line, refused
from support.servers import EVENTS, Spawned, line, spawned
from support.waiting import until

WORKERS = 3

#: A connection of its own for a request: any worker may take it.
ANEW = {"Connection": "close"}


@pytest.fixture
async def service(store_url: str) -> AsyncIterator[Spawned]:
    async with spawned(store_url, workers=WORKERS) as service:
        await until(lambda: len(workers_of(service)) == WORKERS)
        yield service


def workers_of(service: Spawned) -> list[int]:
    """The processes that serve, oldest first."""
    pid = service.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def is_running(pid: int) -> bool:
    # It may end between the two, or while its state is read.
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


async def sample(service: Spawned, name: str) -> dict[str, float]:
    """The values of a metric by worker."""
    text = (await service.get("/metrics", headers=ANEW)).body.decode()
    found = re.findall(rf'^{name}{{worker="(\d+)"}} (\S+)$', text, re.MULTILINE)
    return {worker: float(value) for worker, value in found}


async def answering(service: Spawned) -> None:
    """Wait until every worker answers."""

    async def do_all_answer() -> bool:
        return len(await sample(service, "deploylog_head_position")) == WORKERS

    await until(do_all_answer)


async def append(service: Spawned, key: str) -> str:
    """Append an event as a client does that retries; its id."""
    while True:
        with suppress(aiohttp.ClientError, ConnectionError):
            headers = {"Idempotency-Key": key, **ANEW}
            answer = await service.post(line(subject=key), headers=headers)
            assert answer.status == 201, answer.body
            return answer.ids[0]
        await asyncio.sleep(0.01)


async def replace_each(service: Spawned, number: signal.Signals) -> None:
    """End one worker after the other, each when the one before it is replaced."""
    for pid in workers_of(service):
        os.kill(pid, number)
        await until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]
        await until(lambda: len(workers_of(service)) == WORKERS)
        await answering(service)


async def test_whichever_worker_answers_has_what_any_other_recorded(service: Spawned):
    for number in range(60):
        id = await append(service, str(number))

        listed = await service.get(f"{EVENTS}?limit=1", headers=ANEW)
        found = await service.get(f"{EVENTS}/{id}", headers=ANEW)

        assert (listed.ids, found.status) == ([id], 200)
    recorded = await sample(service, "deploylog_events_appended_total")
    assert len([number for number in recorded.values() if number]) > 1


async def test_the_metrics_are_those_of_every_worker(service: Spawned):
    await answering(service)
    for number in range(20):
        await append(service, str(number))

    recorded = await sample(service, "deploylog_events_appended_total")

    assert sorted(recorded) == ["1", "2", "3"]
    assert sum(recorded.values()) == 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_stream_misses_an_event_while_each_worker_is_replaced(
    service: Spawned, number: signal.Signals
):
    followers = [Follower(service) for _ in range(6)]
    total = 150

    async def write() -> list[str]:
        ids = []
        for each in range(total):
            ids.append(await append(service, str(each)))
            await asyncio.sleep(0.02)
        return ids

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        for follower in followers:
            tasks.create_task(follower.follow(total))
        await until(lambda: all(follower.ids for follower in followers))
        await replace_each(service, number)

    assert [follower.ids for follower in followers] == [writing.result()] * len(followers)
    assert sum(follower.connections for follower in followers) > len(followers)
    assert not any(follower.gaps for follower in followers)


async def test_a_stop_drains_every_worker(service: Spawned):
    pids = workers_of(service)
    async with service.stream("from=start") as stream:
        [id] = await service.append([line()])
        assert await stream.take(1) == [id]

        code, said = await service.end()

        assert await stream.block() is None
    assert code == 0
    assert "Traceback" not in said
    assert "ERROR" not in said
    assert not any(map(is_running, pids))


async def test_workers_end_with_their_supervisor(service: Spawned):
    pids = workers_of(service)
    await answering(service)

    service.process.kill()

    await until(lambda: not any(map(is_running, pids)))


async def test_a_killed_worker_is_told_in_one_line(service: Spawned):
    [_, second, _] = workers_of(service)
    os.kill(second, signal.SIGKILL)
    # Until the supervisor has taken notice, the dead process is still its child.
    await until(lambda: second not in workers_of(service))
    await until(lambda: len(workers_of(service)) == WORKERS)

    _, said = await service.end()

    [told] = [each for each in said.splitlines() if "killed" in each]
    assert f"worker 2 (process {second}) was killed by SIGKILL; starting it again" in told


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_workers_that_cannot_start_say_so_in_one_plain_line(url: str, host: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if host == "127.0.0.1" else 0

        refusal = await refused(
            "--workers", "3", "--store", url, "--host", host, "--port", str(port)
        )

    assert_one_plain_line(refusal, host)


async def test_a_store_that_cannot_be_opened_is_one_plain_line_of_all_workers(tmp_path: Path):
    url = empty_store_url_at(tmp_path / "nowhere" / "log.db")

    refusal = await refused("--workers", "3", "--store", url, "--port", "0")

    assert_one_plain_line(refusal, "nowhere")
