"""Attacks on the server, each while a well-behaved client uses it.

Each attack runs for some seconds against a server of its own. In the meantime one client appends
and reads, another requests ``/healthz``, and a key with an open stream is revoked. ``make attack``
fails when the server dies, or when the well-behaved client gets an error or no response.
"""

import argparse
import asyncio
import re
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.attacks import ATTACKS, Attack, Target
from bench.http1 import HOST, Client
from bench.report import OURS, Report, percentile

#: The memory limit of the server, in bytes, so that a fault does not take down this machine.
_MAX_MEMORY = 6 << 30

#: Seconds without a response after which the well-behaved client has failed.
_TIMEOUT_SECONDS = 15.0

#: Seconds for all attacks together.
_ALL_SECONDS = 270.0

_PAUSE = 0.01

_FIGURES = (
    "append_p50_ms",
    "append_p99_ms",
    "append_max_ms",
    "read_p50_ms",
    "read_p99_ms",
    "healthz_max_ms",
    "revoke_s",
    "peak_mb",
)


class Watch:
    """The latencies of requests, and the first failure."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.failed = ""
        self.answered = 0

    async def ask(self, port: int, status: int, make: Callable[[], bytes]) -> None:
        """Send one request after the other until cancelled."""
        client: Client | None = None
        while True:
            start = time.perf_counter()
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    client = client or await Client.open(port)
                    await client.expect(status, make())
                self.answered += 1
            except Exception as error:
                self.failed = self.failed or f"{type(error).__name__}: {error}"
                client = None
            finally:
                # A request that is in flight at the end counts with the time so far.
                self.took.append(time.perf_counter() - start)
            await asyncio.sleep(_PAUSE)

    def milliseconds(self, share: float) -> float:
        """Return the latency that this share of the requests does not exceed."""
        return percentile(sorted(self.took), share) * 1000 if self.took else float("nan")


def add_key(directory: Path, name: str, grant: str) -> str:
    """Add a key to the store in this directory."""
    output = _deploylog(directory, "keys", "add", name, "--grant", grant)
    found = re.search(r"dlk_[0-9a-f]+_[0-9a-f]+", output)
    if found is None:
        raise servers.Unavailable(f"no key was added: {output}")
    return found[0]


def _deploylog(directory: Path, *arguments: str) -> str:
    store = f"sqlite:///{directory / 'deploylog.db'}"
    command = (sys.executable, "-m", "deploylog", *arguments, "--store", store)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    return done.stdout + done.stderr


class Victim:
    """A key with an open stream, which is revoked during the attack."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = add_key(directory, "victim", "read:/")
        self._reading: asyncio.Task[None] | None = None

    async def follow(self, port: int) -> None:
        """Open the stream, and read it."""
        reader, writer = await asyncio.open_connection(HOST, port)
        path = "/log/v1/events/stream?scope=project/acme"
        # The end of the stream is the end of the connection.
        request = _request("GET", path, self._key)
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise servers.Unavailable(f"the stream was refused: {head!r}")
        self._reading = asyncio.create_task(_read_all(reader, writer))

    async def seconds_to_revoke(self) -> float:
        """Revoke the key; return the seconds until its stream ended."""
        if self._reading is None or self._reading.done():
            raise servers.Unavailable("a stream ended before its key was revoked")
        id = self._key.split("_")[1]
        start = time.perf_counter()
        await asyncio.to_thread(_deploylog, self._directory, "keys", "revoke", id)
        await self._reading
        return time.perf_counter() - start


async def _read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()


def peak_megabytes(pid: int) -> float:
    """Return the peak memory of the process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


async def measure(report: Report, table: Table, attack: Attack, seconds: float) -> str:
    """Run one attack; return what failed, or an empty string."""
    with TemporaryDirectory(prefix="attack-") as directory:
        place = Path(directory)
        good, reader_key = add_key(place, "good", "admin:/"), add_key(place, "reader", "read:/")
        writer_key = add_key(place, "writer", "write:/")
        victim = Victim(place)
        async with servers.deploylog(place) as server:
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
            appends, reads, health = Watch(), Watch(), Watch()
            target = Target(port=server.port, reader_key=reader_key, writer_key=writer_key)
            page = "/log/v1/events?scope=project/acme"
            watches = [
                appends.ask(server.port, 201, lambda: _append(good)),
                reads.ask(server.port, 200, lambda: _request("GET", page, good)),
                health.ask(server.port, 200, lambda: _request("GET", "/healthz", good)),
            ]
            await attack.prepare(target)
            await victim.follow(server.port)
            revoked = await _under(attack.run(target), watches, seconds, victim)
            alive = server.process.poll() is None
            figures = {
                "append_p50_ms": appends.milliseconds(0.5),
                "append_p99_ms": appends.milliseconds(0.99),
                "append_max_ms": appends.milliseconds(1),
                "read_p50_ms": reads.milliseconds(0.5),
                "read_p99_ms": reads.milliseconds(0.99),
                "healthz_max_ms": health.milliseconds(1),
                "revoke_s": revoked,
                "peak_mb": peak_megabytes(server.process.pid) if alive else float("nan"),
            }
            report.add(attack.name, OURS, 1, **figures)
            table.add_row(attack.name, *(_shown(figures[name]) for name in _FIGURES))
            if not alive:
                return "the server died"
            for watch in (appends, reads, health):
                if watch.failed or not watch.answered:
                    return watch.failed or "no request got a response"
            if revoked != revoked:
                return "the stream of a revoked key did not end"
    return ""


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


async def _under(
    attack: Awaitable[None],
    watches: Iterable[Awaitable[None]],
    seconds: float,
    victim: Victim,
) -> float:
    """Run everything for some seconds; return how long it took to revoke a key meanwhile."""
    running = [asyncio.ensure_future(each) for each in (attack, *watches)]
    revoked = float("nan")
    try:
        async with asyncio.timeout(seconds + _TIMEOUT_SECONDS):
            await asyncio.sleep(seconds / 2)
            start = time.perf_counter()
            revoked = await victim.seconds_to_revoke()
            await asyncio.sleep(max(0.0, seconds / 2 - (time.perf_counter() - start)))
    except TimeoutError:
        pass
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return revoked


def _append(key: str) -> bytes:
    event = {"type": "resource.create.started", "source": "attack", "scopes": "project/acme"}
    body = msgspec.json.encode(event)
    return _request("POST", "/log/v1/events", key, body)


def _request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(names: list[str], seconds: float) -> bool:
    """Run the attacks; return whether the server and its client survived all of them."""
    report, failures = Report("attack"), {}
    table = Table("attack", *_FIGURES, title=f"attack: {seconds:g} s each")
    end = asyncio.get_running_loop().time() + _ALL_SECONDS
    for attack in ATTACKS:
        if names and attack.name not in names:
            continue
        try:
            async with asyncio.timeout_at(end):
                failed = await measure(report, table, attack, seconds)
        except subprocess.TimeoutExpired:
            failed = "the server did not stop"
        except (servers.Unavailable, ConnectionError, TimeoutError) as error:
            failed = f"{type(error).__name__}: {error}" if str(error) else "it did not end in time"
        if failed:
            failures[attack.name] = failed
            print(f"attack: {attack.name}: {failed[:300]}", flush=True)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return not failures


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="attacks to run; all of them unless named")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each attack")
    arguments = parser.parse_args()
    try:
        survived = uvloop.run(run(arguments.names, arguments.seconds))
    except servers.Unavailable as error:
        sys.exit(str(error))
    sys.exit(not survived)


if __name__ == "__main__":
    main()
