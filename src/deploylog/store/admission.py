"""Admission: which events of an append are new, and what they change, decided without SQL.

A backend loads what ``lookups`` names, lets ``admit`` decide, and writes what is ``Admitted``: all
in one transaction that no other writer's overlaps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from deploylog.deployments.projection import (
    Change,
    DeploymentEnded,
    ResourceCounted,
    state_event_id,
)
from deploylog.errors import DeploylogError, RequestReused
from deploylog.events.event import SOURCE, Event, NewEvent, recorded_event
from deploylog.events.ids import event_id
from deploylog.events.index.identities import digest_of
from deploylog.events.scope import Scope
from deploylog.events.store import IdempotencyKey
from deploylog.store.catalog import (
    CatalogChanges,
    CatalogLookups,
    CatalogRows,
    CatalogWrites,
    catalog_lookups,
)

#: Source, producer's id and scopes. The scopes are what was authorized: who may write to one
#: project can neither use up the ids of another, nor learn which there are.
Identity = tuple[str, str, tuple[Scope, ...]]


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An event that may be new. A backend adds what it encodes before its transaction."""

    event: NewEvent
    #: Distinguishes a retry from another event.
    identity: Identity | None
    #: Of the identity, see ``digest_of``.
    digest: int | None
    change: Change | None


CandidateT = TypeVar("CandidateT", bound=Candidate)


class Append(msgspec.Struct, Generic[CandidateT], frozen=True):
    """What one request asks to record."""

    candidates: Sequence[CandidateT]
    request: IdempotencyKey | None = None


class Positioned(msgspec.Struct, frozen=True, gc=False):
    """A new event with its place in the log."""

    event: NewEvent
    position: int
    recorded: int


#: An event that was recorded before, or that is recorded now.
Entry = Event | Positioned

#: The events of an append in its order, or why none of them is recorded.
Outcome = list[Entry] | DeploylogError


def identity_of(event: NewEvent) -> Identity | None:
    """``None`` for an event that is new each time."""
    if event.producer_id is None:
        return None
    return (event.source, event.producer_id, event.scopes)


def digest_of_identity(identity: Identity | None) -> int | None:
    """See ``digest_of``."""
    return digest_of(identity[0], identity[1]) if identity is not None else None


def event_of(entry: Entry, epoch: int) -> Event:
    """The recorded event that ``entry`` stands for."""
    if isinstance(entry, Event):
        return entry
    position, recorded = entry.position, entry.recorded
    id = event_id(position=position, recorded=recorded, epoch=epoch)
    return recorded_event(entry.event, position=position, id=id, recorded=recorded)


class Lookups(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend loads to admit appends."""

    #: Of the source and the producer's id of events, see ``digest_of``.
    digests: Sequence[int]
    #: Keys of requests.
    requests: Sequence[str]
    catalog: CatalogLookups


class RecordedRequest(msgspec.Struct, frozen=True):
    """A request that recorded events, and the positions of those that answered it."""

    key: str
    fingerprint: bytes
    positions: Sequence[int]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that ``Lookups`` found."""

    #: The newest position, and when it was recorded (ns).
    head: int
    recorded: int
    #: Those that have one of the digests, and perhaps others. Without damaged events: a retry
    #: records them again.
    events: Sequence[Event]
    requests: Sequence[RecordedRequest]
    #: The events that answered these requests, by position, unless pruned or damaged.
    answers: Mapping[int, Event]
    catalog: CatalogRows


class Admitted(msgspec.Struct, Generic[CandidateT], frozen=True, kw_only=True):
    """What to write, and the outcome of each append."""

    outcomes: list[Outcome]
    #: The log's new head, and when its events are recorded (ns).
    head: int
    recorded: int
    #: New events by position, which rises.
    new: Sequence[tuple[int, CandidateT]]
    #: To be written over earlier ones of the same key.
    requests: Sequence[RecordedRequest]
    catalog: CatalogWrites


def lookups(appends: Sequence[Append[CandidateT]]) -> Lookups:
    """What decides about ``appends``."""
    candidates = [each for append in appends for each in append.candidates]
    digests = [each.digest for each in candidates if each.digest is not None]
    found = [each.change for each in candidates if each.change is not None]
    # Most changes are counts, and they need no lookup.
    changes = [change for change in found if not isinstance(change, ResourceCounted)]
    return Lookups(
        digests=digests + _state_events(changes),
        requests=[append.request.key for append in appends if append.request is not None],
        catalog=catalog_lookups(changes),
    )


def _state_events(changes: Sequence[Change]) -> list[int]:
    """The events that are recorded if a deployment ends."""
    return [
        digest_of(SOURCE, state_event_id(change.place.deployment_id))
        for change in changes
        if isinstance(change, DeploymentEnded) and change.place.deployment_id is not None
    ]


def admit(
    appends: Sequence[Append[CandidateT]],
    loaded: Loaded,
    *,
    now: int,
    prepare: Callable[[NewEvent], CandidateT],
) -> Admitted[CandidateT]:
    """Decide about each append, whole or not at all, at ``now`` (ns).

    ``prepare`` turns the events that follow from the appended ones into candidates. They get the
    last positions.
    """
    admission = _Admission[CandidateT](loaded, now)
    outcomes = [admission.admit(append) for append in appends]
    admission.add([prepare(event) for event in admission.catalog.apply()])
    return Admitted(
        outcomes=outcomes,
        head=admission.head,
        recorded=admission.recorded,
        new=admission.new,
        requests=admission.requests,
        catalog=admission.catalog.writes(),
    )


class _Admission(Generic[CandidateT]):
    """The appends of one transaction: what is recorded already, and what will be."""

    def __init__(self, loaded: Loaded, now: int) -> None:
        self.head = loaded.head
        # Ids rise with positions, also when the clock was set back.
        self.recorded = max(now, loaded.recorded)
        self.new: list[tuple[int, CandidateT]] = []
        self.requests: list[RecordedRequest] = []
        self.catalog = CatalogChanges(loaded.catalog)
        self._known: dict[Identity, Entry] = {
            identity: event for event in loaded.events if (identity := identity_of(event))
        }
        #: By key, the fingerprint of each request and the entries that answer it, by place in it.
        self._answers: dict[str, tuple[bytes, dict[int, Entry]]] = {
            each.key: (each.fingerprint, _answer_of(each, loaded.answers))
            for each in loaded.requests
        }

    def admit(self, append: Append[CandidateT]) -> Outcome:
        """The entries of one append, recorded before or now; an error when none is recorded."""
        try:
            return self._admit(append)
        except DeploylogError as error:
            return error

    def add(self, candidates: Sequence[CandidateT]) -> None:
        """Record events whose changes the catalog has applied already."""
        fresh, seen, _ = self._place(candidates, {})
        self._accept(fresh, seen)

    def _admit(self, append: Append[CandidateT]) -> list[Entry]:
        earlier = self._earlier(append.request)
        fresh, seen, answer = self._place(append.candidates, earlier or {})
        changes = [each.change for _, each in fresh if each.change is not None]
        if changes:
            self.catalog.admit(changes)
        self._accept(fresh, seen)
        if append.request is not None and (fresh or earlier is None):
            self._remember(append.request, answer)
        return answer

    def _earlier(self, request: IdempotencyKey | None) -> dict[int, Entry] | None:
        """What the same request recorded before, by place in it; raises RequestReused.

        An event that was pruned since is missing, and recorded again.
        """
        if request is None or request.key not in self._answers:
            return None
        fingerprint, entries = self._answers[request.key]
        if fingerprint != request.fingerprint:
            raise RequestReused
        return entries

    def _place(
        self, candidates: Sequence[CandidateT], earlier: Mapping[int, Entry]
    ) -> tuple[list[tuple[int, CandidateT]], dict[Identity, Entry], list[Entry]]:
        """The new ones with their positions, the entries of those by identity, and all entries."""
        fresh: list[tuple[int, CandidateT]] = []
        seen: dict[Identity, Entry] = {}
        entries: list[Entry] = []
        position = self.head
        for place, candidate in enumerate(candidates):
            identity = candidate.identity
            entry = (self._known.get(identity) or seen.get(identity)) if identity else None
            if entry is None and earlier:
                entry = earlier.get(place)
            if entry is None:
                position += 1
                entry = Positioned(candidate.event, position, self.recorded)
                fresh.append((position, candidate))
                if identity:
                    seen[identity] = entry
            entries.append(entry)
        return fresh, seen, entries

    def _accept(
        self, fresh: Sequence[tuple[int, CandidateT]], seen: Mapping[Identity, Entry]
    ) -> None:
        self.new += fresh
        self.head += len(fresh)
        self._known |= seen

    def _remember(self, request: IdempotencyKey, answer: Sequence[Entry]) -> None:
        self._answers[request.key] = (request.fingerprint, dict(enumerate(answer)))
        positions = [entry.position for entry in answer]
        self.requests.append(RecordedRequest(request.key, request.fingerprint, positions))


def _answer_of(request: RecordedRequest, events: Mapping[int, Event]) -> dict[int, Entry]:
    return {
        place: events[position]
        for place, position in enumerate(request.positions)
        if position in events
    }
