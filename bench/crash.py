"""Kill the server repeatedly while it records, and look for lost, doubled and torn batches.

Each round starts the server on the same store, checks the whole log, lets eight writers post
batches, and kills the server with SIGKILL at a random moment. In the next round each writer sends
its last acknowledged batch again, with the same producer ids, and must get the same answer; so it
does with the batch that was not acknowledged. Of the log it must be true that

* it has every acknowledged event once, with the id and the position of the response;
* it has no event twice, acknowledged or not;
* it has every batch completely or not at all;
* positions and ids rise, and the events of a writer are in the order in which it sent them.

This shows that events are committed before they are acknowledged, that a request is one
transaction, that the store recovers by itself, and that retries are recognized. It does not show
that a commit survives a power failure: the system still writes the pages of a killed process to
disk. That depends on fsync, which SIGKILL cannot test.
"""

import argparse
import asyncio
import contextlib
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import uvloop

from bench import servers
from bench.http1 import Client, get, post
from bench.samples import NDJSON

_WRITERS = 8
_LARGEST_BATCH = 50
_LIFETIME_SECONDS = (0.3, 1.5)
_PAGE = 1_000
_SCOPE = "project/crash"


#: By what the service knows a batch that is sent again.
KnownBy = Literal["ids", "key", "nothing"]


class Receipt(msgspec.Struct, frozen=True):
    """The server's receipt of an event."""

    id: str
    position: str


class _Receipts(msgspec.Struct):
    events: list[Receipt]


class Place(msgspec.Struct, frozen=True):
    """The place of an event in a batch of a writer: the ``data`` of every event."""

    writer: int
    batch: int
    index: int
    size: int

    @property
    def producer_id(self) -> str:
        return f"{self.writer}/{self.batch}/{self.index}"


class Recorded(msgspec.Struct, frozen=True):
    """An event as the log has it."""

    id: str
    position: str
    data: Place


class _Page(msgspec.Struct):
    events: list[Recorded]
    next: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """The events of one request."""

    places: tuple[Place, ...]
    known_by: KnownBy = "ids"

    @property
    def request(self) -> bytes:
        body = b"\n".join(map(msgspec.json.encode, map(self._event, self.places)))
        headers = {"Idempotency-Key": self.places[0].producer_id} if self.known_by == "key" else {}
        return post(f"/log/v1/events?source=crash&scope={_SCOPE}", body, NDJSON, headers)

    def _event(self, place: Place) -> dict[str, object]:
        event: dict[str, object] = {"type": "crash.test", "data": place}
        return {"id": place.producer_id} | event if self.known_by == "ids" else event


class Writer:
    """Posts one batch after another, and stores the receipts."""

    def __init__(
        self,
        number: int,
        choice: random.Random,
        *,
        largest: int = _LARGEST_BATCH,
        known_by: KnownBy = "ids",
        pause: float = 0,
    ) -> None:
        """Rest for ``pause`` seconds after each batch."""
        self._number = number
        self._pause = pause
        self.known_by = known_by
        self._largest = largest
        self._choice = choice
        self._batches = 0
        self.receipts: dict[str, Receipt] = {}
        #: The batch that was sent and not acknowledged, and the last one that was.
        self.pending: Batch | None = None
        self._acknowledged: Batch | None = None
        #: Events whose retry got another answer than the first one.
        self.changed = 0

    async def write(self, port: int) -> None:
        """Write until the server is killed."""
        with contextlib.suppress(ConnectionError):
            client = await Client.open(port)
            await self._repeat(client)
            while True:
                await self.write_batch(client)
                await asyncio.sleep(self._pause)

    async def write_batch(self, client: Client) -> None:
        """Send the pending batch, or else a new one."""
        batch = self.pending = self.pending or self._next_batch()
        self.receipts |= await self._send(client, batch)
        self.pending, self._acknowledged = None, batch

    async def _repeat(self, client: Client) -> None:
        """Send the last acknowledged batch again, as a client does that lost the answer."""
        if self._acknowledged is not None:
            again = await self._send(client, self._acknowledged)
            self.changed += sum(self.receipts[id] != receipt for id, receipt in again.items())

    @staticmethod
    async def _send(client: Client, batch: Batch) -> dict[str, Receipt]:
        body = await client.expect(201, batch.request)
        receipts = msgspec.json.decode(body, type=_Receipts).events
        ids = [place.producer_id for place in batch.places]
        return dict(zip(ids, receipts, strict=True))

    def _next_batch(self) -> Batch:
        self._batches += 1
        size = self._choice.randint(1, self._largest)
        places = tuple(Place(self._number, self._batches, n, size) for n in range(size))
        return Batch(places, self.known_by)


class Findings(msgspec.Struct):
    """The faults of the log."""

    lost: int = 0
    #: Acknowledged again, with another id or position.
    changed: int = 0
    doubled: int = 0
    torn: int = 0
    disordered: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.changed or self.doubled or self.torn or self.disordered)


def examine(log: list[Recorded], writers: list[Writer]) -> Findings:
    """Compare the log with the receipts of the writers."""
    return Findings(
        lost=_lost(log, writers),
        changed=sum(writer.changed for writer in writers),
        doubled=sum(times - 1 for times in Counter(each.data for each in log).values()),
        torn=_torn(log),
        disordered=sum(_disordered(log)),
    )


def _lost(log: list[Recorded], writers: list[Writer]) -> int:
    """Count acknowledged events that the log does not have as acknowledged."""
    found = {(each.data.producer_id, each.id, each.position) for each in log}
    return sum(
        (producer_id, receipt.id, receipt.position) not in found
        for writer in writers
        for producer_id, receipt in writer.receipts.items()
    )


def _torn(log: list[Recorded]) -> int:
    """Count batches of which a part is missing."""
    places = {each.data for each in log}
    found = Counter((place.writer, place.batch, place.size) for place in places)
    return sum(count != size for (_, _, size), count in found.items())


def _disordered(log: list[Recorded]) -> Iterator[bool]:
    for before, after in pairwise(log):
        yield int(before.position) >= int(after.position) or before.id >= after.id
    newest: dict[int, tuple[int, int]] = {}
    for place in (each.data for each in log):
        yield newest.get(place.writer, (0, 0)) >= (place.batch, place.index)
        newest[place.writer] = (place.batch, place.index)


async def read_log(port: int) -> list[Recorded]:
    """Read the whole log, oldest first."""
    client = await Client.open(port)
    log: list[Recorded] = []
    path = f"/log/v1/events?scope={_SCOPE}&order=oldest&limit={_PAGE}"
    after: str | None = ""
    while after is not None:
        body = await client.expect(200, get(f"{path}&after={after}" if after else path))
        page = msgspec.json.decode(body, type=_Page)
        log += page.events
        after = page.next
    client.close()
    return log


class Trial:
    """All rounds on one store."""

    def __init__(
        self,
        directory: Path,
        choice: random.Random,
        *,
        writers: int = _WRITERS,
        largest: int = _LARGEST_BATCH,
        keyed: int = 0,
        pause: float = 0,
        serve: Callable[[], AbstractAsyncContextManager[servers.Server]] | None = None,
    ) -> None:
        """``largest`` is the maximum number of events in a batch; ``keyed`` of the writers send
        keys of requests and no ids, and all rest for ``pause`` seconds after each batch. ``serve``
        runs the service, on a file in ``directory`` if it is not given.
        """
        self._serve = serve or partial(servers.deploylog, directory)
        self._choice = choice
        self._writers = [
            Writer(
                number,
                choice,
                largest=largest,
                known_by="key" if number < keyed else "ids",
                pause=pause,
            )
            for number in range(writers)
        ]
        #: Batches sent again after a crash, and how many of them were recorded before it.
        self.retried = 0
        self.recognized = 0

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged events."""
        return sum(len(writer.receipts) for writer in self._writers)

    async def crash(
        self,
        disturb: Callable[[], Awaitable[None]] | None = None,
        *,
        beside: Callable[[int], Iterable[Coroutine[Any, Any, None]]] = lambda port: (),
    ) -> Findings:
        """Start, check the log, write, and kill.

        Await ``disturb`` before, during and after the writing, if it is given. What ``beside``
        gives for a port runs beside the writers, and ends when the server is gone.
        """
        async with self._serve() as server:
            findings = await self._examine(server.port)
            if disturb:
                await disturb()
            tasks = [*(each.write(server.port) for each in self._writers), *beside(server.port)]
            writing = [asyncio.create_task(each) for each in tasks]
            if disturb:
                await disturb()
                await disturb()
            else:
                await asyncio.sleep(self._choice.uniform(*_LIFETIME_SECONDS))
            server.kill()
            await asyncio.gather(*writing)
        return findings

    async def settle(self) -> Findings:
        """Send the batches that were pending at the last crash, and check the log again."""
        async with self._serve() as server:
            findings = await self._examine(server.port)
            client = await Client.open(server.port)
            for writer in self._writers:
                if writer.pending:
                    await writer.write_batch(client)
            client.close()
            return findings if not findings.is_clean else await self._examine(server.port)

    async def _examine(self, port: int) -> Findings:
        log = await read_log(port)
        recorded = {each.data.producer_id for each in log}
        retries = [writer.pending for writer in self._writers if writer.pending]
        self.retried += len(retries)
        self.recognized += sum(batch.places[0].producer_id in recorded for batch in retries)
        return examine(log, self._writers)


def check_file(store: Path) -> str:
    """Return the result of SQLite's integrity check: ``ok``."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        [result] = connection.execute("PRAGMA integrity_check").fetchone()
    return str(result)


async def run(directory: Path, rounds: int, seed: int) -> bool:
    """Run the trial; return whether it found no fault."""
    trial = Trial(directory, random.Random(seed))
    for number in range(1, rounds + 1):
        findings = await trial.crash()
        if not findings.is_clean:
            print(f"crash: found in round {number}, seed {seed}: {findings}")
            return False
        print(f"crash: round {number}, {trial.acknowledged} acknowledged events", flush=True)
    findings = await trial.settle()
    integrity = check_file(directory / "deploylog.db")
    print(
        f"crash: {rounds} rounds, {trial.acknowledged} acknowledged events, {findings.lost} lost,"
        f" {findings.doubled} doubled, {findings.torn} torn, {findings.disordered} out of order"
    )
    print(
        f"crash: {trial.retried} batches sent again, {trial.recognized} of them already recorded;"
        f" integrity check: {integrity}; seed {seed}"
    )
    return findings.is_clean and integrity == "ok"


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="crash-test-") as directory:
        try:
            is_clean = uvloop.run(run(Path(directory), arguments.rounds, arguments.seed))
        except servers.Unavailable as error:
            sys.exit(str(error))
    sys.exit(not is_clean)


if __name__ == "__main__":
    main()
