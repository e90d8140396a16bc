"""Readers that follow a stream, come back after every break, and must see the log as it is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import aiohttp
import msgspec
from bench.http1 import HOST

#: The lines of a stream may be long.
_LINE_BYTES = 1 << 22

#: How often to look whether the readers have caught up, and the seconds between.
_LOOKS, _LOOK_SECONDS = 400, 0.05


class Seen(msgspec.Struct, frozen=True):
    """An event, as a stream showed it."""

    id: str
    position: int


class _Event(msgspec.Struct):
    id: str
    position: str


class Tail:
    """One reader."""

    def __init__(self, query: str) -> None:
        """``query`` says what it follows, such as ``scope=project/crash``."""
        self._query = query
        self.seen: list[Seen] = []
        #: How often it came back.
        self.resumed = 0
        #: What a stream told that no stream may tell here, such as a gap.
        self.told: list[str] = []

    async def follow(self, port: int) -> None:
        """Read until the connection ends."""
        headers, query = {}, f"{self._query}&from=start"
        if self.seen:
            headers, query = {"Last-Event-ID": self.seen[-1].id}, self._query
            self.resumed += 1
        timeout = aiohttp.ClientTimeout(total=None)
        url = f"http://{HOST}:{port}/log/v1/events/stream?{query}"
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, read_bufsize=_LINE_BYTES) as http,
                http.get(url, headers=headers) as response,
            ):
                if response.status != 200:
                    return
                async for line in response.content:
                    self._take(line)
        except (aiohttp.ClientError, ConnectionError):
            return

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data: "):
            event = msgspec.json.decode(line[6:], type=_Event)
            self.seen.append(Seen(event.id, int(event.position)))
        elif line.startswith(b"event: ") and b"gap" in line:
            self.told.append(line.decode().strip())


@asynccontextmanager
async def following(tails: Sequence[Tail], port: int) -> AsyncIterator[None]:
    """Let them follow inside the block."""
    tasks = [asyncio.create_task(each.follow(port)) for each in tails]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def caught_up(tails: Sequence[Tail], number: int) -> None:
    """Return once each has seen so many events, or after a while: then one has skipped some."""
    for _ in range(_LOOKS):
        if all(len(each.seen) >= number for each in tails):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def faults_of(tail: Tail, log: Sequence[tuple[str, int]]) -> list[str]:
    """What is wrong with what a reader saw, beside the ids and positions of the whole log."""
    seen = [(each.id, each.position) for each in tail.seen]
    found = [f"a reader was told {told}" for told in tail.told]
    found += [
        f"a reader saw position {after} after {before}"
        for (_, before), (_, after) in pairwise(seen)
        if after <= before
    ]
    skipped = set(log) - set(seen)
    if skipped:
        first = min(position for _, position in skipped)
        found.append(f"a reader skipped {len(skipped)} events, the first at {first}")
    invented = set(seen) - set(log)
    if invented:
        found.append(f"a reader saw {len(invented)} events that the log does not have")
    return found
