"""A store in one SQLite file."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import apsw

from deploylog.errors import OperatorError
from deploylog.events.ids import EPOCH_BITS
from deploylog.events.index.segments import GrowingSegment
from deploylog.store.contract import QUERY_SECONDS, CommitObserver
from deploylog.store.database import Database
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.live_index import LiveIndex, grown_from_rows
from deploylog.store.mending import IndexMender
from deploylog.store.migrations import Migration, migrate, migrations
from deploylog.store.sealing import keep_sealing, seal_full_segments
from deploylog.store.sql_store import SqlStore
from deploylog.store.sqlite.append import Recorder
from deploylog.store.sqlite.connection import connect, one_row, one_value, opening, store_errors
from deploylog.store.sqlite.copying import accept_copy
from deploylog.store.sqlite.deployments import sqlite_catalog
from deploylog.store.sqlite.dialect import DIALECT
from deploylog.store.sqlite.events import SqliteLog
from deploylog.store.sqlite.files import StoreFiles
from deploylog.store.sqlite.identities import seal_identities, sealed_identities
from deploylog.store.sqlite.index import SqliteIndexTables
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.sealing import seal_segment, sealed_rows
from deploylog.store.sqlite.writer import Writer


class SqliteStore(SqlStore[apsw.Connection]):
    """The ``Store`` in one SQLite file."""

    log: SqliteLog

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        index: LiveIndex[apsw.Connection],
        *,
        files: StoreFiles,
        epoch: int,
        notifier: HeadNotifier,
        mender: IndexMender[apsw.Connection],
        observer: CommitObserver,
    ) -> None:
        """``notifier`` learns of each commit of this process."""
        self._files = files
        log = SqliteLog(
            writer,
            readers,
            index,
            epoch=epoch,
            wal=files.wal,
            notifier=notifier,
            mender=mender,
            observer=observer,
        )
        super().__init__(log, Database(writer, readers, DIALECT))
        self.catalog = sqlite_catalog(readers)

    def owns(self, file: os.stat_result) -> bool:
        return self._files.own(file)


@asynccontextmanager
async def open_sqlite(
    file: Path,
    *,
    observer: CommitObserver,
    query_seconds: float = QUERY_SECONDS,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[SqliteStore]:
    """The store in ``file``, migrated to this program's schema. ``clock`` returns ns."""
    migrate_file(file)
    notifier = HeadNotifier(asyncio.get_running_loop())

    connection = connect(file)
    with store_errors():
        accept_copy(file, connection)
    epoch = _epoch(connection)
    tables = SqliteIndexTables()
    with store_errors():
        seal_full_segments(tables, connection, partial(seal_segment, connection))
        seal_identities(connection)
    recorder, index = Recorder(connection, epoch=epoch, clock=clock), LiveIndex(tables)

    def committed(seconds: float, events: int, head: int) -> None:
        observer.committed(seconds, events)
        if events:
            index.add(recorder.fed)
        notifier.committed(head)

    with opening(file):
        files = StoreFiles(connection)
    readers = Readers(file, query_seconds=query_seconds)
    writer = Writer(
        connection,
        recorder,
        files=files,
        committed=committed,
        clock=time.perf_counter,
    )
    mender = IndexMender[apsw.Connection](
        partial(_reseal, tables, writer, readers), damaged=observer.damaged
    )
    try:
        async with keep_sealing(
            index,
            notifier,
            catch_up=lambda: mender.run(readers.background, index.moment),
            write=partial(_seal_beside_appends, writer, readers),
        ):
            yield SqliteStore(
                writer,
                readers,
                index,
                files=files,
                epoch=epoch,
                notifier=notifier,
                mender=mender,
                observer=observer,
            )
    finally:
        writer.close()
        readers.close()


async def _seal_beside_appends(writer: Writer, readers: Readers, segment: GrowingSegment) -> None:
    read = partial(sealed_identities, number=segment.number)
    # A caller of its own: segments are fed meanwhile.
    identities = await readers.background.run(read, caller="sealing")
    rows = await asyncio.to_thread(sealed_rows, segment, identities)
    await writer.call(rows.write)


async def _reseal(tables: SqliteIndexTables, writer: Writer, readers: Readers, number: int) -> None:
    """Make a sealed segment again, from its rows."""
    segment = await readers.background.run(lambda one: grown_from_rows(tables, one, number))
    identities = await readers.background.run(partial(sealed_identities, number=number))
    rows = await asyncio.to_thread(sealed_rows, segment, identities)
    await writer.call(rows.replace)


def migrate_file(file: Path) -> list[str]:
    """Migrate the file to this program's schema; return the names of the steps taken."""
    if not file.parent.is_dir():
        raise OperatorError(f"the store's folder {str(file.parent)!r} does not exist")
    connection = connect(file)

    def apply(step: Migration) -> None:
        connection.execute(step.sql)
        connection.execute(f"PRAGMA user_version = {step.number}")

    try:
        with store_errors():
            # At once, so that of two programs that start together one waits for the other.
            connection.execute("BEGIN IMMEDIATE")
            version = int(one_value(connection, "PRAGMA user_version"))
            applied = migrate(migrations("sqlite"), version=version, apply=apply)
            if one_row(connection, "SELECT 1 FROM log") is None:
                epoch = secrets.randbits(EPOCH_BITS)
                connection.execute(_NEW_LOG, (epoch,))
            connection.execute("COMMIT")
            return applied
    finally:
        connection.close()


def _epoch(connection: apsw.Connection) -> int:
    with store_errors():
        return int(one_value(connection, "SELECT epoch FROM log"))


_NEW_LOG = "INSERT INTO log (epoch, head, floor, recorded) VALUES (?, 0, 0, 0)"
