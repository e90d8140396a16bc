"""Chunks of responses that have started, written past ASGI."""

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class ChunkWriter:
    """Writes chunks of a response that has started, without a message to ASGI for each."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow

    @property
    def is_full(self) -> bool:
        """Whether the transport has more unsent bytes than it should buffer."""
        return self._flow.write_paused and not self._cycle.disconnected

    def write(self, data: bytes) -> bool:
        """Write the chunk, unless the buffer is full or the client has disconnected."""
        cycle = self._cycle
        if self._flow.write_paused or cycle.disconnected or cycle.transport.is_closing():
            return False
        cycle.transport.write(data)
        return True

    async def drain(self) -> None:
        """Return when the buffer has room, or the client has disconnected."""
        while self.is_full:
            await self._flow.drain()
