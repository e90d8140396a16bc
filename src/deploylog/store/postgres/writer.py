"""The writer: what is committed at the server, one flush, and the word of a standby, each time."""

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import errors

from deploylog.store.commit_queue import Call, CommitQueue, Outcomes, Work, outcomes_of
from deploylog.store.health import Health
from deploylog.store.postgres.append import Recorder
from deploylog.store.postgres.appender import Appender
from deploylog.store.postgres.connection import Connection, change

#: Errors that the data of one request can cause. Other errors are trouble of the store.
_CAUSED_BY_DATA = (
    errors.DataError,
    errors.IntegrityError,
    errors.ProgrammingError,
    errors.NotSupportedError,
    errors.ProgramLimitExceeded,
)


class Writer(CommitQueue[Connection]):
    """Owns the appender, and its thread."""

    def __init__(
        self,
        appender: Appender,
        recorder: Recorder,
        *,
        name: str,
        committed: Callable[[float, int, int], None],
        clock: Callable[[], float],
    ) -> None:
        """``name`` is the store's in log lines; ``committed`` gets the seconds, events and head of
        each commit. ``clock`` is monotonic.
        """
        self._appender = appender
        self._recorder = recorder
        health = Health(name, caused_by_data=_CAUSED_BY_DATA, clock=clock)
        super().__init__(health, committed=committed, clock=clock)

    @property
    def _head(self) -> int:
        return self._recorder.head

    def _write_unchanged(self, connection: Connection) -> None:
        change(connection, "UPDATE log SET head = head")

    def close(self) -> None:
        super().close()
        self._appender.close()

    def _transact(self, works: Sequence[Work[Connection]]) -> Outcomes:
        head = self._recorder.head
        try:
            done = self._appender.run(
                lambda connection: self._run_works(connection, works),
                proof=lambda: self._recorder.proof,
            )
        except Exception:
            # Nothing of this transaction is recorded, unless nobody can say.
            self._recorder.roll_back(head)
            raise
        self._health.wrote()
        return done

    def _run_works(self, connection: Connection, works: Sequence[Work[Connection]]) -> Outcomes:
        def call(work: Call[Connection]) -> Any:
            # A savepoint: a failed job is undone, and the others stay.
            with connection.transaction():
                return work(connection)

        self._recorder.start()
        return outcomes_of(
            works, record=lambda appends: self._recorder.record(connection, appends), call=call
        )
