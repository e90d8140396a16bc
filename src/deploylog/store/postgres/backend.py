"""The PostgreSQL backend: a database named by ``postgresql://user@host1,host2/name?option=value``.

The URL is libpq's own.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from deploylog.errors import OperatorError
from deploylog.store.contract import (
    CommitObserver,
    Contents,
    Finding,
    OpenStore,
    Restored,
    Verified,
)
from deploylog.store.postgres import database_has_store, migrate_url, open_postgres
from deploylog.store.postgres.connection import conninfo_of
from deploylog.store.postgres.copying import PostgresCopy, reading_copy, writing_copy
from deploylog.store.postgres.verify import verify_database


class PostgresBackend:
    """The ``Backend`` of stores in PostgreSQL databases."""

    def open(self, url: str, *, observer: CommitObserver, query_seconds: float) -> OpenStore:
        return open_postgres(url, observer=observer, query_seconds=query_seconds)

    def exists(self, url: str) -> bool:
        return database_has_store(url)

    def key_file(self, url: str) -> Path | None:
        """None: each of its processes may be on a machine of its own, and all need the same key."""
        return None

    def migrate(self, url: str) -> list[str]:
        return migrate_url(url)

    def backup(self, url: str, file: Path, *, force: bool) -> Contents:
        raise OperatorError("a store in PostgreSQL is backed up with pg_dump or pg_basebackup")

    def restore(self, url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
        raise OperatorError("a store in PostgreSQL is restored with pg_restore or pg_basebackup")

    def verify(
        self,
        url: str,
        *,
        found: Callable[[Finding], None],
        progress: Callable[[int, int], None],
        mend: bool,
    ) -> Verified:
        return verify_database(conninfo_of(url), found=found, progress=progress, mend=mend)

    def reading_copy(self, url: str) -> AbstractContextManager[PostgresCopy]:
        return reading_copy(conninfo_of(url))

    def writing_copy(self, url: str) -> AbstractContextManager[PostgresCopy]:
        return writing_copy(conninfo_of(url))
