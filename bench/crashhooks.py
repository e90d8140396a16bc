"""Kill the server repeatedly while it delivers, and check that every event arrives.

Each round starts the server on the same store, records events, and kills it with SIGKILL after
some of their deliveries. A ``strict`` and a ``per_deployment`` subscription receive all events. At
the end it must be true that

* every acknowledged event arrived at both, under its own ``webhook-id``;
* first deliveries arrived in log order, for ``per_deployment`` within each deployment;
* a repeated delivery had the same id.
"""

import argparse
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop

from bench import servers
from bench.http1 import HOST, Client, get
from bench.samples import Deployment, batch_request, open_deployment, resource_event
from bench.sink import Arrivals
from bench.webhooks import act, arrivals, caught_up, head_of, subscribe

_DEPLOYMENTS = 16
_BATCH = 250
_CASES = ("strict", "per_deployment")


class _Receipt(msgspec.Struct):
    id: str


class _Receipts(msgspec.Struct):
    events: list[_Receipt]


class Sent(msgspec.Struct, frozen=True):
    """An acknowledged event, and its deployment."""

    id: str
    deployment: str


class Findings(msgspec.Struct):
    """The faults of the deliveries."""

    lost: int = 0
    disordered: int = 0
    #: No fault, but worth knowing.
    repeated: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.disordered)


class Producer:
    """Records events, and stores the acknowledged ones."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._deployments: list[Deployment] = []
        self._number = 0

    async def record(self, client: Client, events: int) -> None:
        """Record ``events`` events, in one deployment after another."""
        while len(self._deployments) < _DEPLOYMENTS:
            stack = f"stack-{len(self._deployments)}"
            self._deployments.append(await open_deployment(client, "bench", stack))
        for _ in range(events // _BATCH):
            self._number += 1
            deployment = self._deployments[self._number % _DEPLOYMENTS]
            numbers = range(self._number * _BATCH, (self._number + 1) * _BATCH)
            batch = [resource_event(deployment, number) for number in numbers]
            answer = await client.expect(201, batch_request(deployment, batch))
            receipts = msgspec.json.decode(answer, type=_Receipts).events
            self.sent += [Sent(receipt.id, deployment.id) for receipt in receipts]


def examine(sent: list[Sent], arrived: Arrivals) -> Findings:
    """Compare the acknowledged events with the arrivals."""
    found = Findings()
    lane_of = {each.id: each.deployment for each in sent}
    for case in _CASES:
        ids = [id for id, _ in arrived.get(f"/ok/{case}", ())]
        first = [id for id in dict.fromkeys(ids) if id in lane_of]
        found.lost += len(lane_of.keys() - set(first))
        found.repeated += len(ids) - len(set(ids))
        lanes = [first] if case == "strict" else _by_lane(first, lane_of)
        found.disordered += sum(list(lane) != sorted(lane) for lane in lanes)
    return found


def _by_lane(ids: Iterable[str], lane_of: dict[str, str]) -> Iterable[list[str]]:
    lanes: dict[str, list[str]] = {}
    for id in ids:
        lanes.setdefault(lane_of[id], []).append(id)
    return lanes.values()


async def _run(rounds: int, deliveries: int, seed: int) -> Findings:
    choice, producer = random.Random(seed), Producer()
    with TemporaryDirectory(prefix="crash-bench-") as name:
        async with servers.sink() as sink:
            ids = await _subscribe(Path(name), sink.port)
            receiver = await Client.open(sink.port)
            for number in range(1, rounds + 1):
                share = choice.uniform(0.05, 0.95)
                done = await _round(Path(name), producer, receiver, deliveries, share)
                print(f"round {number}: killed after {done} of {deliveries} deliveries", flush=True)
            async with servers.deploylog(Path(name), delivers=True) as server:
                client = await Client.open(server.port)
                await caught_up(client, ids, await head_of(client))
            return examine(producer.sent, await arrivals(receiver))


async def _subscribe(directory: Path, sink: int) -> list[str]:
    async with servers.deploylog(directory, delivers=True) as server:
        client = await Client.open(server.port)
        ids = [await subscribe(client, f"http://{HOST}:{sink}/ok/{case}", case) for case in _CASES]
        for id in ids:
            await act(client, id, "resume")
        return ids


async def _round(
    directory: Path, producer: Producer, receiver: Client, deliveries: int, share: float
) -> int:
    """Record, wait for a share of the deliveries, and kill; return the number of deliveries."""
    async with servers.deploylog(directory, delivers=True) as server:
        before = await _count(receiver)
        await producer.record(await Client.open(server.port), deliveries // len(_CASES))
        count = before
        while count < before + share * deliveries:
            count = await _count(receiver)
        server.kill()
        return count - before


async def _count(receiver: Client) -> int:
    return int(await receiver.expect(200, get("/count")))


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--deliveries", type=int, default=5_000, help="in each round")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = uvloop.run(_run(arguments.rounds, arguments.deliveries, arguments.seed))
    print(f"lost {found.lost}, out of order {found.disordered}, sent again {found.repeated}")
    sys.exit(0 if found.is_clean else 1)


if __name__ == "__main__":
    main()
