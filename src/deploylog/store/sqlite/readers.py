"""Readers: a few connections, each used by one thread at a time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from deploylog.store.sqlite.connection import SqlValue, connect, store_errors

READERS = 4

_Result = TypeVar("_Result")

Bindings = Sequence[SqlValue] | Mapping[str, SqlValue]


class Readers:
    """Runs reads in threads, each in a transaction of its own, so that it sees one state."""

    def __init__(self, path: Path) -> None:
        """Open the connections."""
        self._connections = [connect(path) for _ in range(READERS)]
        self._free: SimpleQueue[apsw.Connection] = SimpleQueue()
        for connection in self._connections:
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="deploylog-read")

    async def run(self, read: Callable[[apsw.Connection], _Result]) -> _Result:
        """What ``read`` returns; the driver's errors raise StoreUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, read)

    async def rows(self, sql: str, values: Bindings = ()) -> list[tuple[Any, ...]]:
        """Every row of one select."""
        return await self.run(lambda connection: connection.execute(sql, values).fetchall())

    def _read(self, read: Callable[[apsw.Connection], _Result]) -> _Result:
        connection = self._free.get()
        try:
            with store_errors():
                connection.execute("BEGIN")
                try:
                    return read(connection)
                finally:
                    connection.execute("COMMIT")
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Let running reads end, then close the connections."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
