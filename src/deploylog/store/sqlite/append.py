"""Appends: what many requests record in one transaction, loaded, admitted and written."""

from collections.abc import Callable, Sequence
from itertools import chain

import apsw
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
from deploylog.store.prepared_event import PreparedEvent, prepare_event
from deploylog.store.rows import COLUMNS, json_text
from deploylog.store.sqlite.connection import all_rows, insert_rows, one_value
from deploylog.store.sqlite.deployments import load_catalog, write_catalog
from deploylog.store.sqlite.pages import BAD_ROW, read_rows
from deploylog.store.sqlite.rows import SELECTED, events_of


class Recorder:
    """Records appends in a transaction that the caller starts and commits."""

    def __init__(
        self, connection: apsw.Connection, *, epoch: int, clock: Callable[[], int]
    ) -> None:
        """``clock`` returns ns since 1970."""
        self._connection = connection
        self._epoch = epoch
        self._clock = clock
        #: The newest position that this recorder has assigned; ahead of the log in a transaction.
        self.head = 0
        #: What the newest transaction has for the index.
        self.fed: Sequence[Fed] = ()

    def record(self, appends: Sequence[Append[PreparedEvent]]) -> tuple[list[Outcome], int]:
        """Record each append, whole or not at all, and return how many events are new."""
        now = self._clock()
        loaded = _load(self._connection, lookups(appends), self._epoch)
        admitted = admit(appends, loaded, now=now, prepare=prepare_event)
        self._write(admitted)
        self.head = admitted.head
        self.fed = [(position, each.event.time, each.terms) for position, each in admitted.new]
        return admitted.outcomes, len(admitted.new)

    def _write(self, admitted: Admitted[PreparedEvent]) -> None:
        rows = [
            (each.key, each.fingerprint, json_text(each.positions), max(each.positions, default=0))
            for each in admitted.requests
        ]
        if rows:
            self._connection.executemany(_PUT_REQUEST, rows)
        write_catalog(self._connection, admitted.catalog)
        self._insert(admitted.new, admitted.recorded)
        self._connection.execute(
            "UPDATE log SET head = ?, recorded = ?", (admitted.head, admitted.recorded)
        )

    def roll_back(self, head: int) -> None:
        """Discard what the rolled back transaction assigned; ``head`` is the newest position."""
        self.head = head

    def _insert(self, new: Sequence[tuple[int, PreparedEvent]], recorded: int) -> None:
        if not new:
            return
        rows = [
            (
                position,
                recorded,
                *candidate.values,
                event_checksum(candidate.checksum, position, recorded),
            )
            for position, candidate in new
        ]
        values = list(chain.from_iterable(rows))
        insert_rows(self._connection, "INSERT INTO events", len(COLUMNS) + 1, values)


def _load(connection: apsw.Connection, wanted: Lookups, epoch: int) -> Loaded:
    [(head, recorded)] = all_rows(connection, "SELECT head, recorded FROM log")
    requests = _load_requests(connection, wanted.requests) if wanted.requests else []
    positions = [position for request in requests for position in request.positions]
    answers = read_rows(connection, positions, epoch)[0] if positions else []
    return Loaded(
        head=head,
        recorded=recorded,
        events=_load_events(connection, wanted.events, epoch) if wanted.events else (),
        requests=requests,
        answers={event.position: event for event in answers},
        catalog=load_catalog(connection, wanted.catalog),
    )


def _load_requests(connection: apsw.Connection, keys: Sequence[str]) -> list[RecordedRequest]:
    return [
        RecordedRequest(key, fingerprint, msgspec.json.decode(positions, type=list[int]))
        for key, fingerprint, positions in all_rows(connection, _REQUESTS, (json_text(keys),))
    ]


def _load_events(
    connection: apsw.Connection, identities: Sequence[tuple[str, str]], epoch: int
) -> list[Event]:
    """The events with these sources and producer's ids, without damaged ones."""
    pairs = json_text(identities)
    try:
        return events_of(one_value(connection, _EVENTS, (pairs,)), epoch)
    except BAD_ROW:
        positions = [row[0] for row in all_rows(connection, _POSITIONS, (pairs,))]
        return read_rows(connection, positions, epoch)[0]


_REQUESTS = """
SELECT r.key, r.fingerprint, r.positions
FROM json_each(?) AS key CROSS JOIN requests AS r ON r.key = key.value
"""

_PUT_REQUEST = """
INSERT INTO requests (key, fingerprint, positions, newest) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET positions = excluded.positions, newest = excluded.newest
"""

_OF_PAIRS = """
FROM json_each(?) AS pair
CROSS JOIN events AS e ON e.producer_id = pair.value ->> 1 AND e.source = pair.value ->> 0
"""

_EVENTS = f"SELECT {SELECTED} {_OF_PAIRS}"

_POSITIONS = f"SELECT e.position {_OF_PAIRS}"
