"""Cut the network of a cluster, in namespaces, and look for what is lost, doubled or split.

Each part of the cluster has a machine of its own. Writers post to three API processes in turn, with
a key each, until each event is acknowledged; readers follow streams. The cuts, one after another:
``primary`` parts the API processes from the primary; ``etcd`` parts the primary from etcd, which
must make it step down; ``island`` leaves the primary and one API process on an island, without etcd
and the standby: there nothing may be acknowledged. Each cut is healed, and the cluster must become
whole by itself. Of the log, each acknowledged event is there once, and each reader saw all of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aiohttp
import psycopg
from bench.servers import Unavailable
from demo.cluster import PARTS, Cluster, Node, running
from demo.failover import Load, Reader, catch_up, log_of, number_of
from demo.machine import ClusterFailed, until

from faults.network import Network, network
from faults.suite import Outcome, Suite, Trial

_WRITERS, _READERS = 6, 6

#: Seconds of load before each cut, after a cut that nothing ends by itself, and after each.
_BEFORE, _CUT, _AFTER = 4, 18, 4

#: Seconds for which a cluster may take to have another primary, and to become whole.
_PATIENCE = 90

#: Seconds between two looks at which nodes are primaries.
_LOOK_SECONDS = 0.1

#: Seconds after a cut in which an answer that was on its way may arrive.
_GRACE = 0.5

_APIS = ("api1", "api2", "api3")


async def run(trial: Trial) -> Outcome:
    """All cuts of one cluster."""
    with network(PARTS) as net:
        try:
            async with running(
                is_synchronous=trial.without is None, machines=net.machines
            ) as cluster:
                return await _try(cluster, net)
        except ClusterFailed as error:
            raise Unavailable(str(error)) from error


async def _try(cluster: Cluster, net: Network) -> Outcome:
    timeout = aiohttp.ClientTimeout(total=20, sock_connect=2)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, headers=cluster.headers
    ) as http:
        load = Load(cluster, http, writers=_WRITERS)
        readers = [Reader(load, number) for number in range(_READERS)]
        following = [asyncio.create_task(reader.follow()) for reader in readers]
        writing = [asyncio.create_task(load.write(number)) for number in range(_WRITERS)]
        cuts = _Cuts(cluster, net, load)
        async with _looking_for_two_primaries(cluster) as looks:
            await cuts.from_primary()
            await cuts.from_etcd()
            await cuts.island()
        load.ended = True
        await asyncio.wait(writing)
        log = await log_of(load, cluster.urls[1])
        await catch_up(readers, [event["id"] for event in log])
        for task in following:
            task.cancel()
    return Outcome(
        figures={
            "acknowledged": len(load.acknowledged),
            "sent_again": load.retries,
            **cuts.figures,
            "streams_connected": sum(reader.connections for reader in readers),
            "looks_that_found_two_primaries": looks[2],
        },
        findings=cuts.found + _faults(load, readers, [(e["id"], number_of(e)) for e in log]),
    )


class _Cuts:
    """The cuts, and what became of the load during each."""

    def __init__(self, cluster: Cluster, net: Network, load: Load) -> None:
        self._cluster = cluster
        self._net = net
        self._load = load
        self.figures: dict[str, float | int | str] = {}
        self.found: list[str] = []

    async def from_primary(self) -> None:
        """Part the API processes from the primary, which stays the primary."""
        primary = await self._cluster.primary()
        async with self._cut("primary", _APIS, [primary.name]):
            await asyncio.sleep(_CUT)

    async def from_etcd(self) -> None:
        """Part the primary from etcd: it must step down, and the other take over."""
        primary = await self._cluster.primary()
        async with self._cut("etcd", ["etcd"], [primary.name]):
            await until(lambda: self._is_replaced(primary), "another primary", _PATIENCE)
            await asyncio.sleep(_AFTER)

    async def island(self) -> None:
        """Leave the primary and one API process alone with each other."""
        primary = await self._cluster.primary()
        island = [primary.name, "api1"]
        rest = [name for name in PARTS if name not in island]
        async with self._cut("island", island, rest):
            since = time.monotonic() + _GRACE
            await until(lambda: self._is_replaced(primary), "another primary", _PATIENCE)
            await asyncio.sleep(_AFTER)
            wrong = self._acknowledged_by(self._cluster.urls[0], since)
        if wrong:
            self.found.append(f"island: {wrong} events were acknowledged there")

    @asynccontextmanager
    async def _cut(
        self, name: str, some: Sequence[str], others: Sequence[str]
    ) -> AsyncIterator[None]:
        """Cut, heal, and wait until the cluster is whole and records."""
        await asyncio.sleep(_BEFORE)
        start = time.monotonic()
        self._net.cut(some, others)
        try:
            yield
        finally:
            healed = time.monotonic()
            during = sum(self._acknowledged_by(url, start) for url in self._cluster.urls)
            self._net.heal(some, others)
        await until(lambda: self._records_since(healed), "events to be recorded again")
        again = time.monotonic()
        await until(self._cluster.is_whole, "a whole cluster", _PATIENCE)
        self.figures |= {
            f"{name}_seconds": round(healed - start, 1),
            f"{name}_acknowledged_meanwhile": during,
            f"{name}_records_after_seconds": round(again - healed, 1),
            f"{name}_whole_after_seconds": round(time.monotonic() - healed, 1),
            f"{name}_longest_pause": round(self._load.longest_pause(start), 1),
        }
        await asyncio.sleep(_AFTER)

    def _acknowledged_by(self, url: str, since: float) -> int:
        return sum(moment >= since and each == url for moment, each in self._load.times)

    async def _is_replaced(self, primary: Node) -> bool:
        with suppress(ClusterFailed, ValueError):
            # The one that was cut says what it knew: ask the other.
            other = next(node for node in self._cluster.nodes if node is not primary)
            return bool(await _is_primary(other))
        return False

    async def _records_since(self, moment: float) -> bool:
        return any(each >= moment for each, _ in self._load.times)


@asynccontextmanager
async def _looking_for_two_primaries(cluster: Cluster) -> AsyncIterator[Counter[int]]:
    """Count, inside the block, how often so many nodes took writes at once."""
    looks: Counter[int] = Counter()

    async def look() -> None:
        while True:
            found = await asyncio.gather(*map(_is_primary, cluster.nodes))
            looks[sum(map(bool, found))] += 1
            await asyncio.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield looks
    finally:
        looking.cancel()


async def _is_primary(node: Node) -> bool | None:
    """Whether a node takes writes; ``None`` if it does not answer."""
    url = f"postgresql://postgres@{node.host}/postgres?connect_timeout=2"
    with suppress(psycopg.Error):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute("SELECT NOT pg_is_in_recovery()")
            row = await cursor.fetchone()
            return bool(row and row[0])
    return None


def _faults(load: Load, readers: Sequence[Reader], log: Sequence[tuple[str, str]]) -> list[str]:
    recorded = Counter(number for _, number in log)
    lost = {str(number) for number in load.acknowledged.values()} - recorded.keys()
    doubled = sum(times > 1 for times in recorded.values())
    ids = [id for id, _ in log]
    wrong = sum(reader.seen != ids for reader in readers)
    gaps = sum(reader.gaps for reader in readers)
    faults = {
        "acknowledged events are lost": len(lost),
        "events are recorded twice": doubled,
        "readers saw other than the log": wrong,
        "times a reader was told of a gap": gaps,
    }
    return [f"{number} {what}" for what, number in faults.items() if number]


SUITE = Suite(
    name="partition",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("postgresql",),
    protections={"postgresql": ("standby",)},
)

if __name__ == "__main__":
    SUITE.main()
