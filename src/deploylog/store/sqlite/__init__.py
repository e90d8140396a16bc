"""A store in one SQLite file."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw

from deploylog.cursor import EPOCH_BITS
from deploylog.errors import OperatorError
from deploylog.store.base import CommitObserver
from deploylog.store.migrate import Migration, migrate, migrations
from deploylog.store.sqlite.catalogue import SqliteCatalogue
from deploylog.store.sqlite.changesets import SqliteChangesets
from deploylog.store.sqlite.cleanups import SqliteCleanups
from deploylog.store.sqlite.connection import connect, one_row, one_value, store_errors
from deploylog.store.sqlite.credentials import SqliteCredentials
from deploylog.store.sqlite.deliveries import SqliteDeliveries
from deploylog.store.sqlite.log import SqliteLog
from deploylog.store.sqlite.moved import Moved
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.recorder import Recorder
from deploylog.store.sqlite.subscriptions import SqliteSubscriptions
from deploylog.store.sqlite.writer import Writer


class SqliteStore:
    """The ``Store`` in one SQLite file."""

    def __init__(self, writer: Writer, readers: Readers, *, epoch: int, moved: Moved) -> None:
        """``moved`` is told of each commit of this process."""
        self.log = SqliteLog(writer, readers, epoch=epoch, moved=moved)
        self.catalogue = SqliteCatalogue(readers)
        self.changesets = SqliteChangesets(writer, readers)
        self.cleanups = SqliteCleanups(writer, readers)
        self.subscriptions = SqliteSubscriptions(writer, readers)
        self.deliveries = SqliteDeliveries(writer, readers)
        self.credentials = SqliteCredentials(writer, readers)

    async def ready(self) -> None:
        """See ``Store``."""
        await self.log.head()


@asynccontextmanager
async def open_sqlite(
    file: Path,
    *,
    observer: CommitObserver,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[SqliteStore]:
    """The store in ``file``, brought to this program's schema; ``clock`` gives ns."""
    migrate_file(file)
    moved = Moved(asyncio.get_running_loop())

    def committed(seconds: float, events: int, head: int) -> None:
        observer.committed(seconds, events)
        moved.committed(head)

    connection = connect(file)
    epoch = _epoch(connection)
    readers = Readers(file)
    writer = Writer(
        connection,
        Recorder(connection, epoch=epoch, clock=clock),
        committed=committed,
        clock=time.perf_counter,
    )
    try:
        yield SqliteStore(writer, readers, epoch=epoch, moved=moved)
    finally:
        writer.close()
        readers.close()


def migrate_file(file: Path) -> list[str]:
    """Bring the file to this program's schema; return the names of the steps taken."""
    if not file.parent.is_dir():
        raise OperatorError(f"the store's folder {str(file.parent)!r} does not exist")
    connection = connect(file)

    def apply(step: Migration) -> None:
        connection.execute(step.sql)
        connection.execute(f"PRAGMA user_version = {step.number}")

    try:
        with store_errors():
            # Taken at once, so that of two programs that start together one waits for the other.
            connection.execute("BEGIN IMMEDIATE")
            version = int(one_value(connection, "PRAGMA user_version"))
            applied = migrate(migrations("sqlite"), version=version, apply=apply)
            if one_row(connection, "SELECT 1 FROM log") is None:
                epoch = secrets.randbits(EPOCH_BITS)
                connection.execute("INSERT INTO log VALUES (?, 0, 0, 0)", (epoch,))
            connection.execute("COMMIT")
            return applied
    finally:
        connection.close()


def _epoch(connection: apsw.Connection) -> int:
    with store_errors():
        return int(one_value(connection, "SELECT epoch FROM log"))
