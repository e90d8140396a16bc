"""Kill the primary of a cluster under clients that others wrote: what each of them sees.

Three API processes serve a cluster of two database nodes. Huawei Cloud's SDK, boto3 and
ParallelCluster's command line list the events of a deployment, again and again, while a producer
records them; boto3's waiter waits for its end. curl creates events of Escape and lists them.
Bluelink's requests stage a plan and follow it. Each turns to one process after the other. Whatever
a client lists must begin with what it has listed before, have all that was acknowledged before it
asked, nothing twice, and all in order.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from bench.servers import ROOT, Unavailable
from demo.cluster import Cluster, running
from demo.failover import kill_primary
from demo.machine import ClusterFailed

from faults.peers import (
    PROJECT,
    STACK,
    Bluelink,
    Boto3,
    Escape,
    HuaweiSdk,
    Lister,
    Pcluster,
    Saw,
)
from faults.suite import Outcome, Suite, Trial

#: A plan of Terraform's, and how many resources its stream has.
_PLAN, _RESOURCES = ROOT / "tests" / "samples" / "06-plan-show.json", 11

#: Seconds between two calls of a client, between two events, and for which a producer waits.
_CALL_SECONDS, _EVENT_SECONDS, _RECORD_SECONDS = 0.5, 0.2, 20

_LINES = {"Content-Type": "application/x-ndjson"}


async def run(trial: Trial) -> Outcome:
    """All clients on one cluster."""
    with TemporaryDirectory(prefix="faults-clients-") as name:
        folder = Path(name)
        plan = folder / "plans" / "plan.json"
        plan.parent.mkdir()
        plan.write_bytes(_PLAN.read_bytes())
        options = ("--plan-folders", str(plan.parent), "--bluelink-project", PROJECT)
        try:
            async with running(is_synchronous=trial.without is None, options=options) as cluster:
                return await _try(cluster, folder, plan, trial)
        except ClusterFailed as error:
            raise Unavailable(str(error)) from error


async def _try(cluster: Cluster, folder: Path, plan: Path, trial: Trial) -> Outcome:
    timeout = aiohttp.ClientTimeout(total=_RECORD_SECONDS, sock_connect=2)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        producer = _Producer(cluster, http)
        await producer.open()
        clients = _Clients(cluster, producer, folder, Bluelink(http, plan, _RESOURCES))
        calling = asyncio.create_task(clients.call())
        producing = asyncio.create_task(producer.produce())
        await asyncio.sleep(trial["seconds"] / 4)
        before = producer.acknowledged
        await kill_primary(cluster, is_node=False, is_behind=trial.without is not None)
        await asyncio.sleep(trial["seconds"] * 3 / 4)
        producer.is_done = True
        await producing
        await producer.complete()
        await calling
    figures: dict[str, float | int | str] = {
        "acknowledged_before_the_kill": before,
        "acknowledged": producer.acknowledged,
        "sent_again": producer.retries,
        "longest_pause_seconds": round(producer.longest, 1),
        "streams_resumed": clients.bluelink.resumed,
    }
    figures |= {name: _words(saw) for name, saw in clients.saw.items()}
    return Outcome(figures=figures, findings=clients.findings)


def _words(saw: Saw) -> str:
    failed = ", ".join(f"{number} times {what}" for what, number in saw.failed.items()) or "none"
    return (
        f"{saw.calls} calls, slowest {saw.slowest:.1f} s, retried {saw.retries} times by itself,"
        f" failed: {failed}"
    )


class _Producer:
    """Records the events of one deployment, each until it is acknowledged."""

    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession) -> None:
        self._urls = cluster.urls
        self._http = http
        self._deployment = ""
        self.is_done = False
        #: The number of the last event that was acknowledged.
        self.acknowledged = 0
        self.retries = 0
        #: The longest time for one event, in seconds.
        self.longest = 0.0

    async def open(self) -> None:
        body = {"project": PROJECT, "stack": STACK, "operation": "apply"}
        url = f"{self._urls[0]}/log/v1/deployments"
        async with self._http.post(url, json=body) as response:
            response.raise_for_status()
            self._deployment = (await response.json())["id"]

    async def produce(self) -> None:
        while not self.is_done:
            number = self.acknowledged + 1
            await self._record(
                {
                    "type": "resource.create.completed",
                    "subject": f"server.r{number}",
                    "message": f"number {number}",
                }
            )
            self.acknowledged = number
            await asyncio.sleep(_EVENT_SECONDS)

    async def complete(self) -> None:
        await self._record({"type": "deployment.completed", "message": "done"})

    async def _record(self, event: dict[str, Any]) -> None:
        headers = {**_LINES, "Idempotency-Key": f"{self._deployment}/{event['message']}"}
        loop = asyncio.get_running_loop()
        start = loop.time()
        for turn in count(self.acknowledged):
            url = self._urls[turn % len(self._urls)]
            path = f"{url}/log/v1/events?source=faults&deployment={self._deployment}"
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.post(
                    path, data=json.dumps(event), headers=headers
                ) as response:
                    if response.status == 201:
                        break
            self.retries += 1
            await asyncio.sleep(_EVENT_SECONDS)
        self.longest = max(self.longest, loop.time() - start)


class _Clients:
    """All clients, which call until the producer is done."""

    def __init__(
        self, cluster: Cluster, producer: _Producer, home: Path, bluelink: Bluelink
    ) -> None:
        self._urls = cluster.urls
        self._producer = producer
        self._listers: list[Lister] = [HuaweiSdk(home), Boto3(), Pcluster(home)]
        self._escape = Escape()
        self._waiting = Saw()
        self.bluelink = bluelink
        self._seen: dict[str, list[int]] = {}
        #: How many events of Escape were created.
        self._created = 0

    @property
    def saw(self) -> dict[str, Saw]:
        """What each client saw, by its name."""
        clients = (*self._listers, self._escape, self.bluelink)
        return {each.name: each.saw for each in clients} | {"a waiter": self._waiting}

    @property
    def findings(self) -> list[str]:
        found = [f"{name}: {fault}" for name, saw in self.saw.items() for fault in saw.faults]
        return found + [f"a waiter ended with {each}" for each in self._waiting.failed]

    async def call(self) -> None:
        """Call, and once more when everything is over."""
        waiter = asyncio.create_task(self._waiting.call(lambda: Boto3.wait(self._urls[0])))
        await asyncio.gather(
            *(self.list(lister) for lister in self._listers), self.escape(), self.stage()
        )
        await waiter
        for lister in self._listers:
            await self.list_once(lister, self._urls[1])
        await self.list_escape(self._urls[1])

    async def list(self, lister: Lister) -> None:
        for turn in count():
            if self._producer.is_done:
                return
            await self.list_once(lister, self._urls[turn % len(self._urls)])
            await asyncio.sleep(_CALL_SECONDS)

    async def list_once(self, lister: Lister, url: str) -> None:
        acknowledged = self._producer.acknowledged
        numbers = await lister.saw.call(lambda: lister.numbers(url))
        self._judge(lister.name, lister.saw, numbers, acknowledged)

    async def escape(self) -> None:
        """Create an event and list all, at one process after the other."""
        for turn in count():
            if self._producer.is_done:
                return
            url = self._urls[turn % len(self._urls)]
            await self._escape.saw.call(lambda url=url: self._create(url))  # type: ignore[misc]
            await self.list_escape(self._urls[(turn + 1) % len(self._urls)])
            await asyncio.sleep(_CALL_SECONDS)

    def _create(self, url: str) -> None:
        self._escape.create(url, self._created + 1)
        self._created += 1

    async def list_escape(self, url: str) -> None:
        created = self._created
        numbers = await self._escape.saw.call(lambda: self._escape.numbers(url))
        self._judge(self._escape.name, self._escape.saw, numbers, created)

    async def stage(self) -> None:
        for turn in count():
            if self._producer.is_done:
                return
            first = turn % len(self._urls)
            await self.bluelink.stage([*self._urls[first:], *self._urls[:first]])
            await asyncio.sleep(_CALL_SECONDS)

    def _judge(self, name: str, saw: Saw, numbers: Sequence[int] | None, acknowledged: int) -> None:
        if numbers is None:
            return
        before = self._seen.get(name, [])
        if list(numbers) != list(range(1, len(numbers) + 1)):
            saw.faults.append(f"a list is not complete and in order: {_break_of(numbers)}")
        if len(numbers) < acknowledged:
            saw.faults.append(f"a list lacks {acknowledged - len(numbers)} acknowledged events")
        if list(numbers[: len(before)]) != before:
            saw.faults.append("a list lacks what an earlier one had")
        self._seen[name] = list(numbers)


def _break_of(numbers: Sequence[int]) -> str:
    place = next(n for n, number in enumerate(numbers) if number != n + 1)
    return f"{numbers[place]} is at place {place + 1} of {len(numbers)}"


SUITE = Suite(
    name="clients",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("postgresql",),
    protections={"postgresql": ("standby",)},
    numbers={"seconds": 48},
)

if __name__ == "__main__":
    SUITE.main()
