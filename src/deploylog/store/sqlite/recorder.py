"""The recorder: everything an append writes, for many requests in one transaction."""

from collections.abc import Callable, Sequence

import apsw
import msgspec

from deploylog.catalogue import change_of
from deploylog.cursor import event_id
from deploylog.errors import DeploylogError, RequestReused
from deploylog.events import Event, NewEvent, recorded_event
from deploylog.scope import Scope, prefixes
from deploylog.store.base import RequestKey
from deploylog.store.sqlite.catalogue import CatalogueWriter
from deploylog.store.sqlite.connection import all_rows, insert_rows, one_row, one_value
from deploylog.store.sqlite.rows import SELECTED, events_of, json_text, row_of

#: Positions in a span of times, as a power of two.
SPAN_BITS = 10

#: Scopes to remember the number of; deployments come and go.
_REMEMBERED_SCOPES = 50_000


class Append(msgspec.Struct, frozen=True):
    """What one request wants recorded."""

    events: Sequence[NewEvent]
    request: RequestKey | None = None


Outcome = list[Event] | DeploylogError


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
        #: The newest position this recorder has given.
        self.head = 0

    def record(self, appends: Sequence[Append]) -> list[Outcome]:
        """Record each append, whole or not at all."""
        batch = _Batch(self._connection, self._epoch, self._clock())
        batch.recall(appends)
        outcomes = [batch.admit(append) for append in appends]
        self._insert(batch.new)
        batch.catalogue.apply()
        self._connection.execute(
            "UPDATE log SET head = ?, recorded = ?", (batch.head, batch.recorded)
        )
        self.head = batch.head
        return outcomes

    def forget_numbers(self) -> None:
        """The transaction was rolled back: the scope numbers it gave are void."""
        self._scopes.clear()

    def _insert(self, events: Sequence[Event]) -> None:
        if not events:
            return
        connection = self._connection
        insert_rows(connection, "INSERT INTO events", [row_of(event) for event in events])
        postings = [
            (number, event.position) for event in events for number in self._scopes.of(event.scopes)
        ]
        # In the order of the table, so that neighbours land on the same page.
        insert_rows(connection, "INSERT INTO postings", sorted(postings))
        groups = [(group, event.position) for event in events for group in set(event.groups)]
        insert_rows(connection, "INSERT INTO event_groups", groups)
        self._insert_spans(events)

    def _insert_spans(self, events: Sequence[Event]) -> None:
        spans: dict[int, tuple[int, int]] = {}
        for event in events:
            block, time = event.position >> SPAN_BITS, event.time
            earliest, latest = spans.get(block, (time, time))
            spans[block] = (min(earliest, time), max(latest, time))
        for block, span in spans.items():
            self._connection.execute(_WIDEN_SPAN, (block, *span))


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

    def of(self, scopes: tuple[Scope, ...]) -> tuple[int, ...]:
        """The number of every prefix of ``scopes``; new ones get one."""
        known = self._of_scopes.get(scopes)
        if known is None:
            paths = dict.fromkeys(path for scope in scopes for path in prefixes(scope))
            known = tuple(self._number(path) for path in paths)
            if len(self._of_scopes) >= _REMEMBERED_SCOPES:
                self.clear()
            self._of_scopes[scopes] = known
        return known

    def clear(self) -> None:
        """Forget what is remembered; the table knows."""
        self._numbers.clear()
        self._of_scopes.clear()

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


class _Batch:
    """One transaction's appends: what the log knows already, and what it will know."""

    def __init__(self, connection: apsw.Connection, epoch: int, now: int) -> None:
        self._connection = connection
        self._epoch = epoch
        [(self.head, last)] = all_rows(connection, "SELECT head, recorded FROM log")
        # Ids rise with positions, also when the clock was set back.
        self.recorded = max(now, last)
        self.new: list[Event] = []
        self.catalogue = CatalogueWriter(connection)
        self._known: dict[tuple[str, str], Event] = {}

    def recall(self, appends: Sequence[Append]) -> None:
        """Look up, in one go, which of the events are recorded already."""
        pairs = [
            (event.source, event.producer_id)
            for append in appends
            for event in append.events
            if event.producer_id is not None
        ]
        if not pairs:
            return
        text = one_value(self._connection, _RECALL, (json_text(pairs),))
        for event in events_of(text, self._epoch):
            self._known[event.source, event.producer_id or ""] = event

    def admit(self, append: Append) -> Outcome:
        """The events of one append, each recorded before or to be recorded now."""
        try:
            earlier = self._earlier(append.request)
            return earlier if earlier is not None else self._admit(append)
        except DeploylogError as error:
            return error

    def _admit(self, append: Append) -> list[Event]:
        fresh: list[Event] = []
        seen: dict[tuple[str, str], Event] = {}
        answer: list[Event] = []
        for event in append.events:
            key = (event.source, event.producer_id) if event.producer_id is not None else None
            known = (self._known.get(key) or seen.get(key)) if key else None
            if known is None:
                known = self._place(event, self.head + len(fresh) + 1)
                fresh.append(known)
                if key:
                    seen[key] = known
            answer.append(known)
        self._accept(fresh, seen)
        self._remember(append.request, answer)
        return answer

    def _accept(self, fresh: list[Event], seen: dict[tuple[str, str], Event]) -> None:
        changes = [change for event in fresh if (change := change_of(event)) is not None]
        if changes:
            self.catalogue.admit(changes)
        self.new += fresh
        self.head += len(fresh)
        self._known |= seen

    def _place(self, event: NewEvent, position: int) -> Event:
        id = event_id(position=position, recorded=self.recorded, epoch=self._epoch)
        return recorded_event(event, position=position, id=id, recorded=self.recorded)

    def _earlier(self, request: RequestKey | None) -> list[Event] | None:
        if request is None:
            return None
        row = one_row(
            self._connection,
            "SELECT fingerprint, positions FROM requests WHERE key = ?",
            (request.key,),
        )
        if row is None:
            return None
        if row[0] != request.fingerprint:
            raise RequestReused
        text = one_value(self._connection, _RECORDED, (row[1],))
        events = {event.position: event for event in events_of(text, self._epoch)}
        events |= {event.position: event for event in self.new}
        return [events[position] for position in msgspec.json.decode(row[1], type=list[int])]

    def _remember(self, request: RequestKey | None, events: Sequence[Event]) -> None:
        if request is None:
            return
        positions = [event.position for event in events]
        self._connection.execute(
            "INSERT INTO requests (key, fingerprint, positions, newest) VALUES (?, ?, ?, ?)",
            (request.key, request.fingerprint, json_text(positions), max(positions, default=0)),
        )


_RECALL = f"""
SELECT {SELECTED}
FROM json_each(?) AS pair
CROSS JOIN events AS e ON e.producer_id = pair.value ->> 1 AND e.source = pair.value ->> 0
"""

_RECORDED = f"""
SELECT {SELECTED}
FROM json_each(?) AS position CROSS JOIN events AS e ON e.position = position.value
"""
