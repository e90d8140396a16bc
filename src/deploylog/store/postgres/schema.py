"""The schema: its version, and the migrations that bring it to this program's."""

import secrets

from deploylog.events.ids import EPOCH_BITS
from deploylog.store.migrations import Migration, migrate, migrations
from deploylog.store.postgres.connection import (
    LOCKS,
    Connection,
    all_rows,
    check_server,
    connect,
    one_value,
    store_errors,
)


def migrate_database(conninfo: str) -> list[str]:
    """Migrate the database to this program's schema; return the names of the steps taken."""
    connection = connect(conninfo)
    with store_errors(), connection:
        check_server(connection)
        if _is_ready(connection):
            return []
        with connection.transaction():
            # So that of programs that start together one migrates, and the others wait for it.
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCKS,))
            return _migrate(connection)


def _is_ready(connection: Connection) -> bool:
    version = schema_version(connection)
    return version == migrations("postgres")[-1].number and bool(
        all_rows(connection, "SELECT 1 FROM log")
    )


def _migrate(connection: Connection) -> list[str]:
    def apply(step: Migration) -> None:
        connection.execute(step.sql)
        connection.execute(
            "INSERT INTO migrations (number, name) VALUES (%s, %s)", (step.number, step.name)
        )

    version = schema_version(connection)
    if version == 0:
        connection.execute(_CREATE)
    applied = migrate(migrations("postgres"), version=version, apply=apply)
    if not all_rows(connection, "SELECT 1 FROM log"):
        connection.execute(_NEW_LOG, (secrets.randbits(EPOCH_BITS),))
        connection.execute("INSERT INTO token_key VALUES (%s)", (secrets.token_bytes(32),))
    return applied


def schema_version(connection: Connection) -> int:
    """The number of the newest migration; 0 when there is no store in the database."""
    if one_value(connection, "SELECT to_regclass('migrations') IS NULL"):
        return 0
    return int(one_value(connection, "SELECT coalesce(max(number), 0) FROM migrations"))


_CREATE = """
CREATE TABLE IF NOT EXISTS migrations (
    number  bigint PRIMARY KEY,
    name    text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""

_NEW_LOG = "INSERT INTO log (epoch, head, floor, recorded, unchecked) VALUES (%s, 0, 0, 0, 0)"
