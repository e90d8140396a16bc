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

from bench import servers
from bench.attacks import ATTACKS, Attack, Target
from bench.http1 import HOST, Client
from bench.report import OURS, Report, percentile

#: The most memory that the service may have: this machine must outlive a fault.
_MOST_MEMORY = 4 << 30

#: Seconds without an answer after which the client that behaves well has failed.
_PATIENCE = 30.0

_PAUSE = 0.01


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
    """A key with an open stream, which is revoked while the attack goes on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = add_key(directory, "victim", "read:/")
        self._reader: asyncio.StreamReader | None = None

    async def follow(self, port: int) -> None:
        """Open the stream."""
        self._reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(_request("GET", "/log/v1/events/stream", self._key))
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise servers.Unavailable(f"there is no stream: {head!r}")

    async def seconds_to_revoke(self) -> float:
        """From the start of the command that revokes the key to the end of its stream."""
        id = self._key.split("_")[1]
        start = time.perf_counter()
        await asyncio.to_thread(_deploylog, self._directory, "keys", "revoke", id)
        with suppress(ConnectionError):
            while self._reader and await self._reader.read(65536):
                pass
        return time.perf_counter() - start


def peak_megabytes(pid: int) -> float:
    """The most memory that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


async def measure(report: Report, attack: Attack, seconds: float) -> str:
    """Run one attack; what failed, if anything did."""
    name = attack.__name__
    with TemporaryDirectory(prefix="attack-") as directory:
        place = Path(directory)
        good, reader_key = add_key(place, "good", "admin:/"), add_key(place, "reader", "read:/")
        victim = Victim(place)
        async with servers.deploylog(place) as server:
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
            appends, reads, health = Watch(), Watch(), Watch()
            target = Target(port=server.port, reader_key=reader_key)
            watches = [
                appends.ask(server.port, 201, lambda: _append(good)),
                reads.ask(server.port, 200, lambda: _request("GET", "/log/v1/events", good)),
                health.ask(server.port, 200, lambda: _request("GET", "/healthz", good)),
            ]
            await victim.follow(server.port)
            revoked = await _under(attack(target), watches, seconds, victim)
            alive = server.process.poll() is None
            report.add(
                name,
                OURS,
                1,
                append_p50_ms=appends.milliseconds(0.5),
                append_p99_ms=appends.milliseconds(0.99),
                read_p50_ms=reads.milliseconds(0.5),
                read_p99_ms=reads.milliseconds(0.99),
                healthz_longest_ms=health.milliseconds(1),
                peak_mb=peak_megabytes(server.process.pid) if alive else float("nan"),
                revoke_s=revoked,
            )
            if not alive:
                return "the service died"
            for watch in (appends, reads, health):
                if watch.failed or not watch.answered:
                    return watch.failed or "no request was answered"
    return ""


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
    for attack in ATTACKS:
        if names and attack.__name__ not in names:
            continue
        try:
            failed = await measure(report, attack, seconds)
        except subprocess.TimeoutExpired:
            failed = "the service did not stop"
        if failed:
            failures[attack.__name__] = failed
            print(f"attack: {attack.__name__}: {failed[:300]}", flush=True)
    report.print_table()
    return not failures


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="attacks to run; all of them unless named")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each attack")
    arguments = parser.parse_args()
    try:
        came_through = uvloop.run(run(arguments.names, arguments.seconds))
    except servers.Unavailable as error:
        sys.exit(str(error))
    sys.exit(not came_through)


if __name__ == "__main__":
    main()
