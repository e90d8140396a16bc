"""Partitions of the ``events`` table: each holds a range of positions."""

import logging

from psycopg import errors

from deploylog.errors import StoreUnavailable
from deploylog.store.postgres.connection import (
    Connection,
    all_rows,
    change,
    connect,
    one_value,
    store_errors,
)

#: Positions of one partition.
SIZE = 10_000_000

_LOGGER = logging.getLogger(__name__)


class Partitions:
    """The partitions that this process knows to be there."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def ensure(self, connection: Connection, position: int) -> None:
        """Create the partition of ``position`` unless it is there, in the caller's transaction."""
        number = position // SIZE
        if number not in self._known:
            create_partition(connection, number)
            self._known.add(number)


def create_partition(connection: Connection, number: int) -> None:
    """Create a partition unless it is there.

    It is attached, rather than created as a partition, which would wait for every reader of the
    table and make the next ones wait.
    """
    name = name_of(number)
    if one_value(connection, "SELECT to_regclass(%s) IS NOT NULL", (name,)):
        return
    change(connection, f"CREATE TABLE {name} (LIKE events INCLUDING ALL)")
    change(
        connection,
        f"ALTER TABLE events ATTACH PARTITION {name}"
        f" FOR VALUES FROM ({number * SIZE}) TO ({(number + 1) * SIZE})",
    )


def drop_empty_partitions(conninfo: str, floor: int) -> None:
    """Drop the partitions of which nothing is retained, unless something prevents it for now."""
    if floor + 1 < SIZE:
        return
    try:
        with connect(conninfo) as connection, store_errors():
            drop_partitions(connection, floor)
    except StoreUnavailable as error:
        _LOGGER.warning("cannot drop partitions for now: %s", error.message)


def drop_partitions(connection: Connection, floor: int) -> list[str]:
    """Drop the partitions of which nothing is retained; return their names.

    The connection is in no transaction: a partition is detached without making readers wait.
    """
    dropped = []
    for (name,) in all_rows(connection, _ATTACHED):
        if (int(name.rpartition("_")[2]) + 1) * SIZE <= floor + 1:
            detach = f"ALTER TABLE events DETACH PARTITION {name}"
            try:
                change(connection, f"{detach} CONCURRENTLY")
            except errors.ObjectNotInPrerequisiteState:
                # An earlier attempt was interrupted.
                change(connection, f"{detach} FINALIZE")
            change(connection, f"DROP TABLE {name}")
            dropped.append(name)
    return dropped


def name_of(number: int) -> str:
    """The name of a partition."""
    return f"events_{number}"


_ATTACHED = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass
"""
