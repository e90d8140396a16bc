"""The writer: what is committed to the file, one fsync for each commit."""

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from deploylog.errors import StoreUnavailable
from deploylog.store.commit_queue import Call, CommitQueue, Outcomes, Work, outcomes_of
from deploylog.store.health import Health
from deploylog.store.sqlite.append import Recorder
from deploylog.store.sqlite.connection import one_value, store_errors
from deploylog.store.sqlite.files import StoreFiles

#: Errors that the data of one request can cause. Other errors are trouble of the store.
_CAUSED_BY_DATA = (
    apsw.ConstraintError,
    apsw.TooBigError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
)


class Writer(CommitQueue[apsw.Connection]):
    """Owns the connection that writes, and its thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        recorder: Recorder,
        *,
        files: StoreFiles,
        committed: Callable[[float, int, int], None],
        clock: Callable[[], float],
    ) -> None:
        """``committed`` gets the seconds, events and head of each commit. ``clock`` is monotonic"""
        self._connection = connection
        self._recorder = recorder
        self._files = files
        health = Health(files.path, caused_by_data=_CAUSED_BY_DATA, clock=clock)
        super().__init__(health, committed=committed, clock=clock)

    @property
    def _head(self) -> int:
        return self._recorder.head

    def _is_proven(self) -> bool:
        return super()._is_proven() and self._are_files_there()

    def _are_files_there(self) -> bool:
        try:
            self._files.check()
        except StoreUnavailable:
            return False
        return True

    def _write_unchanged(self, connection: apsw.Connection) -> None:
        # An UPDATE that changes nothing writes no page.
        number = one_value(connection, "PRAGMA application_id")
        connection.execute(f"PRAGMA application_id = {number}")
        # So that the first append need not.
        self._recorder.learn()

    def close(self) -> None:
        super().close()
        self._connection.close()

    def _transact(self, works: Sequence[Work[apsw.Connection]]) -> Outcomes:
        head = self._recorder.head
        try:
            return self._run_and_commit(works)
        except Exception:
            self._roll_back(head)
            raise

    def _run_and_commit(self, works: Sequence[Work[apsw.Connection]]) -> Outcomes:
        # Nothing is written to a file that is gone, and a commit is acknowledged only if the file
        # is still there afterwards. A file that is deleted later takes all its events with it.
        self._files.check()
        with store_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            done = outcomes_of(works, record=self._recorder.record, call=self._call)
            written = self._pages_written()
            self._connection.execute("COMMIT")
        self._files.check()
        if self._pages_written() > written:
            self._health.wrote()
        return done

    def _pages_written(self) -> int:
        """A commit that changes nothing writes no page, and proves nothing about the disk."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]

    def _call(self, work: Call[apsw.Connection]) -> Any:
        # A savepoint: a failed job is undone, and the others stay.
        with self._connection:
            return work(self._connection)

    def _roll_back(self, head: int) -> None:
        """Undo the transaction, before which ``head`` was the newest position.

        Raises StoreUnavailable if even that fails.
        """
        self._recorder.roll_back(head)
        with store_errors():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
