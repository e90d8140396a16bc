"""How fast webhooks are delivered, signed and with every attempt recorded.

Each run delivers the same number of events to a receiver on this machine:

* ``per_deployment``: one subscription, with events of 64 deployments;
* ``strict``: 64 subscriptions, each in strict order.

The clock runs from the resumption of the subscriptions until the last attempt is on disk.
Every event must have arrived once. The peers, in the same run:

* ``aiohttp``: a bare loop of signed requests, 64 in flight, that records nothing;
* ``alertmanager``: Prometheus's notifier, one alert per group, until the last webhook arrives.

``isolation`` paces events to ten receivers, with and without two more subscriptions whose receivers
are dead and slow, and measures the latency at the ten.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import msgspec
import uvloop

from bench import servers
from bench.http1 import HOST, Client, UnexpectedAnswer, get, post
from bench.report import OURS, Report, percentile
from bench.samples import batch_request, open_deployment, resource_event
from bench.sink import Arrivals

_DEPLOYMENTS = 64
_IN_FLIGHT = 64
_BATCH = 500
_TIMEOUT_SECONDS = 180

_ALERTMANAGER = "prometheus-alertmanager"
_GROUPS = 2_000

_GOOD = 10
_PACE = 40


class _Subscribed(msgspec.Struct):
    id: str
    secret: str = ""


class _Standing(msgspec.Struct):
    id: str
    checkpoint: str
    pending: int


class _Newest(msgspec.Struct):
    position: str


class _Page(msgspec.Struct):
    events: list[_Newest]


async def subscribe(client: Client, url: str, order: str) -> str:
    """Subscribe to all events of the project, and pause; return the id."""
    body = {
        "name": f"bench {uuid4()}",
        "kind": "webhook",
        "url": url,
        "order": order,
        "scopes": ["project/bench"],
        "filter": {"type": ["resource.*"]},
        "from": "start",
    }
    request = post("/log/v1/subscriptions", json.dumps(body).encode(), "application/json")
    id = msgspec.json.decode(await client.expect(201, request), type=_Subscribed).id
    await act(client, id, "pause")
    return id


async def act(client: Client, id: str, action: str) -> None:
    """Pause or resume a subscription."""
    await client.expect(200, post(f"/log/v1/subscriptions/{id}/{action}", b"", "application/json"))


async def record(client: Client, events: int) -> None:
    """Record ``events`` events, spread over the deployments."""
    deployments = [
        await open_deployment(client, "bench", f"stack-{n}") for n in range(_DEPLOYMENTS)
    ]
    each = events // _DEPLOYMENTS
    for deployment in deployments:
        for start in range(0, each, _BATCH):
            numbers = range(start, min(start + _BATCH, each))
            batch = [resource_event(deployment, number) for number in numbers]
            await client.expect(201, batch_request(deployment, batch))


async def head_of(client: Client) -> int:
    """The newest position."""
    body = await client.expect(200, get("/log/v1/events?limit=1"))
    return int(msgspec.json.decode(body, type=_Page).events[0].position)


async def caught_up(client: Client, ids: Iterable[str], head: int) -> None:
    """Wait until every event up to ``head`` is delivered and its attempt recorded."""
    for id in ids:
        while True:
            answer = await client.expect(200, get(f"/log/v1/subscriptions/{id}"))
            standing = msgspec.json.decode(answer, type=_Standing)
            if int(standing.checkpoint) >= head and standing.pending == 0:
                break
            await asyncio.sleep(0.05)


async def arrivals(client: Client) -> Arrivals:
    """Return the requests that the receiver got."""
    return msgspec.json.decode(await client.expect(200, get("/arrivals")), type=Arrivals)


async def measure(report: Report, case: str, run: int, events: int, peer: float) -> None:
    """Measure Deploylog once; ``peer`` is the rate of the bare loop in the same run."""
    async with servers.sink() as sink, servers.deploylog(delivers=True) as server:
        client = await Client.open(server.port)
        number = 1 if case == "per_deployment" else _DEPLOYMENTS
        each = events // number // _DEPLOYMENTS * _DEPLOYMENTS
        urls = [f"http://{HOST}:{sink.port}/ok/{n}" for n in range(number)]
        ids = [await subscribe(client, url, case) for url in urls]
        await record(client, each)
        head = await head_of(client)
        start = time.perf_counter()
        for id in ids:
            await act(client, id, "resume")
        await caught_up(client, ids, head)
        rate = each * number / (time.perf_counter() - start)
        _check(await arrivals(await Client.open(sink.port)), number, each)
        report.add(case, OURS, run, rate=rate)
        report.add(case, "aiohttp", run, rate=peer)


def _check(arrived: Arrivals, subscriptions: int, each: int) -> None:
    if len(arrived) != subscriptions:
        raise UnexpectedAnswer(f"{len(arrived)} of {subscriptions} receivers got something")
    for path, requests in arrived.items():
        ids = [id for id, _ in requests]
        if len(ids) != each or len(set(ids)) != each:
            raise UnexpectedAnswer(f"{path} got {len(ids)} requests, {len(set(ids))} events")


async def bare_rate(number: int) -> float:
    """Return the rate of the bare loop, in requests per second."""
    async with servers.sink() as sink:
        url = f"http://{HOST}:{sink.port}/ok/bare"
        command = (sys.executable, "-m", "bench.barehooks", str(number), str(_IN_FLIGHT), url)
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=True, cwd=servers.ROOT
        )
        return float(done.stdout)


# Alertmanager


async def alertmanager_rate() -> float:
    """Return the webhooks per second of Alertmanager, with one alert per group."""
    async with servers.sink() as sink, _alertmanager(sink.port) as port:
        client, receiver = await Client.open(port), await Client.open(sink.port)
        alerts = [
            {"labels": {"alertname": f"alert-{number}"}, "annotations": {"message": "x" * 300}}
            for number in range(_GROUPS)
        ]
        start = time.perf_counter()
        for first in range(0, _GROUPS, 100):
            body = json.dumps(alerts[first : first + 100]).encode()
            await client.expect(200, post("/api/v2/alerts", body, "application/json"))
        arrived = 0
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while arrived < _GROUPS:
                arrived = len((await arrivals(receiver)).get("/ok/alerts", ()))
        return _GROUPS / (time.perf_counter() - start)


@asynccontextmanager
async def _alertmanager(sink: int) -> AsyncIterator[int]:
    program = shutil.which(_ALERTMANAGER)
    if program is None:
        raise servers.Unavailable(f"Alertmanager is not installed: install {_ALERTMANAGER}")
    with TemporaryDirectory(prefix="alertmanager-bench-") as name:
        directory, port = Path(name), servers.free_port()
        hooks = [{"url": f"http://{HOST}:{sink}/ok/alerts", "send_resolved": False}]
        route = {
            "receiver": "sink",
            "group_by": ["alertname"],
            "group_wait": "0s",
            "group_interval": "1h",
            "repeat_interval": "1h",
        }
        receivers = [{"name": "sink", "webhook_configs": hooks}]
        # JSON is YAML.
        config = directory / "alertmanager.yml"
        config.write_text(json.dumps({"route": route, "receivers": receivers}))
        command = (
            program,
            f"--config.file={config}",
            f"--storage.path={directory / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",
            "--log.level=error",
        )
        async with servers.running(command, directory, port, path="/-/ready"):
            yield port


# Isolation


async def latencies(seconds: int, *, bad: bool) -> list[float]:
    """Return the latencies at ten good receivers, in seconds, ascending."""
    async with servers.sink() as sink, servers.deploylog(delivers=True) as server:
        client = await Client.open(server.port)
        urls = [f"http://{HOST}:{sink.port}/ok/{n}" for n in range(_GOOD)]
        if bad:
            urls += [
                f"http://{HOST}:{servers.free_port()}/dead",
                f"http://{HOST}:{sink.port}/slow/1",
            ]
        ids = [await subscribe(client, url, "strict") for url in urls]
        deployment = await open_deployment(client, "bench", "paced")
        for id in ids:
            await act(client, id, "resume")
        sent = await _paced(client, deployment, seconds * _PACE)
        await caught_up(client, ids[:_GOOD], await head_of(client))
        arrived = await arrivals(await Client.open(sink.port))
        return sorted(
            at - sent[id]
            for path, requests in arrived.items()
            if path.startswith("/ok/")
            for id, at in requests
        )


async def _paced(client: Client, deployment: object, number: int) -> dict[str, float]:
    """Record events at a constant pace; return when each was sent, by id."""
    sent, start = {}, time.time()
    for each in range(number):
        await asyncio.sleep(max(start + each / _PACE - time.time(), 0))
        now = time.time()
        request = batch_request(deployment, [resource_event(deployment, each)])  # type: ignore[arg-type]
        answer = json.loads(await client.expect(201, request))
        sent[answer["events"][0]["id"]] = now
    return sent


async def measure_isolation(report: Report, run: int, seconds: int) -> None:
    """Measure once with bad receivers and once without, in alternating order."""
    for bad in (run % 2 == 0, run % 2 != 0):
        late = await latencies(seconds, bad=bad)
        subject = OURS if bad else "ten good alone"
        figures = {"p50_ms": percentile(late, 0.5) * 1000, "p99_ms": percentile(late, 0.99) * 1000}
        report.add("isolation", subject, run, **figures)


async def _run(arguments: argparse.Namespace) -> None:
    report = Report("webhooks")
    for run in range(arguments.runs):
        peer = await bare_rate(arguments.events)
        for case in ("per_deployment", "strict"):
            if case in arguments.cases:
                await measure(report, case, run, arguments.events, peer)
                if "alertmanager" in arguments.cases:
                    report.add(case, "alertmanager", run, rate=await alertmanager_rate())
        if "isolation" in arguments.cases:
            await measure_isolation(report, run, arguments.seconds)
    report.print_table()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=19_200, help="deliveries a run")
    parser.add_argument("--seconds", type=int, default=15, help="of pacing, for isolation")
    cases = ("per_deployment", "strict", "alertmanager", "isolation")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    try:
        uvloop.run(_run(parser.parse_args()))
    except servers.Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
