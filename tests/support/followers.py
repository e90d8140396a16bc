"""Followers: streams that come back with the last id they got, until they have seen enough."""

import asyncio
from contextlib import suppress
from itertools import count

import aiohttp

from support.servers import STREAM, Running, Stream


class Follower:
    """Follows the log as a client does that reconnects whenever its stream ends."""

    def __init__(self, *services: Running, query: str = "from=start") -> None:
        """It turns to the next of ``services`` whenever it reconnects."""
        self._services = services
        self._turns = count()
        self._query = query
        #: The ids it got, in order; of an event that came twice, twice.
        self.ids: list[str] = []
        self.connections = 0
        #: Streams that said that events are missing.
        self.gaps = 0

    async def follow(self, number: int) -> None:
        """Follow until this many events came."""
        while len(self.ids) < number:
            # The error of a stream that is cut, and of a service that does not listen for now.
            with suppress(aiohttp.ClientError, AssertionError, ConnectionError):
                await self._read(number)
            await asyncio.sleep(0.01)

    async def _read(self, number: int) -> None:
        headers = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
        timeout = aiohttp.ClientTimeout(total=None)
        service = self._services[next(self._turns) % len(self._services)]
        url = f"{service.url}{STREAM}?{self._query}"
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as response,
        ):
            self.connections += 1
            stream = Stream(response)
            while len(self.ids) < number and (frame := await stream.block()) is not None:
                self.gaps += frame.event == "gap"
                if frame.event != "gap" and frame.id and frame.data:
                    self.ids.append(frame.id)
