"""Slow filters and unread streams against one real server: what others notice, and its memory.

Run ``python -m bench.attacks.readers``; it ends by itself.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

EVENTS = 60_000
BATCH = 2_000
FILTERS = 40
SUBJECTS = 100

_TYPES = {"Content-Type": "application/x-ndjson"}


def peak_mib(pid: int) -> int:
    """The largest resident size that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) // 1024 if found else 0


def add_key(store: str, name: str, *grants: str) -> tuple[str, dict[str, str]]:
    """A key's id, and the headers of who has it."""
    command = [sys.executable, "-m", "deploylog", "keys", "add", name, "--store", store]
    for grant in grants:
        command += ["--grant", grant]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"dlk_([0-9a-f]+)_[0-9a-f]+", done.stdout + done.stderr)
    assert found, done
    return found[1], {"Authorization": f"Bearer {found[0]}"}


def lines(number: int, *, size: int = 0) -> str:
    """Events as a producer sends them."""
    event = {"source": "bench", "scopes": "project/acme", "subject": "web", "data": "x" * size}
    return "\n".join(json.dumps({**event, "type": f"load.test.{n % 50}"}) for n in range(number))


class Target:
    """The server, and the headers of an administrator."""

    def __init__(self, http: aiohttp.ClientSession, pid: int, store: str) -> None:
        self.http = http
        self.pid = pid
        self.store = store
        self.admin = add_key(store, "admin", "admin:/")[1]

    async def append(self, number: int, *, size: int = 0) -> float:
        """Append, and return how many seconds it took."""
        began = time.monotonic()
        headers = {**self.admin, **_TYPES}
        body = lines(number, size=size)
        async with self.http.post("/log/v1/events", data=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
        return time.monotonic() - began

    async def healthz(self) -> float:
        """Seconds that it takes."""
        began = time.monotonic()
        async with self.http.get("/healthz") as answer:
            assert answer.status == 200
        return time.monotonic() - began


async def slow_filters(target: Target) -> None:
    """Ask many slow queries at once, and revoke another key meanwhile."""
    _, attacker = add_key(target.store, "attacker", "read:/")
    id, revoked = add_key(target.store, "revoked", "read:/")
    for _ in range(EVENTS // BATCH):
        await target.append(BATCH)
    # A field that no index helps with.
    slow = "&".join(f"subject=never{n}.*" for n in range(SUBJECTS))
    statuses: list[int] = []

    async def ask() -> None:
        async with target.http.get(f"/log/v1/events?{slow}", headers=attacker) as answer:
            statuses.append(answer.status)

    async with target.http.get("/log/v1/events/stream", headers=revoked) as stream:
        asking = [asyncio.create_task(ask()) for _ in range(FILTERS)]
        began = time.monotonic()
        await asyncio.sleep(0.1)
        health, appended = await target.healthz(), await target.append(1)
        command = [sys.executable, "-m", "deploylog", "keys", "revoke", id, "--store", target.store]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        await process.wait()
        since = time.monotonic()
        with suppress(aiohttp.ClientError):
            while await stream.content.readany():
                pass
        ended = time.monotonic() - since
        health = max(health, await target.healthz())
        appended = max(appended, await target.append(1))
        await asyncio.gather(*asking)
    print(
        f"slow filters: {FILTERS} took {time.monotonic() - began:.1f} s, answers {set(statuses)};"
        f" healthz {health * 1000:.0f} ms, append {appended * 1000:.0f} ms, revoked {ended:.2f} s"
    )


async def unread_streams(target: Target) -> None:
    """Open many streams from the start, and read none."""
    await _unread(target, "unread streams", 200)


async def unread_large_streams(target: Target) -> None:
    """The same with large events, after one view that keeps 4,096 of them."""
    async with target.http.get("/log/v1/events/stream", headers=target.admin):
        for _ in range(4_096 // 32):
            await target.append(32, size=200_000)
        print(f"one view of 4,096 large events: peak {peak_mib(target.pid)} MiB")
    await _unread(target, "unread streams of large events", 20, "type=load.test.1")


async def _unread(target: Target, title: str, number: int, query: str = "") -> None:
    path = f"/log/v1/events/stream?from=start&{query}"
    streams = [await target.http.get(path, headers=target.admin) for _ in range(number)]
    health = max([await target.healthz() for _ in range(20)])
    await asyncio.sleep(3)
    print(f"{number} {title}: healthz {health * 1000:.0f} ms, peak {peak_mib(target.pid)} MiB")
    for stream in streams:
        stream.close()


ATTACKS = (slow_filters, unread_streams, unread_large_streams)


async def main() -> None:
    """Run each attack, one after the other."""
    with TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/log.db"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploylog", "serve", "--port", "0", "--store", store,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            async with asyncio.timeout(300):
                said = ""
                while "listening on " not in said:
                    said = (await process.stderr.readline()).decode()
                url = said.partition("listening on ")[2].partition(",")[0]
                # A stream is unread only if the client takes in little by itself.
                connector = aiohttp.TCPConnector(limit=0)
                timeout = aiohttp.ClientTimeout(total=None)
                async with aiohttp.ClientSession(
                    url, connector=connector, timeout=timeout, read_bufsize=1024
                ) as http:
                    target = Target(http, process.pid, store)
                    for attack in ATTACKS:
                        await attack(target)
        finally:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
