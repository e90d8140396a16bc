"""Kill the primary of a cluster under load, and say what became of what was acknowledged.

Writers send events to three API processes in turn, with an idempotency key each, until each event
is acknowledged. Readers follow on streams, and come back with their last id. Meanwhile the node of
PostgreSQL of the primary is killed; with ``--node`` its Patroni and an API process, too, which are
started again later: until then no standby is there, and nothing is acknowledged. With
``--asynchronous`` the standby lacks the newest events when it takes over, and readers
must get a gap.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from demo.cluster import Cluster, Node, running
from demo.machine import ClusterFailed

WRITERS, READERS = 8, 6

#: Seconds of load before the primary is killed, and after that.
BEFORE, AFTER = 8, 30

#: Seconds for which an asynchronous standby receives nothing before it takes over.
BEHIND = 2

EVENTS = "/log/v1/events"


@dataclass
class Load:
    """What writers and readers saw."""

    cluster: Cluster
    http: aiohttp.ClientSession
    writers: int = WRITERS
    ended: bool = False
    #: The number of each acknowledged event, by id; and when and where it was acknowledged.
    acknowledged: dict[str, int] = field(default_factory=dict)
    times: list[tuple[float, str]] = field(default_factory=list)
    retries: int = 0

    async def write(self, writer: int) -> None:
        number = writer
        while not self.ended:
            await self._record(number)
            number += self.writers

    async def _record(self, number: int) -> None:
        event = {"type": "a.b", "source": "failover", "scopes": "project/demo", "id": str(number)}
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"k{number}"}
        for turn in range(10_000):
            url = self.cluster.urls[(number + turn) % len(self.cluster.urls)]
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self.http.post(
                    f"{url}{EVENTS}", data=json.dumps(event), headers=headers
                ) as response:
                    if response.status == 201:
                        [recorded] = (await response.json())["events"]
                        self.acknowledged[recorded["id"]] = number
                        self.times.append((time.monotonic(), url))
                        return
            self.retries += 1
            await asyncio.sleep(0.1)

    def longest_pause(self, since: float = 0) -> float:
        """Seconds between two acknowledgements, from a moment on."""
        times = sorted(moment for moment, _ in self.times if moment >= since)
        return max((after - before for before, after in pairwise(times)), default=0)


@dataclass
class Reader:
    """A stream that comes back with its last id."""

    load: Load
    number: int
    seen: list[str] = field(default_factory=list)
    connections: int = 0
    gaps: int = 0

    async def follow(self) -> None:
        turn = self.number
        while True:
            turn += 1
            with suppress(aiohttp.ClientError, TimeoutError):
                await self._read(self.load.cluster.urls[turn % len(self.load.cluster.urls)])
            await asyncio.sleep(0.2)

    async def _read(self, url: str) -> None:
        headers = {"Last-Event-ID": self.seen[-1]} if self.seen else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=20)
        address = f"{url}{EVENTS}/stream?from=start&source=failover"
        async with self.load.http.get(address, headers=headers, timeout=timeout) as response:
            self.connections += response.status == 200
            fields: dict[str, str] = {}
            async for raw in response.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if raw != b"\n":
                    fields[name] = value
                    continue
                self._take(fields)
                fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        if fields.get("event") == "gap":
            # The ids of before are those of another log: it starts again.
            self.gaps += 1
            self.seen.clear()
        elif "data" in fields and "id" in fields:
            self.seen.append(fields["id"])


async def kill_primary(cluster: Cluster, *, is_node: bool, is_behind: bool) -> Node:
    """Kill PostgreSQL of the primary; with ``is_node``, all that would run on its machine."""
    primary = await cluster.primary()
    if is_behind:
        _stop_sending(primary)
        await asyncio.sleep(BEHIND)
    assert primary.patroni is not None
    if is_node:
        cluster.apis[0].process.kill()
        os.kill(primary.patroni.pid, signal.SIGKILL)
    for pid in (primary.postgres, *children_of(primary.postgres)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return primary


def _stop_sending(primary: Node) -> None:
    """Stop the process that sends the log to the standby."""
    for pid in children_of(primary.postgres):
        if b"walsender" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGSTOP)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def log_of(load: Load, url: str) -> list[dict[str, Any]]:
    """Every event of the log, in order."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        address = f"{url}{EVENTS}?order=oldest&source=failover&limit=1000{after}"
        async with load.http.get(address) as response:
            page = await response.json()
        found += page["events"]
        if not page.get("next"):
            return found
        after = f"&after={page['next']}"


async def measure(cluster: Cluster, *, is_node: bool, is_synchronous: bool) -> bool:
    """Print what the failover did; return whether every promise was kept."""
    timeout = aiohttp.ClientTimeout(total=20, sock_connect=2)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        load = Load(cluster, http)
        readers = [Reader(load, number) for number in range(READERS)]
        following = [asyncio.create_task(reader.follow()) for reader in readers]
        writing = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
        await asyncio.sleep(BEFORE)
        killed = await kill_primary(cluster, is_node=is_node, is_behind=not is_synchronous)
        print(
            f"killed {killed.name} after {len(load.acknowledged)} acknowledged events", flush=True
        )
        await asyncio.sleep(AFTER / 2)
        if is_node:
            await cluster.start_api(cluster.apis[0])
            await cluster.start_node(killed)
        await asyncio.sleep(AFTER / 2)
        load.ended = True
        await asyncio.wait(writing)
        found = await log_of(load, cluster.urls[1])
        log = [event["id"] for event in found]
        await catch_up(readers, log)
        for task in following:
            task.cancel()
        return report(load, readers, log, found, is_synchronous=is_synchronous)


async def catch_up(readers: Sequence[Reader], log: Sequence[str]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while any(reader.seen[-1:] != log[-1:] for reader in readers):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def report(
    load: Load,
    readers: Sequence[Reader],
    log: Sequence[str],
    found: Sequence[dict[str, Any]],
    *,
    is_synchronous: bool,
) -> bool:
    """Print the figures; return whether every promise was kept."""
    recorded = {str(number) for number in load.acknowledged.values()}
    lost = recorded - {number_of(event) for event in found}
    doubled = [number for number, times in Counter(map(number_of, found)).items() if times > 1]
    wrong = sum(reader.seen != list(log) for reader in readers)
    print(f"acknowledged   {len(load.acknowledged)}, with {load.retries} retries")
    print(f"lost           {len(lost)}")
    print(f"doubled        {len(doubled)}")
    print(f"longest pause  {load.longest_pause():.1f} s")
    print(f"readers        {len(readers)}, connected {sum(r.connections for r in readers)} times")
    print(f"gaps           {sum(reader.gaps for reader in readers)}")
    print(f"saw other than the log  {wrong}")
    if is_synchronous:
        return not (lost or doubled or wrong or any(reader.gaps for reader in readers))
    return not (doubled or wrong) and (not lost or all(reader.gaps for reader in readers))


def number_of(event: dict[str, Any]) -> str:
    """The number that the writer gave to an event."""
    return str(event["producerid"])


async def run(*, is_synchronous: bool, is_node: bool) -> bool:
    async with running(is_synchronous=is_synchronous) as cluster:
        return await measure(cluster, is_node=is_node, is_synchronous=is_synchronous)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument(
        "--asynchronous", action="store_true", help="promote a standby that lacks the newest events"
    )
    parser.add_argument("--node", action="store_true", help="kill an API process, too")
    chosen = parser.parse_args()
    try:
        kept = asyncio.run(run(is_synchronous=not chosen.asynchronous, is_node=chosen.node))
    except ClusterFailed as error:
        sys.exit(f"cluster: {error}")
    sys.exit(0 if kept else "failover: a promise was broken")


if __name__ == "__main__":
    main()
