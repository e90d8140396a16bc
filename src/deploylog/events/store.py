"""What a log of events keeps and answers."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from deploylog.events.access import ALL, Visibility
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import EVERYTHING, Filter
from deploylog.events.scope import ROOT, Scope

#: Bytes of events that one read returns, about; it returns at least one event.
PAGE_BYTES = 8 * 1024 * 1024


#: What a read is for. Others wait for a ``lookup``, which is cheap by its nature: a credential,
#: what an append needs, the live tail. A ``query`` is a request's own, with a deadline. What
#: streams and deliveries catch up with is in the ``background``, and may take its time.
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
    #: Bytes of events, about; the first event is returned whatever its size.
    bytes: int = PAGE_BYTES
    purpose: Purpose = "query"
    #: Whose share of the readers it takes, ``Principal.identity``; empty for the service's own.
    caller: str = ""


#: Damaged events that one read names.
MAX_DAMAGED = 1_000


class Damaged(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is in the log, and cannot be read as it was recorded."""

    position: int
    #: Its id, unless the time in it is damaged too; good as a cursor in any case.
    id: str
    #: ``checksum``: the content is not the one that was recorded. ``unreadable``: the content is
    #: not UTF-8 or JSON, or SQLite cannot read it.
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
        """``next`` and ``damaged`` are what a reader must not infer from the events."""
        super().__init__(events)
        #: The position to go on from, as the next query's ``after`` or ``before``. ``None`` when
        #: nothing is left. A page with fewer events than its limit, or none, may have a ``next``;
        #: and nothing may come after a full one.
        self.next = next
        #: The damaged events among them, in the same order. They do not count for the limit.
        self.damaged = tuple(damaged)
        #: Bytes that the events take, about.
        self.size = size


def following(query: Query, position: int) -> Query:
    """``query`` for what comes after ``position`` in its order."""
    if query.order == "oldest":
        return msgspec.structs.replace(query, after=position)
    return msgspec.structs.replace(query, before=position)


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """Names one request, so that its retry is not recorded again."""

    key: str
    #: A digest of what was asked, to tell a retry from another request under the same key.
    fingerprint: bytes


class EventLog(Protocol):
    """One totally ordered log of events."""

    @property
    def epoch(self) -> int:
        """Drawn when the log was made; part of every id."""
        ...

    async def append(
        self, events: Sequence[NewEvent], *, request: IdempotencyKey | None = None
    ) -> list[Event]:
        """Record all of ``events`` or none, durably, and return them with positions.

        An event whose ``source`` and ``producer_id`` are in the log already, in the same scopes,
        is not recorded again: the event first recorded under them comes back instead, for as
        long as it is retained. So does everything that ``request`` recorded when it came
        before; with another fingerprint it raises RequestReused.

        Once a reader has seen position N, no event appears at or below N. Raises StackExists
        when a ``stack.created`` takes the name of a stack that exists, InvalidEvent when a
        deployment starts in an unknown stack.

        A deployment that ends records one event more, in the same commit and not in the
        answer: what it did to its state, see ``deployments.projection.state_event``.
        """
        ...

    async def read(self, query: Query) -> Page:
        """The first events that ``query`` asks for: ``limit`` of them at most, and fewer when
        they would take more than ``Query.bytes``.

        Only ``Page.next`` tells whether there are more. A damaged event is named in
        ``Page.damaged`` and the others come all the same.
        """
        ...

    async def get(self, position: int) -> Event:
        """The event at ``position``; raises EventNotFound, or EventDamaged."""
        ...

    async def head(self) -> int:
        """The newest position; 0 when nothing was ever recorded."""
        ...

    async def floor(self) -> int:
        """Everything at or below this position is no longer retained; 0 at first."""
        ...

    async def position_before(self, recorded: int) -> int:
        """The newest position recorded before this time (ns), or the floor."""
        ...

    async def prune(self, recorded_before: int) -> int:
        """Forget the events recorded before this time (ns); return how many.

        Stacks and deployments stay in the catalogue.
        """
        ...

    async def add_checksums(self) -> bool:
        """Give some of the events without a checksum theirs, and return whether some are left.

        Events have none that were recorded before there were any.
        """
        ...

    def heads(self) -> AsyncIterator[int]:
        """Yield the head now, and again whenever it has moved, whichever process moved it."""
        ...
