"""The contract for the event log."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from deploylog.events.access import ALL, Visibility
from deploylog.events.event import Event, NewEvent
from deploylog.events.facets import Facets
from deploylog.events.filters import EVERYTHING, Field, Filter
from deploylog.events.index.trace import Trace
from deploylog.events.scope import ROOT, Scope

#: Approximate bytes of events that one read returns; it returns at least one event.
PAGE_BYTES = 8 * 1024 * 1024


#: What a read is for. A ``lookup`` is cheap, and others wait for it: a credential, what an append
#: needs, the live tail. A ``query`` serves one request and has a deadline. Streams and deliveries
#: catch up in the ``background``, without a deadline.
Purpose = Literal["lookup", "query", "background"]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which events, in which order."""

    scope: Scope = ROOT
    filter: Filter = EVERYTHING
    visibility: Visibility = ALL
    #: Positions, both exclusive.
    after: int | None = None
    before: int | None = None
    order: Literal["newest", "oldest"] = "newest"
    limit: int = 100
    #: Approximate bytes of events. The first event is returned whatever its size.
    bytes: int = PAGE_BYTES
    purpose: Purpose = "query"
    #: The ``Principal.identity`` whose share of the readers it uses; empty for the service itself.
    caller: str = ""


#: How many damaged events one read reports.
MAX_DAMAGED = 1_000


class Damaged(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the log that cannot be read as it was recorded."""

    position: int
    #: Its id, with a wrong time when that is damaged too. A valid cursor in any case.
    id: str
    #: ``checksum``: the content differs from what was recorded. ``unreadable``: the content is not
    #: UTF-8 or JSON, or the database cannot read it.
    reason: Literal["checksum", "unreadable"]


class Page(list[Event]):
    """The events of one read, in the order of its query, and where the read ended."""

    def __init__(
        self,
        events: Iterable[Event] = (),
        *,
        next: int | None = None,
        damaged: Sequence[Damaged] = (),
        size: int = 0,
    ) -> None:
        """A reader must not infer ``next`` and ``damaged`` from the events."""
        super().__init__(events)
        #: The position to continue from, as the next query's ``after`` or ``before``; ``None`` on
        #: the last page. A page with fewer events than its limit, even an empty one, may have a
        #: ``next``, and a full page may be the last.
        self.next = next
        #: The damaged events among them, in the same order. They do not count towards the limit.
        self.damaged = tuple(damaged)
        #: Approximate bytes of the events.
        self.size = size


def following(query: Query, position: int) -> Query:
    """``query`` for the events after ``position`` in its order."""
    if query.order == "oldest":
        return msgspec.structs.replace(query, after=position)
    return msgspec.structs.replace(query, before=position)


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies a request, so that a retry does not record it again."""

    key: str
    #: A digest of the request, to distinguish a retry from another request with the same key.
    fingerprint: bytes


class EventLog(Protocol):
    """One totally ordered log of events."""

    @property
    def epoch(self) -> int:
        """A random number drawn when the log was created; part of every event id."""
        ...

    async def append(
        self, events: Sequence[NewEvent], *, request: IdempotencyKey | None = None
    ) -> list[Event]:
        """Record all of ``events`` or none, durably, and return them with positions.

        An event whose ``source``, ``producer_id`` and scopes are in the log already is not
        recorded again: the recorded event is returned in its place, as long as it is retained.
        Likewise, a retry of ``request`` returns what the request recorded. Raises RequestReused
        when the request has another fingerprint.

        Once a reader has seen position N, no event appears at or below N. Raises StackExists when
        a ``stack.created`` takes the name of an existing stack, InvalidEvent when a deployment
        starts in an unknown stack.

        When a deployment ends, the same commit records one more event, which is not returned:
        what the deployment did to its state. See ``deployments.projection.state_event``.
        """
        ...

    async def read(self, query: Query) -> Page:
        """The first events that match ``query``: up to ``limit``, or fewer when they would exceed
        ``Query.bytes``.

        Only ``Page.next`` says whether there are more. A damaged event is listed in
        ``Page.damaged`` and does not prevent reading the others.
        """
        ...

    async def count(self, query: Query) -> int:
        """How many events match ``query``, whatever its limit."""
        ...

    async def facets(self, query: Query, field: Field, top: int) -> Facets:
        """The ``top`` most frequent values of a field among the events that match ``query``."""
        ...

    async def histogram(self, query: Query, edges: Sequence[int]) -> list[int]:
        """How many of the events that match ``query`` happened between each two of the ``edges``.

        Edges are times in ns and rise. The first is included, the second is not.
        """
        ...

    async def explain(self, query: Query) -> Trace:
        """Read ``query``, and return how it was answered."""
        ...

    async def get(self, position: int) -> Event:
        """The event at ``position``. Raises EventNotFound or EventDamaged."""
        ...

    async def head(self) -> int:
        """The newest position; 0 when the log has never had an event."""
        ...

    async def floor(self) -> int:
        """The position up to which events were pruned; 0 before the first pruning."""
        ...

    async def position_before(self, recorded: int) -> int:
        """The newest position that was recorded before this time (ns), or the floor."""
        ...

    async def prune(self, recorded_before: int) -> int:
        """Delete the events that were recorded before this time (ns); return how many.

        Stacks and deployments stay in the catalog.
        """
        ...

    async def add_checksums(self) -> bool:
        """Add checksums to some of the events that lack one; return whether more lack one.

        Events lack a checksum when a version without checksums recorded them.
        """
        ...

    def heads(self) -> AsyncIterator[int]:
        """Yield the head now, and each time that any process moves it.

        Raises LogReset once events that this process has seen are gone: the log has a new epoch,
        and the store must be opened again.
        """
        ...
