"""A store in a PostgreSQL database, which any number of processes may use."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from deploylog.errors import OperatorError, StoreUnavailable
from deploylog.store.contract import QUERY_SECONDS, CommitObserver
from deploylog.store.database import Database
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.live_index import LiveIndex
from deploylog.store.mending import IndexMender
from deploylog.store.postgres.append import Recorder
from deploylog.store.postgres.appender import Appender
from deploylog.store.postgres.connection import (
    Connection,
    connect,
    conninfo_of,
    name_of,
    one_value,
    store_errors,
)
from deploylog.store.postgres.copying import accept_copy
from deploylog.store.postgres.course import Course
from deploylog.store.postgres.deployments import postgres_catalog
from deploylog.store.postgres.dialect import DIALECT
from deploylog.store.postgres.events import PostgresLog
from deploylog.store.postgres.head_watch import listening
from deploylog.store.postgres.index import PostgresIndexTables
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.schema import migrate_database, schema_version
from deploylog.store.postgres.sealing import reseal_segment, seal_segment, write_segment
from deploylog.store.postgres.writer import Writer
from deploylog.store.sealing import keep_sealing, seal_full_segments
from deploylog.store.sql_store import SqlStore


class PostgresStore(SqlStore[Connection]):
    """The ``Store`` in one PostgreSQL database."""

    log: PostgresLog

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        index: LiveIndex[Connection],
        *,
        epoch: int,
        conninfo: str,
        notifier: HeadNotifier,
        mender: IndexMender[Connection],
        observer: CommitObserver,
    ) -> None:
        """``notifier`` learns of each commit; ``observer`` of damaged events, and of the rows that
        reads take.
        """
        log = PostgresLog(
            writer,
            readers,
            index,
            epoch=epoch,
            conninfo=conninfo,
            notifier=notifier,
            mender=mender,
            observer=observer,
        )
        super().__init__(log, Database(writer, readers, DIALECT))
        self.catalog = postgres_catalog(readers)

    def owns(self, file: os.stat_result) -> bool:
        return False


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    observer: CommitObserver,
    query_seconds: float = QUERY_SECONDS,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[PostgresStore]:
    """The store in the database at ``url``, migrated to this program's schema. ``clock`` returns
    ns.
    """
    conninfo = conninfo_of(url)
    migrate_url(url)
    notifier = HeadNotifier(asyncio.get_running_loop())
    with connect(conninfo) as connection, store_errors():
        accept_copy(conninfo, connection)
        epoch = int(one_value(connection, "SELECT epoch FROM log"))
        tables = PostgresIndexTables()
        seal_full_segments(tables, connection, partial(write_segment, connection))
    recorder, index = Recorder(epoch=epoch, clock=clock), LiveIndex(tables)
    course = Course(epoch)

    def committed(seconds: float, events: int, head: int) -> None:
        observer.committed(seconds, events)
        if recorder.proof is not None:
            course.saw(recorder.proof)
        if events:
            index.add(recorder.fed)
            notifier.committed(head)

    readers = Readers(conninfo, query_seconds=query_seconds)
    writer = Writer(
        Appender(conninfo),
        recorder,
        name=name_of(conninfo),
        committed=committed,
        clock=time.perf_counter,
    )
    mender = IndexMender[Connection](
        lambda number: asyncio.to_thread(reseal_segment, conninfo, number),
        damaged=observer.damaged,
    )
    try:
        async with (
            listening(conninfo, notifier, course),
            keep_sealing(
                index,
                notifier,
                catch_up=lambda: mender.run(readers.background, index.moment),
                write=lambda segment: asyncio.to_thread(seal_segment, conninfo, segment),
            ),
        ):
            yield PostgresStore(
                writer,
                readers,
                index,
                epoch=epoch,
                conninfo=conninfo,
                notifier=notifier,
                mender=mender,
                observer=observer,
            )
    finally:
        writer.close()
        readers.close()


def migrate_url(url: str) -> list[str]:
    """Migrate the database to this program's schema; return the names of the steps taken.

    Raises OperatorError when it cannot be reached.
    """
    conninfo = conninfo_of(url)
    try:
        return migrate_database(conninfo)
    except StoreUnavailable as error:
        raise _unreachable(conninfo, error) from error


def database_has_store(url: str) -> bool:
    """Whether there is a store in the database. Raises OperatorError when it cannot be reached."""
    conninfo = conninfo_of(url)
    try:
        with connect(conninfo) as connection, store_errors():
            return schema_version(connection) > 0
    except StoreUnavailable as error:
        raise _unreachable(conninfo, error) from error


def _unreachable(conninfo: str, error: StoreUnavailable) -> OperatorError:
    reason = error.message.removeprefix("the store does not answer: ")
    return OperatorError(f"cannot open the store {name_of(conninfo)}: {reason}")
