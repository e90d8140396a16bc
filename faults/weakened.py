"""Run a command of Deploylog without one of its protections, in this process only.

The first argument names the protection, the others are those of ``deploylog``. A suite that runs
the service so must find something.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.native import query_string
from deploylog.cli import main
from deploylog.errors import StoreUnavailable
from deploylog.events.index import identities, sealed
from deploylog.events.scope import Scope
from deploylog.server.chunk_writer import ChunkWriter
from deploylog.store import admission, live_index, prepared_event, rows, sqlite
from deploylog.store.commit_queue import CommitQueue, Outcomes, Work, outcomes_of
from deploylog.store.live_index import LiveIndex, Snapshot
from deploylog.store.postgres import append as postgres_append
from deploylog.store.postgres import appender
from deploylog.store.postgres import connection as postgres_connection
from deploylog.store.postgres.appender import Appender
from deploylog.store.postgres.connection import Connection
from deploylog.store.sqlite.append import Recorder
from deploylog.store.sqlite.connection import store_errors
from deploylog.store.sqlite.writer import Writer


def _without_sync() -> None:
    """A commit does not wait for the disk."""
    connect = sqlite.connect

    def connect_unsynced(*args: Any) -> apsw.Connection:
        connection = connect(*args)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    sqlite.connect = connect_unsynced
    postgres_connection._SET_UP = postgres_connection._SET_UP.replace(
        "synchronous_commit = on", "synchronous_commit = off"
    )


def _without_commit() -> None:
    """What is acknowledged is committed only with what comes next."""

    def run(writer: Writer, works: Sequence[Work[apsw.Connection]]) -> Outcomes:
        with store_errors():
            if writer._connection.in_transaction:
                writer._connection.execute("COMMIT")
            writer._connection.execute("BEGIN IMMEDIATE")
            done = outcomes_of(works, record=writer._recorder.record, call=writer._call)
        writer._health.wrote()
        return done

    Writer._run_and_commit = run  # type: ignore[method-assign]


def _without_identities() -> None:
    """An event with the id of a recorded one is new."""
    prepared_event.identity_of = lambda event: None


def _without_keys() -> None:
    """A request with the key of a recorded one is new."""
    admission._Admission._earlier = lambda *_: None  # type: ignore[method-assign]


class _WithoutTransactions:
    """A connection that commits each statement by itself."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.close = connection.close

    def execute(self, sql: str, *bindings: Any) -> Any:
        return self._connection.execute(
            "" if sql in ("BEGIN IMMEDIATE", "COMMIT") else sql, *bindings
        )


def _without_transaction() -> None:
    """The steps of a migration are committed statement by statement."""
    migrate_file, connect = sqlite.migrate_file, sqlite.connect

    def migrate(file: Path) -> list[str]:
        sqlite.connect = lambda *args: _WithoutTransactions(connect(*args))  # type: ignore
        try:
            return migrate_file(file)
        finally:
            sqlite.connect = connect

    sqlite.migrate_file = migrate


class _Anything:
    """Equals whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _without_checksums() -> None:
    """What was altered is taken for what was recorded."""
    rows.event_checksum = lambda *_: _Anything()
    for module in (sealed, identities, live_index):
        module.verified = lambda stored, number: stored[:-4]


def _without_validation() -> None:
    """What is no scope is an error of Python's, not of ours."""

    def parse(text: str) -> Scope:
        head, *rest = text.split("/")
        return Scope(f"{head}/{rest[0]}")

    query_string.parse_scope = parse


def _without_rising() -> None:
    """The time of recording is that of the clock, also when it was set back."""
    init = admission._Admission.__init__

    def start(self: Any, loaded: admission.Loaded, now: int) -> None:
        init(self, loaded, now)
        self.recorded = now

    admission._Admission.__init__ = start  # type: ignore[assignment, method-assign]


def _without_wait() -> None:
    """A query is answered from what the index knew at the query before."""
    caught_up, heads = LiveIndex._caught_up, dict[int, int]()

    def lag(index: LiveIndex[Any], connection: Any, snapshot: Snapshot) -> Any:
        before = heads.get(id(index), snapshot.head)
        heads[id(index)] = snapshot.head
        return caught_up(index, connection, msgspec.structs.replace(snapshot, head=before))

    LiveIndex._caught_up = lag  # type: ignore[method-assign]


def _without_refusal() -> None:
    """What cannot be committed is acknowledged, with positions that nothing has."""
    commit = CommitQueue._commit

    def pretend(queue: CommitQueue[Any], jobs: Sequence[Any]) -> list[Any]:
        outcomes = commit(queue, jobs)
        return [
            _pretended(job) if isinstance(outcome, StoreUnavailable) else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    CommitQueue._commit = pretend  # type: ignore[method-assign]


def _pretended(job: Any) -> list[admission.Entry]:
    candidates = getattr(job.work, "candidates", ())
    return [admission.Positioned(each.event, n, 0) for n, each in enumerate(candidates, 1)]


def _without_budget() -> None:
    """Bodies of requests are counted, and never refused."""

    def allow(budget: BodyBudget, size: int, *, by: int) -> None:
        pass

    BodyBudget.require = allow  # type: ignore[method-assign]


def _without_flow() -> None:
    """What a client does not read is buffered, however much it is."""

    async def drain(writer: ChunkWriter) -> None:
        pass

    def write(writer: ChunkWriter, data: bytes) -> bool:
        writer._cycle.transport.write(data)
        return True

    ChunkWriter.is_full = False  # type: ignore[assignment, method-assign]
    ChunkWriter.write = write  # type: ignore[method-assign]
    ChunkWriter.drain = drain  # type: ignore[method-assign]


def _without_asking() -> None:
    """A commit without an answer is taken for one that failed."""
    Appender._is_committed = lambda *_: False  # type: ignore[method-assign]


def _without_lock() -> None:
    """Positions are drawn before the transaction that records them, as from a sequence."""
    _draw_in_sqlite()
    _draw_in_postgres()


def _draw_in_sqlite() -> None:
    run, load, write = Writer._run_and_commit, Recorder._load, Recorder._write
    drawn = [0]

    def draw(writer: Writer, works: Sequence[Work[apsw.Connection]]) -> Outcomes:
        drawn[0] = _draw(_size(works))
        return run(writer, works)

    def load_drawn(*args: Any) -> admission.Loaded:
        return msgspec.structs.replace(load(*args), head=drawn[0])

    def write_drawn(recorder: Recorder, admitted: Any) -> None:
        [(head,)] = recorder._connection.execute("SELECT head FROM log").fetchall()
        write(recorder, admitted)
        recorder._connection.execute("UPDATE log SET head = max(head, ?)", (head,))

    Writer._run_and_commit = draw  # type: ignore[method-assign]
    Recorder._load = load_drawn  # type: ignore[method-assign]
    Recorder._write = write_drawn  # type: ignore[method-assign]


def _draw_in_postgres() -> None:
    load = postgres_append._load
    record = postgres_append.Recorder.record

    def record_drawn(recorder: Any, connection: Connection, appends: Sequence[Any]) -> Any:
        drawn[0] = _draw(sum(len(append.candidates) for append in appends))
        return record(recorder, connection, appends)

    def load_drawn(*args: Any) -> admission.Loaded:
        return msgspec.structs.replace(load(*args), head=drawn[0])

    drawn = [0]
    appender.LOCK = "SELECT 1, pg_current_xact_id()::text"
    appender._BEGIN = f"BEGIN; {appender.LOCK}"
    postgres_append.Recorder.record = record_drawn  # type: ignore[method-assign]
    postgres_append._load = load_drawn
    postgres_append._MOVE_HEAD = (
        "UPDATE log SET head = greatest(head, %s), recorded = greatest(recorded, %s)"
    )


def _size(works: Sequence[Work[apsw.Connection]]) -> int:
    return sum(len(work.candidates) for work in works if isinstance(work, admission.Append))


def _draw(number: int) -> int:
    """The position before the next ``number``, which the processes of one folder draw."""
    file = os.open("drawn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = int(os.pread(file, 20, 0) or b"0")
        os.pwrite(file, f"{before + number}".encode(), 0)
        return before
    finally:
        os.close(file)


#: By name, what takes it out.
PROTECTIONS: dict[str, Callable[[], None]] = {
    "asking": _without_asking,
    "budget": _without_budget,
    "checksums": _without_checksums,
    "commit": _without_commit,
    "flow": _without_flow,
    "identities": _without_identities,
    "keys": _without_keys,
    "lock": _without_lock,
    "refusal": _without_refusal,
    "rising": _without_rising,
    "sync": _without_sync,
    "transaction": _without_transaction,
    "validation": _without_validation,
    "wait": _without_wait,
}

if __name__ == "__main__":
    PROTECTIONS[sys.argv[1]]()
    sys.argv = ["deploylog", *sys.argv[2:]]
    main()
