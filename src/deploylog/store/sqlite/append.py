"""Appends: what many requests record in one transaction, loaded, admitted and written."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, groupby, repeat

import apsw
import msgspec

from deploylog.deployments.projection import project
from deploylog.events.event import Event, NewEvent
from deploylog.events.scope import Scope, prefixes
from deploylog.store.admission import (
    Admitted,
    Append,
    Candidate,
    Loaded,
    Lookups,
    Outcome,
    RecordedRequest,
    admit,
    identity_of,
    lookups,
)
from deploylog.store.sqlite.checksums import content_checksum, event_checksum
from deploylog.store.sqlite.connection import SqlValue, all_rows, insert_rows, one_value
from deploylog.store.sqlite.deployments import load_catalog, write_catalog
from deploylog.store.sqlite.pages import BAD_ROW, read_rows
from deploylog.store.sqlite.rows import COLUMNS, SELECTED, Values, events_of, json_text, values_of

#: Positions in a span of times, as a power of two.
SPAN_BITS = 10

#: Scopes to remember the number of; deployments come and go.
_REMEMBERED_SCOPES = 50_000

#: Characters of them.
_REMEMBERED_CHARACTERS = 16 * 1024 * 1024


class PreparedEvent(Candidate, frozen=True, gc=False):
    """A candidate with its row.

    The thread that writes is the busiest one: what needs neither position nor connection is
    done before it gets the event, and after.
    """

    values: Values
    #: The checksum of the values.
    checksum: int


def prepare_event(event: NewEvent) -> PreparedEvent:
    """Prepare ``event``; raises InvalidEvent when the catalog cannot use it."""
    values = values_of(event)
    return PreparedEvent(
        event, identity_of(event), project(event), values, content_checksum(values)
    )


class Recorder:
    """Records appends within a transaction that its caller begins and commits."""

    def __init__(
        self, connection: apsw.Connection, *, epoch: int, clock: Callable[[], int]
    ) -> None:
        """``clock`` gives ns since 1970."""
        self._connection = connection
        self._epoch = epoch
        self._clock = clock
        self._scopes = ScopeNumbers(connection)
        #: The newest position this recorder has given, ahead of the log within a transaction.
        self.head = 0

    def record(self, appends: Sequence[Append[PreparedEvent]]) -> tuple[list[Outcome], int]:
        """Record each append, whole or not at all, and return how many events are new."""
        now = self._clock()
        loaded = _load(self._connection, lookups(appends), self._epoch)
        admitted = admit(appends, loaded, now=now, prepare=prepare_event)
        self._write(admitted)
        self.head = admitted.head
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
        """The transaction was rolled back: what it gave is void, and ``head`` is the newest."""
        self._scopes.clear()
        self.head = head

    def _insert(self, new: Sequence[tuple[int, PreparedEvent]], recorded: int) -> None:
        if not new:
            return
        rows = [
            (position, recorded, *draft.values, event_checksum(draft.checksum, position, recorded))
            for position, draft in new
        ]
        insert = partial(insert_rows, self._connection)
        insert("INSERT INTO events", len(COLUMNS) + 1, list(chain.from_iterable(rows)))
        insert("INSERT INTO postings", 2, self._postings(new))
        groups = [(g, position) for position, draft in new for g in set(draft.event.groups)]
        insert("INSERT INTO event_groups", 2, list(chain.from_iterable(groups)))
        self._insert_spans(new)

    def _postings(self, new: Sequence[tuple[int, PreparedEvent]]) -> list[SqlValue]:
        """In the order of the table, so that neighbours land on the same page."""
        positions: dict[int, list[int]] = {}
        for scopes, group in groupby(new, _scopes_of):
            together = [position for position, _ in group]
            for number in self._scopes.of(scopes):
                positions.setdefault(number, []).extend(together)
        values: list[SqlValue] = []
        for number in sorted(positions):
            values += chain.from_iterable(zip(repeat(number), positions[number]))
        return values

    def _insert_spans(self, new: Sequence[tuple[int, PreparedEvent]]) -> None:
        for block, group in groupby(new, lambda placed: placed[0] >> SPAN_BITS):
            times = [draft.event.time for _, draft in group]
            self._connection.execute(_WIDEN_SPAN, (block, min(times), max(times)))


def _scopes_of(placed: tuple[int, PreparedEvent]) -> tuple[Scope, ...]:
    return placed[1].event.scopes


_WIDEN_SPAN = """
INSERT INTO spans (block, earliest, latest) VALUES (?, ?, ?)
ON CONFLICT (block) DO UPDATE SET
    earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)
"""


class ScopeNumbers:
    """The numbers that stand for scopes in the postings."""

    def __init__(self, connection: apsw.Connection) -> None:
        """``connection`` is the writing one."""
        self._connection = connection
        self._numbers: dict[Scope, int] = {}
        self._of_scopes: dict[tuple[Scope, ...], tuple[int, ...]] = {}
        self._characters = 0

    def of(self, scopes: tuple[Scope, ...]) -> tuple[int, ...]:
        """The number of every prefix of ``scopes``; new ones get one."""
        known = self._of_scopes.get(scopes)
        if known is None:
            paths = dict.fromkeys(path for scope in scopes for path in prefixes(scope))
            known = tuple(self._number(path) for path in paths)
            if (
                len(self._of_scopes) >= _REMEMBERED_SCOPES
                or self._characters >= _REMEMBERED_CHARACTERS
            ):
                self.clear()
            self._of_scopes[scopes] = known
            self._characters += sum(map(len, paths))
        return known

    def clear(self) -> None:
        """Forget what is remembered; the table knows."""
        self._numbers.clear()
        self._of_scopes.clear()
        self._characters = 0

    def _number(self, path: Scope) -> int:
        number = self._numbers.get(path)
        if number is None:
            number = self._look_up(path)
            self._numbers[path] = number
        return number

    def _look_up(self, path: Scope) -> int:
        self._connection.execute(
            "INSERT INTO scopes (path) VALUES (?) ON CONFLICT (path) DO NOTHING", (path,)
        )
        sql = "SELECT scope_id FROM scopes WHERE path = ?"
        return int(one_value(self._connection, sql, (path,)))


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
    """The events of these sources and producer's ids, in one go; damaged ones are left out."""
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
