"""Move a store to PostgreSQL while readers hold cursors and a subscription has a backlog.

The store is that of ``bench.filled``. The service runs on it: streams stop half-way, each at
another place; pages are turned to different depths; a subscription delivers to an endpoint that
refuses, and producers go on. ``deploylog copy`` copies beside it, and once more when the service is
stopped. Then the service runs on the copy. Each stream must go on after the id it has, each page
after its cursor, and the endpoint must get the whole backlog, in order and once; what a producer
sends again must get its first answer.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from bench import filled, servers
from bench.http1 import HOST, Client, get, post
from bench.samples import NDJSON

from faults.database import database
from faults.suite import Outcome, Suite, Trial

_EVENTS = "/log/v1/events"
_SUBSCRIPTIONS = "/log/v1/subscriptions"

#: Events of a page, and events that a stream must have read on after the move.
_PAGE, _READ_ON = 500, 5_000

#: What the subscription is about, events of a request, and seconds between two requests.
_LATE, _BATCH, _PACE_SECONDS = "late", 20, 0.2

#: Seconds for the endpoint to get its backlog.
_DELIVERY_SECONDS = 300


class _Found(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    events: list[_Found]
    next: str | None = None


async def run(trial: Trial) -> Outcome:
    """One move."""
    source = await asyncio.to_thread(_filled, trial["events"])
    with TemporaryDirectory(prefix="faults-moving-") as name, database() as server:
        folder = Path(name)
        shutil.copytree(source, folder, dirs_exist_ok=True)
        async with _endpoint() as endpoint:
            return await _Move(folder, server.url, endpoint, trial).run()


def _filled(events: int) -> Path:
    command = (sys.executable, "-m", "bench.filled", "--events", str(events))
    subprocess.run(command, check=True, env=servers.environment(), stdout=subprocess.DEVNULL)
    return filled.directory_of(events)


class _Endpoint:
    """The receiver of deliveries: refuses, until it is told not to."""

    def __init__(self) -> None:
        self.refuses = True
        self.refused = 0
        #: The ids of the deliveries, in order.
        self.ids: list[str] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        if self.refuses:
            self.refused += 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        self.ids.append(request.headers["webhook-id"])
        return web.Response()


@asynccontextmanager
async def _endpoint() -> AsyncIterator[_Endpoint]:
    endpoint = _Endpoint()
    app = web.Application()
    app.router.add_post("/", endpoint.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    port = servers.free_port()
    await web.TCPSite(runner, HOST, port).start()
    endpoint.url = f"http://{HOST}:{port}/"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


class _Move:
    """A store in a folder, and the database that it moves to."""

    def __init__(self, folder: Path, target: str, endpoint: _Endpoint, trial: Trial) -> None:
        self._folder = folder
        self._source = filled.url_of(folder)
        self._target = target
        self._endpoint = endpoint
        self._trial = trial
        #: The requests of the producer, and what each one's answer was.
        self._requests: list[tuple[bytes, bytes]] = []
        self.figures: dict[str, float | int | str] = {}

    async def run(self) -> Outcome:
        async with self._serve(self._source) as port:
            subscription = await self._subscribe(port)
            streams = [await _stream(port, "", self._read_before(n)) for n in range(self._readers)]
            cursors = [await self._cursor(port, number) for number in range(self._readers)]
            producing = asyncio.create_task(self._produce(port))
            await self._copy("copied_beside_the_service_seconds")
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)
        stopped = time.monotonic()
        await self._copy("copied_again_seconds")
        found: list[str] = []
        async with self._serve(self._target) as port:
            self.figures["stopped_seconds"] = round(time.monotonic() - stopped, 1)
            found += await self._retries(port)
            log = await _log(port)
            found += await self._read_on(port, log, streams, cursors)
            found += await self._deliver(port, subscription)
        self.figures |= {
            "events": len(log),
            "streams": len(streams),
            "cursors": len(cursors),
            "refused_before": self._endpoint.refused,
            "delivered": len(self._endpoint.ids),
        }
        return Outcome(figures=self.figures, findings=found)

    @property
    def _readers(self) -> int:
        return self._trial["readers"]

    @asynccontextmanager
    async def _serve(self, store: str) -> AsyncIterator[int]:
        async with servers.deploylog(
            self._folder, store=store, delivers=True, program=self._trial.program
        ) as server:
            yield server.port

    def _read_before(self, number: int) -> int:
        """How many events a stream reads before the move: none, up to all but some."""
        return number * (self._trial["events"] - _READ_ON) // self._readers // 10

    async def _subscribe(self, port: int) -> str:
        body = {
            "name": "late", "kind": "webhook", "from": "start", "url": self._endpoint.url,
            "order": "strict", "filter": {"source": [_LATE]},
        }  # fmt: skip
        async with _session(port) as http, http.post(_SUBSCRIPTIONS, json=body) as answer:
            answer.raise_for_status()
            return str((await answer.json())["id"])

    async def _cursor(self, port: int, number: int) -> tuple[str, str]:
        """The last id of some page, and the cursor of what follows it."""
        client = await Client.open(port)
        order = f"{_EVENTS}?order=oldest&limit={_PAGE}"
        after = ""
        for _ in range(number + 1):
            body = await client.expect(200, get(f"{order}&after={after}" if after else order))
            page = msgspec.json.decode(body, type=_Page)
            after = page.next or ""
        client.close()
        return page.events[-1].id, after

    async def _produce(self, port: int) -> None:
        """Record events for the subscription, until cancelled."""
        client = await Client.open(port)
        for number in range(1_000_000):
            lines = [{"type": "a.b", "subject": f"{number}/{n}"} for n in range(_BATCH)]
            request = post(
                f"{_EVENTS}?source={_LATE}&scope=project/late",
                b"\n".join(map(msgspec.json.encode, lines)),
                NDJSON,
                {"Idempotency-Key": f"late-{number}"},
            )
            self._requests.append((request, await client.expect(201, request)))
            await asyncio.sleep(_PACE_SECONDS)

    async def _copy(self, figure: str) -> None:
        command = (sys.executable, "-m", "deploylog", "copy", self._source, self._target)
        start = time.monotonic()
        copying = await asyncio.create_subprocess_exec(
            *command, env=servers.environment(), stdout=asyncio.subprocess.DEVNULL
        )
        if await copying.wait():
            raise servers.Unavailable("the copy failed")
        self.figures[figure] = round(time.monotonic() - start, 1)

    async def _retries(self, port: int) -> list[str]:
        """Send what was acknowledged again."""
        client = await Client.open(port)
        changed = 0
        for request, answer in self._requests:
            changed += await client.expect(201, request) != answer
        client.close()
        return [f"{changed} requests sent again got another answer"] if changed else []

    async def _read_on(
        self,
        port: int,
        log: Sequence[str],
        streams: Sequence[Sequence[str]],
        cursors: Sequence[tuple[str, str]],
    ) -> list[str]:
        places = {id: place for place, id in enumerate(log)}
        found = []
        for seen in streams:
            start = places[seen[-1]] + 1 if seen else 0
            if list(seen) != list(log[:start]):
                found.append("a stream read something else before the move")
            after = await _stream(port, seen[-1] if seen else "", _READ_ON)
            if after != list(log[start : start + _READ_ON]):
                found.append(f"a stream did not go on after {start} events")
        client = await Client.open(port)
        for last, cursor in cursors:
            start = places[last] + 1
            query = f"{_EVENTS}?order=oldest&limit={_PAGE}&after={cursor}"
            page = msgspec.json.decode(await client.expect(200, get(query)), type=_Page)
            if [each.id for each in page.events] != list(log[start : start + _PAGE]):
                found.append(f"a page does not follow {start} events")
        client.close()
        return found

    async def _deliver(self, port: int, subscription: str) -> list[str]:
        """Accept deliveries, until all are recorded."""
        wanted = await _log(port, f"&source={_LATE}")
        self.figures["backlog"] = len(wanted)
        self._endpoint.refuses = False
        start = time.monotonic()
        async with _session(port) as http:
            # It may wait for a minute before it tries again what was refused.
            async with http.post(f"{_SUBSCRIPTIONS}/{subscription}/resume"):
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DELIVERY_SECONDS):
                    while await _is_behind(http, subscription):  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
        self.figures["delivered_seconds"] = round(time.monotonic() - start, 1)
        ids = self._endpoint.ids
        found = [] if ids == wanted else [f"{len(ids)} of {len(wanted)} were delivered"]
        if any(after <= before for before, after in pairwise(ids)):
            found.append("deliveries were repeated, or out of order")
        return found


async def _is_behind(http: aiohttp.ClientSession, subscription: str) -> bool:
    async with http.get(f"{_SUBSCRIPTIONS}/{subscription}") as answer:
        now: Any = await answer.json()
        return bool(now["lag"] or now["pending"])


async def _stream(port: int, last: str, number: int) -> list[str]:
    """Read so many events of a stream; their ids."""
    ids: list[str] = []
    headers = {"Last-Event-ID": last} if last else {}
    query = "" if last else "?from=start"
    async with (
        _session(port) as http,
        http.get(f"{_EVENTS}/stream{query}", headers=headers) as response,
    ):
        response.raise_for_status()
        while len(ids) < number:
            line = await response.content.readline()
            if line.startswith(b"event: ") and b"gap" in line:
                return ["gap"]
            if line.startswith(b"id: "):
                ids.append(line[4:].decode().strip())
    return ids


async def _log(port: int, more: str = "") -> list[str]:
    """The ids of all events, or of those of a source, oldest first."""
    client = await Client.open(port)
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        cursor = f"&after={after}" if after else ""
        query = f"{_EVENTS}?order=oldest&limit=1000{more}{cursor}"
        page = msgspec.json.decode(await client.expect(200, get(query)), type=_Page)
        ids += [each.id for each in page.events]
        after = page.next
    client.close()
    return ids


def _session(port: int) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(f"http://{HOST}:{port}", timeout=timeout, read_bufsize=1 << 20)


SUITE = Suite(
    name="moving",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("sqlite",),
    protections={"sqlite": ("keys",)},
    numbers={"events": 100_000, "readers": 20},
    proof={"events": 20_000},
)

if __name__ == "__main__":
    SUITE.main()
