"""The history of deliveries: the attempts and dead letters that a principal may see."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import EventNotFound
from deploylog.events.access import Principal
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope
from deploylog.events.store import EventLog, Query
from deploylog.subscriptions.ownership import owns
from deploylog.subscriptions.store import Deliveries, DeliverySummary, RecordedAttempt
from deploylog.subscriptions.subscription import Pending, Subscription

#: A row of the history, and the start of a page.
_Row = TypeVar("_Row", RecordedAttempt, Pending)
_Start = TypeVar("_Start")


#: Events of a deployment of which deliveries are summarized.
MAX_SUMMARIZED = 500


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose delivery was given up."""

    pending: Pending
    #: The event's id; ``None`` when the event is no longer retained.
    event: str | None


class Summaries(msgspec.Struct, frozen=True, kw_only=True):
    """What subscriptions were sent of a deployment, and its newest events, newest first."""

    newest: Sequence[Event]
    sent: list[tuple[Subscription, DeliverySummary]]


class DeliveryHistory:
    """Pages of what was attempted and given up.

    The owner sees every row. An admin sees those of events that the admin may read.
    """

    def __init__(self, deliveries: Deliveries, log: EventLog) -> None:
        self._deliveries = deliveries
        self._log = log

    async def attempts(
        self, principal: Principal, subscription: Subscription, *, before: int | None, limit: int
    ) -> list[RecordedAttempt]:
        """A page of attempts, newest first.

        Only the owner sees bodies: of requests, and of responses, which may echo requests.
        """
        rows = await self._page(
            principal,
            subscription,
            lambda start: self._deliveries.attempts(subscription.id, before=start, limit=limit),
            start=before,
            next_start=lambda last: last.number,
            limit=limit,
        )
        if owns(principal, subscription):
            return rows
        return [msgspec.structs.replace(each, request="", response="") for each in rows]

    async def dead_letters(
        self, principal: Principal, subscription: Subscription, *, after: int, limit: int
    ) -> list[DeadLetter]:
        """A page of dead letters, in the order of the log."""
        rows = await self._page(
            principal,
            subscription,
            lambda start: self._deliveries.dead_letters(subscription.id, after=start, limit=limit),
            start=after,
            next_start=lambda last: last.position,
            limit=limit,
        )
        return [DeadLetter(pending=each, event=await self._id_at(each.position)) for each in rows]

    async def summaries(
        self,
        principal: Principal,
        subscriptions: Iterable[Subscription],
        deployment: Scope,
        *,
        shown: int,
    ) -> Summaries:
        """What each of the subscriptions was sent of a deployment, the first attempt first.

        The events are those that the principal sees: the newest ``MAX_SUMMARIZED``, and its start
        and end. At least ``shown`` of the newest come with the summaries.
        """
        known = {each.id: each for each in subscriptions}
        limit = max(shown, MAX_SUMMARIZED) if known else shown
        query = Query(scope=deployment, visibility=principal.visibility, limit=limit)
        newest = await self._log.read(query) if limit else []
        if not known:
            return Summaries(newest=newest, sent=[])
        positions = {event.position for event in newest}
        if len(newest) >= limit:
            lifecycle = Filter(all_of=(any_of("type", DEPLOYMENT_LIFECYCLE),))
            ends = await self._log.read(msgspec.structs.replace(query, filter=lifecycle))
            positions |= {event.position for event in ends}
        found = await self._deliveries.summaries(sorted(positions))
        sent = [(known[each.subscription], each) for each in found if each.subscription in known]
        return Summaries(newest=newest, sent=sent)

    async def _page(
        self,
        principal: Principal,
        subscription: Subscription,
        read: Callable[[_Start], Awaitable[list[_Row]]],
        *,
        start: _Start,
        next_start: Callable[[_Row], _Start],
        limit: int,
    ) -> list[_Row]:
        """Read as many pages of the store as it takes to fill one with visible rows."""
        rows = await read(start)
        if owns(principal, subscription):
            return rows
        page: list[_Row] = []
        while rows:
            visible = await self._visible(principal, [row.position for row in rows])
            page += [row for row in rows if row.position in visible]
            if len(page) >= limit:
                break
            rows = await read(next_start(rows[-1]))
        return page[:limit]

    async def _visible(self, principal: Principal, positions: Iterable[int]) -> set[int]:
        """The positions of the events that the principal may read and that are retained."""
        visible = set()
        for position in set(positions):
            with suppress(EventNotFound):
                if principal.visibility.shows(await self._log.get(position)):
                    visible.add(position)
        return visible

    async def _id_at(self, position: int) -> str | None:
        with suppress(EventNotFound):
            return (await self._log.get(position)).id
        return None
