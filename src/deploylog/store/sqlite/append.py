"""The recorder: everything an append writes, for many requests in one transaction."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, groupby, repeat

import apsw
import msgspec

from deploylog.deployments.projection import Change, project
from deploylog.errors import DeploylogError, RequestReused
from deploylog.events.event import Event, NewEvent, recorded_event
from deploylog.events.ids import event_id
from deploylog.events.scope import Scope, prefixes
from deploylog.events.store import IdempotencyKey
from deploylog.store.sqlite.checksums import content_checksum, event_checksum
from deploylog.store.sqlite.connection import SqlValue, all_rows, insert_rows, one_row, one_value
from deploylog.store.sqlite.deployments import CatalogWriter
from deploylog.store.sqlite.pages import BAD_ROW, read_rows
from deploylog.store.sqlite.rows import COLUMNS, SELECTED, Values, events_of, json_text, values_of

#: Positions in a span of times, as a power of two.
SPAN_BITS = 10

#: Scopes to remember the number of; deployments come and go.
_REMEMBERED_SCOPES = 50_000

#: Characters of them.
_REMEMBERED_CHARACTERS = 16 * 1024 * 1024


#: Source, producer's id and scopes. The scopes are what was authorised: whoever may write one
#: project can neither use up the ids of another, nor learn which there are.
Key = tuple[str, str, tuple[Scope, ...]]


class PreparedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event made ready to be recorded.

    The thread that writes is the busiest one: what needs neither position nor connection is
    done before it gets to see the event, and after.
    """

    event: NewEvent
    #: What tells a retry from another event.
    key: Key | None
    values: Values
    #: The checksum of the values.
    checksum: int
    change: Change | None


def prepare_event(event: NewEvent) -> PreparedEvent:
    """Make ``event`` ready; raises InvalidEvent when the catalogue cannot use it."""
    values = values_of(event)
    return PreparedEvent(event, _key_of(event), values, content_checksum(values), project(event))


def _key_of(event: NewEvent) -> Key | None:
    if event.producer_id is None:
        return None
    return (event.source, event.producer_id, event.scopes)


class Append(msgspec.Struct, frozen=True):
    """What one request wants recorded."""

    drafts: Sequence[PreparedEvent]
    request: IdempotencyKey | None = None


class Positioned(msgspec.Struct, frozen=True, gc=False):
    """A new event's place."""

    event: NewEvent
    position: int
    recorded: int


#: An event as it was recorded before, or where it is recorded now.
Entry = Event | Positioned

Outcome = list[Entry] | DeploylogError


def event_of(entry: Entry, epoch: int) -> Event:
    """The recorded event that ``entry`` stands for."""
    if isinstance(entry, Event):
        return entry
    position, recorded = entry.position, entry.recorded
    id = event_id(position=position, recorded=recorded, epoch=epoch)
    return recorded_event(entry.event, position=position, id=id, recorded=recorded)


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

    def record(self, appends: Sequence[Append]) -> tuple[list[Outcome], int]:
        """Record each append, whole or not at all; and how many events are new."""
        batch = _Batch(self._connection, self._epoch, self._clock())
        batch.load_duplicates(appends)
        outcomes = [batch.admit(append) for append in appends]
        batch.tell(batch.catalogue.apply())
        self._insert(batch.new, batch.recorded)
        self._connection.execute(
            "UPDATE log SET head = ?, recorded = ?", (batch.head, batch.recorded)
        )
        self.head = batch.head
        return outcomes, len(batch.new)

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


class _Batch:
    """One transaction's appends: what the log knows already, and what it will know."""

    def __init__(self, connection: apsw.Connection, epoch: int, now: int) -> None:
        self._connection = connection
        self._epoch = epoch
        [(self.head, last)] = all_rows(connection, "SELECT head, recorded FROM log")
        # Ids rise with positions, also when the clock was set back.
        self.recorded = max(now, last)
        self.new: list[tuple[int, PreparedEvent]] = []
        self.catalogue = CatalogWriter(connection)
        self._known: dict[Key, Entry] = {}

    def load_duplicates(self, appends: Sequence[Append]) -> None:
        """Look up, in one go, which of the events are recorded already."""
        keys = [draft.key[:2] for append in appends for draft in append.drafts if draft.key]
        if not keys:
            return
        for event in self._events(_RECALL, _RECALLED, json_text(keys)):
            if key := _key_of(event):
                self._known[key] = event

    def admit(self, append: Append) -> Outcome:
        """The events of one append, each recorded before or to be recorded now."""
        try:
            return self._admit(append, self._earlier(append.request))
        except DeploylogError as error:
            return error

    def tell(self, events: Sequence[NewEvent]) -> None:
        """Record, after all others, what the log itself has to say of them."""
        if events:
            own = Append([prepare_event(event) for event in events])
            self.load_duplicates([own])
            self._admit(own, None)
            self.catalogue.apply()

    def _admit(self, append: Append, earlier: dict[int, Entry] | None) -> list[Entry]:
        """``earlier`` is what the same request recorded before, by place in the request."""
        fresh: list[tuple[int, PreparedEvent]] = []
        seen: dict[Key, Entry] = {}
        answer: list[Entry] = []
        position = self.head
        for place, draft in enumerate(append.drafts):
            key = draft.key
            entry = (self._known.get(key) or seen.get(key)) if key else None
            if entry is None and earlier is not None:
                entry = earlier.get(place)
            if entry is None:
                position += 1
                entry = Positioned(draft.event, position, self.recorded)
                fresh.append((position, draft))
                if key:
                    seen[key] = entry
            answer.append(entry)
        self._accept(fresh, seen)
        if append.request is not None and (fresh or earlier is None):
            self._remember(append.request, answer)
        return answer

    def _accept(self, fresh: list[tuple[int, PreparedEvent]], seen: dict[Key, Entry]) -> None:
        changes = [draft.change for _, draft in fresh if draft.change is not None]
        if changes:
            self.catalogue.admit(changes)
        self.new += fresh
        self.head += len(fresh)
        self._known.update(seen)

    def _earlier(self, request: IdempotencyKey | None) -> dict[int, Entry] | None:
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
        found = self._events(_RECORDED, _POSITIONS, row[1])
        entries: dict[int, Entry] = {event.position: event for event in found}
        entries |= {p: Positioned(draft.event, p, self.recorded) for p, draft in self.new}
        positions = enumerate(msgspec.json.decode(row[1], type=list[int]))
        # What was forgotten since is missing here, and recorded anew.
        return {place: entries[p] for place, p in positions if p in entries}

    def _events(self, sql: str, positions: str, asked: str) -> list[Event]:
        """The events of ``sql``, or of ``positions`` if one of them is damaged.

        One that is damaged is as good as never recorded: its retry brings it back.
        """
        try:
            return events_of(one_value(self._connection, sql, (asked,)), self._epoch)
        except BAD_ROW:
            found = [row[0] for row in all_rows(self._connection, positions, (asked,))]
            return read_rows(self._connection, found, self._epoch)[0]

    def _remember(self, request: IdempotencyKey, answer: Sequence[Entry]) -> None:
        positions = [entry.position for entry in answer]
        self._connection.execute(
            _REMEMBER,
            (request.key, request.fingerprint, json_text(positions), max(positions, default=0)),
        )


_REMEMBER = """
INSERT INTO requests (key, fingerprint, positions, newest) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET positions = excluded.positions, newest = excluded.newest
"""

_OF_KEYS = """
FROM json_each(?) AS pair
CROSS JOIN events AS e ON e.producer_id = pair.value ->> 1 AND e.source = pair.value ->> 0
"""

_RECALL = f"SELECT {SELECTED} {_OF_KEYS}"

_RECALLED = f"SELECT e.position {_OF_KEYS}"

_AT_POSITIONS = """
FROM json_each(?) AS position CROSS JOIN events AS e ON e.position = position.value
"""

_RECORDED = f"SELECT {SELECTED} {_AT_POSITIONS}"

_POSITIONS = f"SELECT e.position {_AT_POSITIONS}"
