"""Lanes: which events a subscription still has to deliver, in which order, and when. Pure.

Events of one lane wait for one another. What failed holds up its lane only; what waits behind it is
*held*: kept as pending, so that the checkpoint can pass it.
"""

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from heapq import heappop, heappush

import msgspec

from deploylog.deployments.catalog import deployment_ref
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event, size_of
from deploylog.events.scope import ROOT, Scope, deployment_scope
from deploylog.subscriptions.delivery import retry as schedule
from deploylog.subscriptions.subscription import REDELIVERED, Order, Pending

#: Events that wait in memory, and that are kept as pending, before no more are read.
MOST_WAITING = 1_000

#: Bytes of them, about.
MOST_BYTES = 16 * 1024 * 1024

#: Lanes whose newest event is remembered.
_REMEMBERED = 10_000


class Place(msgspec.Struct, frozen=True):
    """Position and id of an event."""

    position: int
    id: str


class QueuedEvent(msgspec.Struct, kw_only=True):
    """An event that is to be delivered."""

    event: Event
    #: The event before it in its lane, if that is remembered.
    previous: Place | None = None
    #: Positions, both exclusive, between which events before it are no longer retained.
    gap: tuple[int, int] | None = None
    tries: int = 0
    #: When it was first tried, in ns since 1970.
    first: int | None = None
    #: Whether the store keeps it as pending.
    is_kept: bool = False


class QueuedBatch(msgspec.Struct, frozen=True):
    """Events of one lane that go out in one request."""

    lane: str
    items: tuple[QueuedEvent, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """In the order of the log."""
        return tuple(item.event for item in self.items)


class _Lane:
    """One lane's queue. Nobody else touches its first events while it is busy."""

    def __init__(self) -> None:
        self.queue: deque[QueuedEvent] = deque()
        self.busy = False
        #: When its first event may be tried, in ns.
        self.due = 0
        #: Of its entries among those that wait, the one that counts.
        self.ticket = 0

    @property
    def is_blocked(self) -> bool:
        return bool(self.queue) and self.queue[0].tries > 0


@lru_cache(maxsize=512)
def _lane_of(scopes: tuple[Scope, ...]) -> Scope:
    """The deployment, or the first scope of what is in none."""
    place = deployment_ref(scopes)
    if place is None or place.deployment_id is None:
        return scopes[0]
    return deployment_scope(place.project, place.stack_id, place.deployment_id)


class DeliveryQueue:
    """What a subscription has to deliver."""

    def __init__(self, order: Order, checkpoint: int) -> None:
        """Everything after ``checkpoint`` is still to be added."""
        self._order = order
        self._lanes: dict[str, _Lane] = {}
        #: Lanes that may be tried, in turn, and those that have to wait: when, ticket, name.
        self._ready: dict[str, None] = {}
        self._later: list[tuple[int, int, str]] = []
        self._tickets = 0
        #: Positions that are neither finished nor kept, in order, and those of them that still are.
        self._opened: deque[int] = deque()
        self._open: set[int] = set()
        self._kept = 0
        self._bytes = 0
        self._seen = checkpoint
        self._previous: BoundedMap[str, Place] = BoundedMap(_REMEMBERED)
        self._held: list[Pending] = []

    @property
    def checkpoint(self) -> int:
        """Everything at or below it is finished or kept as pending."""
        while self._opened and self._opened[0] not in self._open:
            self._opened.popleft()
        return self._opened[0] - 1 if self._opened else self._seen

    @property
    def has_room(self) -> bool:
        """Whether more may be added."""
        waits = len(self._open) < MOST_WAITING and self._kept < MOST_WAITING
        return waits and self._bytes < MOST_BYTES

    @property
    def next_due(self) -> int | None:
        """When the next lane may be tried, in ns; ``None`` when none waits."""
        if self._ready:
            return 0
        self._tidy()
        return self._later[0][0] if self._later else None

    def add(self, event: Event, *, gap: tuple[int, int] | None = None) -> None:
        """The next event of the log, after a ``gap`` if there is one."""
        name = self.name_of(event)
        lane = self._lane(name)
        item = QueuedEvent(event=event, previous=self._previous.get(name), gap=gap)
        self._previous.put(name, Place(event.position, event.id))
        self._bytes += size_of(event)
        self._opened.append(event.position)
        self._open.add(event.position)
        lane.queue.append(item)
        if lane.is_blocked and len(lane.queue) > 1:
            self._hold(name, [item])
        elif not lane.busy and len(lane.queue) == 1:
            self._wait(name, lane)

    def restore(self, event: Event, pending: Pending) -> None:
        """An event that the store keeps as pending; in the order of the log."""
        name = pending.lane
        if not name.startswith(REDELIVERED):
            # It may have been kept while the order was another.
            name = self.name_of(event)
        lane = self._lane(name)
        lane.queue.append(
            QueuedEvent(event=event, tries=pending.tries, first=pending.first, is_kept=True)
        )
        self._kept += 1
        self._bytes += size_of(event)
        if len(lane.queue) == 1:
            lane.due = pending.due
            self._wait(name, lane)

    def advance(self, position: int) -> None:
        """Nothing more is to be added up to this position."""
        self._seen = max(self._seen, position)

    def waiting(self, lane: str) -> int:
        """How many events wait in a lane."""
        return len(self._lanes[lane].queue)

    def next_lane(self, now: int) -> str | None:
        """A lane that may be tried at ``now``, if there is one; each has its turn."""
        self._tidy()
        while self._later and self._later[0][0] <= now:
            self._ready[heappop(self._later)[2]] = None
            self._tidy()
        return next(iter(self._ready), None)

    def first_lane(self) -> str | None:
        """The lane that comes first, whether it may be tried yet or not."""
        self._tidy()
        if self._ready:
            return next(iter(self._ready))
        return self._later[0][2] if self._later else None

    def take(self, name: str, number: int) -> QueuedBatch:
        """The first events of a lane, at most ``number``; it is busy until they are settled."""
        lane = self._lanes[name]
        lane.busy, lane.ticket = True, 0
        self._ready.pop(name, None)
        items = [lane.queue[place] for place in range(min(number, len(lane.queue)))]
        if items[0].tries:
            # What is tried again goes as it went before, and nothing new is drawn into it.
            items = [item for item in items if item.tries] or items[:1]
        return QueuedBatch(name, tuple(items))

    def finish(self, parcel: QueuedBatch) -> tuple[int, ...]:
        """The parcel is settled for good; the positions that the store need not keep any longer."""
        lane = self._lanes[parcel.lane]
        for item in parcel.items:
            lane.queue.popleft()
            self._bytes -= size_of(item.event)
            self._open.discard(item.event.position)
        kept = tuple(item.event.position for item in parcel.items if item.is_kept)
        self._kept -= len(kept)
        self._free(parcel.lane, lane, due=0)
        return kept

    def fail(
        self, parcel: QueuedBatch, *, now: int, due: int, began: int, error: str
    ) -> tuple[Pending, ...]:
        """The parcel did not arrive and is tried again at ``due``: what the store is to keep."""
        for item in parcel.items:
            item.tries += 1
            item.first = item.first if item.first is not None else began
        lane, name = self._lanes[parcel.lane], parcel.lane
        if self._is_held_up_too_long(parcel, now):
            name = self._set_aside(parcel, lane, due)
        else:
            self._free(name, lane, due=due)
            if self._order == "per_deployment":
                self._hold(name, list(lane.queue)[len(parcel.items) :])
        for item in parcel.items:
            self._keep(item)
        return tuple(pending_of(item, name, due=due, error=error) for item in parcel.items)

    def release(self, parcel: QueuedBatch) -> None:
        """The parcel was not sent after all."""
        lane = self._lanes[parcel.lane]
        self._free(parcel.lane, lane, due=lane.due)

    def retry_now(self) -> None:
        """Let every lane that waits be tried at once."""
        for name, lane in self._lanes.items():
            if lane.queue and not lane.busy:
                lane.due = 0
                self._wait(name, lane)

    def drain_held(self) -> tuple[Pending, ...]:
        """What the store is to keep since the last call."""
        held, self._held = tuple(self._held), []
        return held

    def name_of(self, event: Event) -> Scope:
        """The lane that an event goes into; it is the scope that its events have in common."""
        return ROOT if self._order == "strict" else _lane_of(event.scopes)

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane())

    def _is_held_up_too_long(self, parcel: QueuedBatch, now: int) -> bool:
        """Whether others have waited behind it for long enough."""
        shares = parcel.lane == REDELIVERED or not parcel.lane.startswith(REDELIVERED)
        waits = self._order == "strict" and parcel.lane != REDELIVERED
        first = parcel.items[0].first
        return (
            shares
            and not waits
            and first is not None
            and schedule.is_over(first, now, schedule.LANE_SECONDS)
        )

    def _set_aside(self, parcel: QueuedBatch, lane: _Lane, due: int) -> str:
        """Let the lane go on without the parcel, which gets one of its own."""
        name = f"{REDELIVERED}{parcel.items[0].event.position}"
        aside = self._lane(name)
        for _ in parcel.items:
            aside.queue.append(lane.queue.popleft())
        aside.due = due
        self._wait(name, aside)
        self._free(parcel.lane, lane, due=0)
        return name

    def _free(self, name: str, lane: _Lane, *, due: int) -> None:
        lane.busy = False
        lane.due = due
        if lane.queue:
            self._wait(name, lane)
        else:
            del self._lanes[name]

    def _wait(self, name: str, lane: _Lane) -> None:
        self._ready.pop(name, None)
        if not lane.due:
            lane.ticket = 0
            self._ready[name] = None
            return
        self._tickets += 1
        lane.ticket = self._tickets
        heappush(self._later, (lane.due, lane.ticket, name))

    def _tidy(self) -> None:
        """Drop what is no longer true from the front of those that wait."""
        while self._later:
            _, ticket, name = self._later[0]
            lane = self._lanes.get(name)
            if lane is not None and lane.ticket == ticket:
                return
            heappop(self._later)

    def _hold(self, name: str, items: Sequence[QueuedEvent]) -> None:
        """Keep as pending what waits behind something that failed."""
        if self._order == "strict":
            # It waits in the log as well as anywhere.
            return
        for item in items:
            if not item.is_kept:
                self._keep(item)
                self._held.append(pending_of(item, name, due=0, error=None))

    def _keep(self, item: QueuedEvent) -> None:
        if not item.is_kept:
            item.is_kept = True
            self._kept += 1
            self._open.discard(item.event.position)


def pending_of(item: QueuedEvent, lane: str, *, due: int, error: str | None) -> Pending:
    """How the store keeps an item."""
    return Pending(
        position=item.event.position,
        lane=lane,
        tries=item.tries,
        first=item.first,
        due=due,
        error=error,
    )
