"""Attacks on the service, each beside a client that behaves well.

Each attack runs for some seconds against a service of its own. Beside it one client appends and
reads, another asks ``/healthz``, and a key with an open stream is revoked. ``make attack`` fails
when the service dies, or when the client that behaves well gets an error or no answer.
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

#: The most memory that the service may have: this machine must outlive a fault.
_MOST_MEMORY = 6 << 30

#: Seconds without an answer after which the client that behaves well has failed.
_PATIENCE = 15.0

#: Seconds for all attacks together.
_ALL_SECONDS = 270.0

_PAUSE = 0.01

_FIGURES = (
    "append_p50_ms",
    "append_p99_ms",
    "append_longest_ms",
    "read_p50_ms",
    "read_p99_ms",
    "healthz_longest_ms",
    "revoke_s",
    "peak_mb",
)


class Watch:
    """How long requests took, and which failed."""

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
                async with asyncio.timeout(_PATIENCE):
                    client = client or await Client.open(port)
                    await client.expect(status, make())
                self.answered += 1
            except Exception as error:
                self.failed = self.failed or f"{type(error).__name__}: {error}"
                client = None
            finally:
                # What is under way at the end counts for as long as it has taken.
                self.took.append(time.perf_counter() - start)
            await asyncio.sleep(_PAUSE)

    def milliseconds(self, share: float) -> float:
        """The latency that this share of the requests does not exceed."""
        return percentile(sorted(self.took), share) * 1000 if self.took else float("nan")


def add_key(directory: Path, name: str, grant: str) -> str:
    """A new key of the store in this directory."""
    said = _deploylog(directory, "keys", "add", name, "--grant", grant)
    found = re.search(r"dlk_[0-9a-f]+_[0-9a-f]+", said)
    if found is None:
        raise servers.Unavailable(f"no key was made: {said}")
    return found[0]


def _deploylog(directory: Path, *arguments: str) -> str:
    store = f"sqlite:///{directory / 'deploylog.db'}"
    command = (sys.executable, "-m", "deploylog", *arguments, "--store", store)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    return done.stdout + done.stderr


class Victim:
    """A key whose stream is read, and which is revoked while the attack goes on."""

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
            raise servers.Unavailable(f"there is no stream: {head!r}")
        self._reading = asyncio.create_task(_read_all(reader, writer))

    async def seconds_to_revoke(self) -> float:
        """From the start of the command that revokes the key to the end of its stream."""
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
    """The most memory that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


async def measure(report: Report, table: Table, attack: Attack, seconds: float) -> str:
    """Run one attack; what failed, if anything did."""
    with TemporaryDirectory(prefix="attack-") as directory:
        place = Path(directory)
        good, reader_key = add_key(place, "good", "admin:/"), add_key(place, "reader", "read:/")
        writer_key = add_key(place, "writer", "write:/")
        victim = Victim(place)
        async with servers.deploylog(place) as server:
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
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
                "append_longest_ms": appends.milliseconds(1),
                "read_p50_ms": reads.milliseconds(0.5),
                "read_p99_ms": reads.milliseconds(0.99),
                "healthz_longest_ms": health.milliseconds(1),
                "revoke_s": revoked,
                "peak_mb": peak_megabytes(server.process.pid) if alive else float("nan"),
            }
            report.add(attack.name, OURS, 1, **figures)
            table.add_row(attack.name, *(_shown(figures[name]) for name in _FIGURES))
            if not alive:
                return "the service died"
            for watch in (appends, reads, health):
                if watch.failed or not watch.answered:
                    return watch.failed or "no request was answered"
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
    """Let all of it go on for some seconds; how long it took to revoke a key meanwhile."""
    running = [asyncio.ensure_future(each) for each in (attack, *watches)]
    revoked = float("nan")
    try:
        async with asyncio.timeout(seconds + _PATIENCE):
            await asyncio.sleep(seconds / 2)
            begun = time.perf_counter()
            revoked = await victim.seconds_to_revoke()
            await asyncio.sleep(max(0.0, seconds / 2 - (time.perf_counter() - begun)))
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
    """Run the attacks; tell whether the service and its client came through all of them."""
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
            failed = "the service did not stop"
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
        came_through = uvloop.run(run(arguments.names, arguments.seconds))
    except servers.Unavailable as error:
        sys.exit(str(error))
    sys.exit(not came_through)


if __name__ == "__main__":
    main()
