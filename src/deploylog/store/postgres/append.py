"""Appends: what many requests record in one transaction, loaded, admitted and written."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from deploylog.events.event import Event
from deploylog.store.admission import (
    Admitted,
    Append,
    Loaded,
    Lookups,
    Outcome,
    RecordedRequest,
    admit,
    lookups,
)
from deploylog.store.checksums import event_checksum
from deploylog.store.live_index import Fed
from deploylog.store.postgres.connection import Connection, change, rows_of_each
from deploylog.store.postgres.deployments import load_catalog, write_catalog
from deploylog.store.postgres.pages import read_rows
from deploylog.store.postgres.partitions import Partitions
from deploylog.store.postgres.rows import STORED, TYPES
from deploylog.store.prepared_event import PreparedEvent, prepare_event

#: Rows from which on COPY is faster, although it cannot share a round trip with other statements.
COPY_ROWS = 256

#: The channel on which other processes hear that the head has moved. It carries no more than that.
CHANNEL = "deploylog"


class Into(msgspec.Struct, frozen=True):
    """A table that rows are inserted into."""

    table: str
    columns: str
    #: Of the columns, as PostgreSQL names them.
    types: Sequence[str]

    @property
    def insert(self) -> str:
        """Its parameters are arrays, one for each column."""
        arrays = ", ".join(f"%s::{type_}[]" for type_ in self.types)
        return f"INSERT INTO {self.table} ({self.columns}) SELECT * FROM unnest({arrays})"

    @property
    def copy(self) -> str:
        return f"COPY {self.table} ({self.columns}) FROM STDIN (FORMAT BINARY)"


_INTO_EVENTS = Into("events", STORED, TYPES)
INTO_IDENTITIES = Into("identities", "digest, position", ("bigint", "bigint"))


class Recorder:
    """Records appends in a transaction that the caller starts and commits."""

    def __init__(self, *, epoch: int, clock: Callable[[], int]) -> None:
        """``clock`` returns ns since 1970."""
        self._epoch = epoch
        self._clock = clock
        self._partitions = Partitions()
        #: The newest position that this recorder has seen; ahead of the log in a transaction.
        self.head = 0
        #: What the newest transaction has for the index.
        self.fed: Sequence[Fed] = ()
        #: The first new event of the newest transaction and its checksum: they prove that it
        #: committed.
        self.proof: tuple[int, int] | None = None

    def start(self) -> None:
        """Forget the transaction before this one."""
        self.fed, self.proof = (), None

    def record(
        self, connection: Connection, appends: Sequence[Append[PreparedEvent]]
    ) -> tuple[list[Outcome], int]:
        """Record each append, whole or not at all, and return how many events are new."""
        now = self._clock()
        loaded = _load(connection, lookups(appends), self._epoch)
        admitted = admit(appends, loaded, now=now, prepare=prepare_event)
        self._write(connection, admitted)
        self.head = admitted.head
        self.fed = [(position, each.event.time, each.terms) for position, each in admitted.new]
        return admitted.outcomes, len(admitted.new)

    def _write(self, connection: Connection, admitted: Admitted[PreparedEvent]) -> None:
        for position, _ in (*admitted.new[:1], *admitted.new[-1:]):
            self._partitions.ensure(connection, position)
        events, identities = self._rows(admitted.new, admitted.recorded)
        if len(events) >= COPY_ROWS:
            copy_rows(connection, _INTO_EVENTS, events)
            copy_rows(connection, INTO_IDENTITIES, identities)
            events, identities = [], []
        # One round trip for all of them.
        with connection.pipeline():
            write_catalog(connection, admitted.catalog)
            insert_rows(connection, _INTO_EVENTS, events)
            insert_rows(connection, INTO_IDENTITIES, identities)
            for each in admitted.requests:
                newest = max(each.positions, default=0)
                row = (each.key, each.fingerprint, list(each.positions), newest)
                change(connection, _PUT_REQUEST, row)
            if admitted.new:
                change(connection, _MOVE_HEAD, (admitted.head, admitted.recorded))
                change(connection, f"NOTIFY {CHANNEL}")

    def roll_back(self, head: int) -> None:
        """Discard what the rolled back transaction assigned; ``head`` is the newest position."""
        self.head = head
        self._partitions = Partitions()

    def _rows(
        self, new: Sequence[tuple[int, PreparedEvent]], recorded: int
    ) -> tuple[list[tuple[Any, ...]], list[tuple[int, int]]]:
        """The rows of ``events`` and of ``identities``."""
        rows = [
            (
                position,
                recorded,
                *candidate.values,
                event_checksum(candidate.checksum, position, recorded),
            )
            for position, candidate in new
        ]
        identities = [
            (candidate.digest, position)
            for position, candidate in new
            if candidate.digest is not None
        ]
        self.proof = (rows[0][0], rows[0][-1]) if rows else None
        return rows, identities


def insert_rows(connection: Connection, into: Into, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert some rows by one statement."""
    if rows:
        change(connection, into.insert, [list(column) for column in zip(*rows, strict=True)])


def copy_rows(connection: Connection, into: Into, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows."""
    with connection.cursor() as cursor, cursor.copy(into.copy) as copy:
        copy.set_types(into.types)
        for row in rows:
            copy.write_row(row)


def _load(connection: Connection, wanted: Lookups, epoch: int) -> Loaded:
    [(head, recorded)], found, recorded_requests = rows_of_each(
        connection,
        [
            ("SELECT head, recorded FROM log", ()),
            (POSITIONS, (list(wanted.digests),)),
            (_REQUESTS, (list(wanted.requests),)),
        ],
    )
    requests = [RecordedRequest(*row) for row in recorded_requests]
    positions = {position for request in requests for position in request.positions}
    answers = _events_at(connection, positions, epoch)
    return Loaded(
        head=head,
        recorded=recorded,
        events=_events_at(connection, {position for (position,) in found}, epoch),
        requests=requests,
        answers={event.position: event for event in answers},
        catalog=load_catalog(connection, wanted.catalog),
    )


def _events_at(connection: Connection, positions: set[int], epoch: int) -> Sequence[Event]:
    """The events at these positions, without damaged ones."""
    return read_rows(connection, sorted(positions), epoch)[0] if positions else ()


_REQUESTS = """
SELECT r.key, r.fingerprint, r.positions FROM requests AS r WHERE r.key = ANY(%s::text[])
"""

_PUT_REQUEST = """
INSERT INTO requests (key, fingerprint, positions, newest) VALUES (%s, %s, %s::bigint[], %s)
ON CONFLICT (key) DO UPDATE SET positions = excluded.positions, newest = excluded.newest
"""

# One look-up for each of the digests, in the partition that it is in. As a join it would be planned
# while the table is empty, and read all of it ever after.
POSITIONS = """
SELECT i.position FROM unnest(%s::bigint[]) AS wanted CROSS JOIN LATERAL (
    SELECT position FROM identities WHERE digest = wanted OFFSET 0
) AS i WHERE i.position > (SELECT floor FROM log)
"""

_MOVE_HEAD = "UPDATE log SET head = %s, recorded = %s"
