"""The queue of a subscription: which events to deliver next, in which order, and when. Pure.

Events of one lane wait for one another. An event that failed blocks its own lane only. What waits
behind it is *held*: stored as pending, so that the checkpoint can pass it.
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
from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.subscription import REDELIVERED, Order, Pending

#: Events that wait in memory, and events that are stored as pending, at which the queue is full.
MAX_WAITING = 1_000

#: The approximate size of these events in bytes at which the queue is full.
MAX_BYTES = 16 * 1024 * 1024

#: Lanes whose latest event is remembered.
_MAX_REMEMBERED_LANES = 10_000


class EventRef(msgspec.Struct, frozen=True):
    """The position and the id of an event."""

    position: int
    id: str


class QueuedEvent(msgspec.Struct, kw_only=True):
    """An event to deliver."""

    event: Event
    #: The event before it in its lane, if remembered.
    previous: EventRef | None = None
    #: Positions, both exclusive, between which the events before it are not available.
    gap: tuple[int, int] | None = None
    tries: int = 0
    #: The time of the first attempt, in ns since 1970.
    first: int | None = None
    #: Whether it is stored as pending.
    is_stored: bool = False


class QueuedBatch(msgspec.Struct, frozen=True):
    """Events of one lane to send in one request."""

    lane: str
    items: tuple[QueuedEvent, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """In the order of the log."""
        return tuple(item.event for item in self.items)


class _Lane:
    """The queue of one lane. While the lane is busy, only its batch's outcome removes events."""

    def __init__(self) -> None:
        self.queue: deque[QueuedEvent] = deque()
        self.is_busy = False
        #: When its first event may be sent, in ns.
        self.due = 0
        #: Its valid entry among the delayed lanes; the others are stale.
        self.ticket = 0

    @property
    def is_blocked(self) -> bool:
        return bool(self.queue) and self.queue[0].tries > 0


@lru_cache(maxsize=512)
def _lane_of(scopes: tuple[Scope, ...]) -> Scope:
    """The deployment, or the first scope outside a deployment."""
    ref = deployment_ref(scopes)
    if ref is None or ref.deployment_id is None:
        return scopes[0]
    return deployment_scope(ref.project, ref.stack_id, ref.deployment_id)


class DeliveryQueue:
    """The events that a subscription has to deliver."""

    def __init__(self, order: Order, checkpoint: int, *, max_bytes: int = MAX_BYTES) -> None:
        """The caller adds every event after ``checkpoint``."""
        self._order = order
        self._max_bytes = max_bytes
        self._lanes: dict[str, _Lane] = {}
        #: The lanes that may send now, in turn, and those with a delay: due, ticket and name.
        self._ready: dict[str, None] = {}
        self._delayed: list[tuple[int, int, str]] = []
        self._tickets = 0
        #: The added positions in order, and those of them neither finished nor stored.
        self._added: deque[int] = deque()
        self._open: set[int] = set()
        self._stored = 0
        self._bytes = 0
        self._read_to = checkpoint
        self._previous = BoundedMap[str, EventRef](_MAX_REMEMBERED_LANES)
        self._held: list[Pending] = []

    @property
    def checkpoint(self) -> int:
        """Every event at or below it is finished, or stored as pending."""
        while self._added and self._added[0] not in self._open:
            self._added.popleft()
        return self._added[0] - 1 if self._added else self._read_to

    @property
    def has_room(self) -> bool:
        """Whether the queue accepts more events."""
        is_short = len(self._open) < MAX_WAITING and self._stored < MAX_WAITING
        return is_short and self._bytes < self._max_bytes

    @property
    def next_due(self) -> int | None:
        """When the next lane may send, in ns; ``None`` without one."""
        if self._ready:
            return 0
        self._drop_stale()
        return self._delayed[0][0] if self._delayed else None

    def add(self, event: Event, *, gap: tuple[int, int] | None = None) -> None:
        """Add the next event of the log, which follows ``gap`` if there is one."""
        name = self.name_of(event)
        lane = self._lane(name)
        item = QueuedEvent(event=event, previous=self._previous.get(name), gap=gap)
        self._previous.put(name, EventRef(event.position, event.id))
        self._bytes += size_of(event)
        self._added.append(event.position)
        self._open.add(event.position)
        lane.queue.append(item)
        if lane.is_blocked and len(lane.queue) > 1:
            self._hold(name, [item])
        elif not lane.is_busy and len(lane.queue) == 1:
            self._schedule(name, lane)

    def restore(self, event: Event, pending: Pending) -> None:
        """Add an event that is stored as pending; call it in the order of the log."""
        name = pending.lane
        if not name.startswith(REDELIVERED):
            # The subscription may have had another order when it was stored.
            name = self.name_of(event)
        lane = self._lane(name)
        lane.queue.append(
            QueuedEvent(event=event, tries=pending.tries, first=pending.first, is_stored=True)
        )
        self._stored += 1
        self._bytes += size_of(event)
        if len(lane.queue) == 1:
            lane.due = pending.due
            self._schedule(name, lane)

    def advance(self, position: int) -> None:
        """Move the checkpoint: there is nothing more to add up to this position."""
        self._read_to = max(self._read_to, position)

    def waiting(self, lane: str) -> int:
        """How many events wait in a lane."""
        return len(self._lanes[lane].queue)

    def next_lane(self, now: int) -> str | None:
        """A lane that may send at ``now``, if there is one; lanes take turns."""
        self._drop_stale()
        while self._delayed and self._delayed[0][0] <= now:
            self._ready[heappop(self._delayed)[2]] = None
            self._drop_stale()
        return next(iter(self._ready), None)

    def first_lane(self) -> str | None:
        """The lane that sends next, even if it may not send yet."""
        self._drop_stale()
        if self._ready:
            return next(iter(self._ready))
        return self._delayed[0][2] if self._delayed else None

    def take(self, name: str, number: int) -> QueuedBatch:
        """The first events of a lane, at most ``number``; the lane is busy until their outcome."""
        lane = self._lanes[name]
        lane.is_busy, lane.ticket = True, 0
        self._ready.pop(name, None)
        items = [lane.queue[index] for index in range(min(number, len(lane.queue)))]
        if items[0].tries:
            # A retried batch stays as it was; no new event joins it.
            items = [item for item in items if item.tries] or items[:1]
        return QueuedBatch(name, tuple(items))

    def finish(self, batch: QueuedBatch) -> tuple[int, ...]:
        """Remove a batch, and return those of its positions that are stored as pending."""
        lane = self._lanes[batch.lane]
        for item in batch.items:
            lane.queue.popleft()
            self._bytes -= size_of(item.event)
            self._open.discard(item.event.position)
        stored = tuple(item.event.position for item in batch.items if item.is_stored)
        self._stored -= len(stored)
        self._free(batch.lane, lane, due=0)
        return stored

    def fail(
        self, batch: QueuedBatch, *, now: int, due: int, started: int, error: str
    ) -> tuple[Pending, ...]:
        """Retry a failed batch at ``due``, and return what to store of it."""
        for item in batch.items:
            item.tries += 1
            item.first = item.first if item.first is not None else started
        lane, name = self._lanes[batch.lane], batch.lane
        if self._blocks_too_long(batch, now):
            name = self._split_off(batch, lane, due)
        else:
            self._free(name, lane, due=due)
            if self._order == "per_deployment":
                self._hold(name, list(lane.queue)[len(batch.items) :])
        for item in batch.items:
            self._mark_stored(item)
        return tuple(pending_of(item, name, due=due, error=error) for item in batch.items)

    def release(self, batch: QueuedBatch) -> None:
        """Put a batch back that was not sent."""
        lane = self._lanes[batch.lane]
        self._free(batch.lane, lane, due=lane.due)

    def retry_now(self) -> None:
        """Let every lane with a delay send at once."""
        for name, lane in self._lanes.items():
            if lane.queue and not lane.is_busy:
                lane.due = 0
                self._schedule(name, lane)

    def drain_held(self) -> tuple[Pending, ...]:
        """What became held since the last call, for the store."""
        held, self._held = tuple(self._held), []
        return held

    def name_of(self, event: Event) -> Scope:
        """The lane of an event: the scope that the events of the lane have in common."""
        return ROOT if self._order == "strict" else _lane_of(event.scopes)

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane())

    def _blocks_too_long(self, batch: QueuedBatch, now: int) -> bool:
        """Whether other events have waited behind it for long enough."""
        is_shared = batch.lane == REDELIVERED or not batch.lane.startswith(REDELIVERED)
        is_strict = self._order == "strict" and batch.lane != REDELIVERED
        first = batch.items[0].first
        return (
            is_shared
            and not is_strict
            and first is not None
            and retry.has_passed(first, now, retry.LANE_SECONDS)
        )

    def _split_off(self, batch: QueuedBatch, lane: _Lane, due: int) -> str:
        """Move the batch to a lane of its own, so that its former lane continues."""
        name = f"{REDELIVERED}{batch.items[0].event.position}"
        own = self._lane(name)
        for _ in batch.items:
            own.queue.append(lane.queue.popleft())
        own.due = due
        self._schedule(name, own)
        self._free(batch.lane, lane, due=0)
        return name

    def _free(self, name: str, lane: _Lane, *, due: int) -> None:
        lane.is_busy = False
        lane.due = due
        if lane.queue:
            self._schedule(name, lane)
        else:
            del self._lanes[name]

    def _schedule(self, name: str, lane: _Lane) -> None:
        self._ready.pop(name, None)
        if not lane.due:
            lane.ticket = 0
            self._ready[name] = None
            return
        self._tickets += 1
        lane.ticket = self._tickets
        heappush(self._delayed, (lane.due, lane.ticket, name))

    def _drop_stale(self) -> None:
        """Remove stale entries from the front of the delayed lanes."""
        while self._delayed:
            _, ticket, name = self._delayed[0]
            lane = self._lanes.get(name)
            if lane is not None and lane.ticket == ticket:
                return
            heappop(self._delayed)

    def _hold(self, name: str, items: Sequence[QueuedEvent]) -> None:
        """Hold what waits behind a failed event."""
        if self._order == "strict":
            # The checkpoint does not pass the failed event anyway: the log has the others.
            return
        for item in items:
            if not item.is_stored:
                self._mark_stored(item)
                self._held.append(pending_of(item, name, due=0, error=None))

    def _mark_stored(self, item: QueuedEvent) -> None:
        if not item.is_stored:
            item.is_stored = True
            self._stored += 1
            self._open.discard(item.event.position)


def pending_of(item: QueuedEvent, lane: str, *, due: int, error: str | None) -> Pending:
    """The record of a queued event in the store."""
    return Pending(
        position=item.event.position,
        lane=lane,
        tries=item.tries,
        first=item.first,
        due=due,
        error=error,
    )
