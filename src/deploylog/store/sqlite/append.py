"""Appends: what many requests record in one transaction, loaded, admitted and written."""

from collections.abc import Callable, Iterator, Sequence

import apsw
import msgspec

from deploylog.events.event import Event
from deploylog.events.index.identities import Identities, Placed
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
from deploylog.store.rows import json_text
from deploylog.store.sqlite.connection import all_rows
from deploylog.store.sqlite.deployments import load_catalog, write_catalog
from deploylog.store.sqlite.dictionary import Dictionary
from deploylog.store.sqlite.identities import SqliteIdentityRows, sealed_numbers
from deploylog.store.sqlite.pages import read_rows


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
        self._identities, self._rows = Identities(), SqliteIdentityRows(connection)
        self._dictionary = Dictionary(connection)

    def record(self, appends: Sequence[Append[PreparedEvent]]) -> tuple[list[Outcome], int]:
        """Record each append, whole or not at all, and return how many events are new."""
        now = self._clock()
        loaded = self._load(lookups(appends))
        admitted = admit(appends, loaded, now=now, prepare=prepare_event)
        self._write(admitted)
        self._identities.add(_placed(admitted.new), admitted.head)
        self.head = admitted.head
        self.fed = [(position, each.event.time, each.terms) for position, each in admitted.new]
        return admitted.outcomes, len(admitted.new)

    def learn(self) -> tuple[int, int]:
        """Learn what others have recorded; return the newest position and its time.

        An append does so itself, and takes longer the first time.
        """
        [(head, recorded, floor)] = all_rows(self._connection, _LOG)
        sealed = sealed_numbers(self._connection, floor)
        self._identities.catch_up(self._rows, sealed=sealed, floor=floor, head=head)
        self._dictionary.catch_up(head, floor)
        return head, recorded

    def _load(self, wanted: Lookups) -> Loaded:
        connection = self._connection
        head, recorded = self.learn()
        requests = _load_requests(connection, wanted.requests) if wanted.requests else []
        answers = [position for request in requests for position in request.positions]
        return Loaded(
            head=head,
            recorded=recorded,
            events=self._events_at(self._identities.find(wanted.digests, self._rows)),
            requests=requests,
            answers={event.position: event for event in self._events_at(answers)},
            catalog=load_catalog(connection, wanted.catalog),
        )

    def _events_at(self, positions: Sequence[int]) -> list[Event]:
        """The events at these positions, without pruned and damaged ones."""
        return read_rows(self._connection, positions, self._epoch)[0] if positions else []

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
        self._identities.forget_after(head)
        self._dictionary.forget()

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
        self._dictionary.insert(rows)


def _placed(new: Sequence[tuple[int, PreparedEvent]]) -> Iterator[Placed]:
    for position, candidate in new:
        if candidate.digest is not None:
            yield position, candidate.digest


def _load_requests(connection: apsw.Connection, keys: Sequence[str]) -> list[RecordedRequest]:
    return [
        RecordedRequest(key, fingerprint, msgspec.json.decode(positions, type=list[int]))
        for key, fingerprint, positions in all_rows(connection, _REQUESTS, (json_text(keys),))
    ]


_LOG = "SELECT head, recorded, floor FROM log"

_REQUESTS = """
SELECT r.key, r.fingerprint, r.positions
FROM json_each(?) AS key CROSS JOIN requests AS r ON r.key = key.value
"""

_PUT_REQUEST = """
INSERT INTO requests (key, fingerprint, positions, newest) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET positions = excluded.positions, newest = excluded.newest
"""
