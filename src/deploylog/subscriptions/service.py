"""The service for subscriptions: create, change, test and redeliver, with permissions."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.service import DeploymentService
from deploylog.errors import (
    Conflict,
    CursorExpired,
    EventDamaged,
    EventNotFound,
    InvalidCursor,
    InvalidSubscription,
    SubscriptionNotFound,
)
from deploylog.events.access import Principal
from deploylog.events.event import Event
from deploylog.events.filters import EVERYTHING, Filter
from deploylog.events.ids import parse_event_id
from deploylog.events.store import EventLog
from deploylog.events.times import render_time
from deploylog.subscriptions.audit import Change, change_event, changed_fields
from deploylog.subscriptions.filters import (
    checked_filter,
    patched_filter,
    patched_places,
    restrict_to_types,
    types_filter,
    with_default_types,
    with_statuses,
)
from deploylog.subscriptions.history import DeadLetter, DeliveryHistory, Summaries
from deploylog.subscriptions.ownership import (
    can_see,
    check_capacity,
    check_free,
    check_owner,
    owner_of,
    owns,
)
from deploylog.subscriptions.places import Places, check_places
from deploylog.subscriptions.secret_store import SecretStore, unsigned
from deploylog.subscriptions.selection import check_known
from deploylog.subscriptions.store import (
    Backlog,
    DeadLetters,
    Deliveries,
    OneEvent,
    RecordedAttempt,
    Subscriptions,
)
from deploylog.subscriptions.subscription import (
    Attempt,
    EndpointPatch,
    Format,
    NewSubscription,
    Owner,
    Subscription,
    SubscriptionPatch,
    check_name,
    paused,
    resumed,
    with_endpoint,
)
from deploylog.subscriptions.targets import kind_of, redact

#: How often a change is tried when another one interferes.
_TRIES = 5

#: Raises Forbidden unless a principal who sees the subscription may change it.
_Check = Callable[[Principal, Subscription], None]


def _allow(principal: Principal, subscription: Subscription) -> None:
    """Everyone who sees the subscription may."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription and the progress of its deliveries."""

    subscription: Subscription
    #: Positions of the log after the checkpoint.
    lag: int
    backlog: Backlog


class SubscriptionService:
    """Manages subscriptions for principals.

    A principal sees its own subscriptions, and those whose scopes it administers. Every method
    that takes an id also takes a name, and raises what ``get`` raises.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        log: EventLog,
        secret_store: SecretStore,
        catalog: DeploymentService,
        *,
        formats: Mapping[Format, Filter],
        find_owner: Callable[[Owner], Awaitable[Principal | None]],
        send_test: Callable[[Subscription], Awaitable[Attempt]],
        on_change: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """``formats`` limits the event types of a format. ``find_owner`` returns the owner's
        current principal, or ``None`` once its credential is invalid. ``send_test`` delivers a test
        event. ``on_change`` is called after every change. ``clock`` returns ns since 1970.
        """
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._log = log
        self._secret_store = secret_store
        self._catalog = catalog
        self._history = DeliveryHistory(deliveries, log)
        self._formats = formats
        self._find_owner = find_owner
        self._send_test = send_test
        self._notify = on_change
        self._clock = clock
        # Otherwise two concurrent requests could both take the last free place of an owner.
        self._adding = asyncio.Lock()

    # For the owner

    async def create(
        self, principal: Principal, new: NewSubscription
    ) -> tuple[Subscription, str | None]:
        """Create a subscription, and return the signing secret if it was generated.

        The secret is shown nowhere else. Raises Forbidden, InvalidSubscription, InvalidCursor,
        CursorExpired, NoEncryptionKey, or Conflict when the owner has ``MAX_SUBSCRIPTIONS``, or one
        of this name.
        """
        owner = owner_of(principal)
        check_name(new.name)
        kind, endpoint = kind_of(new.kind), self._secret_store.patched(new.kind, new.endpoint)
        await self._check_places(principal, new.places, allow_missing=new.allow_missing)
        requested = with_statuses(new.filter, new.statuses)
        requested = with_default_types(requested, kind.default_types(endpoint))
        if new.places:
            requested = msgspec.structs.replace(requested, scopes=new.places.scopes)
        filter = self._checked_filter(principal, requested, new)
        secrets, generated = self._secret_store.initial_secrets(new.kind, new.secret)
        subscription = Subscription(
            id=str(uuid4()),
            name=new.name,
            kind=new.kind,
            format=new.format,
            filter=filter,
            places=new.places,
            order=new.order or kind.default_order(endpoint),
            state="active",
            reason=None,
            owner=owner,
            target=self._secret_store.encrypt(endpoint),
            shown=redact(new.kind, endpoint),
            secrets=secrets,
            created=self._clock(),
            checkpoint=await self._start_position(new.start),
        )
        async with self._adding:
            existing = await self._subscriptions.list()
            check_capacity(existing, owner, added=1)
            check_free(existing, subscription)
            recorded = await self._record(principal, subscription, "created")
            if new.start == "now":
                # Not to be told of itself.
                subscription = msgspec.structs.replace(subscription, checkpoint=recorded.position)
            await self._subscriptions.add(subscription)
        self._notify()
        return subscription, generated

    async def change(self, principal: Principal, id: str, patch: SubscriptionPatch) -> Subscription:
        """Change a subscription; raises what ``create`` raises."""
        if patch.places is not None:
            await self._check_places(principal, patch.places, allow_missing=patch.allow_missing)
        existing = await self._subscriptions.list() if patch.name is not None else []

        def change(current: Subscription) -> Subscription:
            patched = self._patched(principal, current, patch)
            check_free(existing, patched)
            return patched

        return await self._update(principal, id, "changed", change, check=check_owner)

    async def rotate_secret(
        self, principal: Principal, id: str, *, secret: str | None, overlap: int
    ) -> tuple[Subscription, str | None]:
        """Sign with a new secret, and return it if it was generated.

        The former secrets also sign for another ``overlap`` ns. Raises InvalidSubscription,
        Conflict or NoEncryptionKey.
        """
        generated: str | None = None

        def rotate(current: Subscription) -> Subscription:
            nonlocal generated
            if not kind_of(current.kind).is_signed:
                raise unsigned(current.kind)
            secrets, generated = self._secret_store.rotate(current.secrets, secret, overlap=overlap)
            return msgspec.structs.replace(current, secrets=secrets)

        rotated = await self._update(principal, id, "secret_rotated", rotate, check=check_owner)
        return rotated, generated

    # For the owner and for admins

    async def subscriptions(self, principal: Principal) -> list[Subscription]:
        """The subscriptions that the principal sees, oldest first."""
        return [each for each in await self._subscriptions.list() if can_see(principal, each)]

    async def get(self, principal: Principal, name: str) -> Subscription:
        """The subscription with this id or name: the principal's own, or the only one.

        Raises SubscriptionNotFound, or Conflict when several have the name.
        """
        with suppress(SubscriptionNotFound):
            found = await self._subscriptions.get(name.lower())
            if can_see(principal, found):
                return found
        named = [each for each in await self.subscriptions(principal) if each.name == name]
        owned = [each for each in named if owns(principal, each) and not each.collection]
        if len(owned or named) > 1:
            raise Conflict(f"several subscriptions are named {name[:64]!r}: use an id")
        for found in owned or named:
            return found
        raise SubscriptionNotFound(f"there is no subscription {name[:64]!r}")

    async def standing(self, subscription: Subscription) -> Standing:
        """The progress of a subscription that the principal sees."""
        backlogs = await self._deliveries.backlogs(subscription.id)
        lag = max(await self._log.head() - subscription.checkpoint, 0)
        backlog = backlogs.get(subscription.id, Backlog())
        return Standing(subscription=subscription, lag=lag, backlog=backlog)

    async def pause(self, principal: Principal, id: str) -> Subscription:
        """Stop delivering, until a user resumes the subscription at its checkpoint."""
        return await self._update(
            principal, id, "paused", lambda current: paused(current, by=principal.name)
        )

    async def resume(self, principal: Principal, id: str) -> Subscription:
        """Deliver again, whatever stopped the subscription."""
        return await self._update(principal, id, "reactivated", resumed)

    async def delete(self, principal: Principal, id: str) -> None:
        """Delete a subscription and the records of its deliveries."""
        found = await self.get(principal, id)
        await self._record(principal, found, "deleted")
        await self._subscriptions.delete(found.id)
        self._notify()

    async def test(self, principal: Principal, id: str) -> Attempt:
        """Deliver a test event at once, without recording it."""
        return await self._send_test(await self.get(principal, id))

    async def redeliver(self, principal: Principal, id: str, event_id: str) -> None:
        """Deliver one event again, whether it was delivered before or not.

        Raises EventNotFound when the principal or the owner may not see the event,
        InvalidSubscription when the subscription's format does not have its type, or Conflict when
        it is beyond the checkpoint.
        """
        found = await self.get(principal, id)
        event = await self._event(principal, found, event_id)
        if not self._formats.get(found.format, EVERYTHING).matches(event):
            message = f"an event of type {event.type[:64]} has no {found.format} format"
            raise InvalidSubscription(message, field="event")
        if event.position > found.checkpoint:
            raise Conflict("the subscription has not reached this event yet")
        await self._record(principal, found, "redelivered", event=event.id)
        await self._deliveries.redeliver(found.id, OneEvent(event.position))
        self._notify()

    async def redeliver_dead_lettered(self, principal: Principal, id: str, since: int) -> int:
        """Deliver again the dead letters first attempted at ``since`` (ns) or later; how many."""
        found = await self.get(principal, id)
        await self._record(principal, found, "redelivered", since=render_time(since))
        number = await self._deliveries.redeliver(found.id, DeadLetters(since))
        self._notify()
        return number

    async def attempts(
        self, principal: Principal, id: str, *, before: int | None, limit: int
    ) -> list[RecordedAttempt]:
        """See ``DeliveryHistory.attempts``."""
        found = await self.get(principal, id)
        return await self._history.attempts(principal, found, before=before, limit=limit)

    async def dead_letters(
        self, principal: Principal, id: str, *, after: int, limit: int
    ) -> list[DeadLetter]:
        """See ``DeliveryHistory.dead_letters``."""
        found = await self.get(principal, id)
        return await self._history.dead_letters(principal, found, after=after, limit=limit)

    async def summaries(
        self, principal: Principal, deployment: Deployment, *, shown: int = 0
    ) -> Summaries:
        """See ``DeliveryHistory.summaries``; of subscriptions that the principal sees."""
        seen = await self.subscriptions(principal)
        scope = deployment.scopes[0]
        return await self._history.summaries(principal, seen, scope, shown=shown)

    # Rules

    def _patched(
        self, principal: Principal, current: Subscription, patch: SubscriptionPatch
    ) -> Subscription:
        if patch.name is not None and patch.name != current.name:
            check_name(patch.name)
            _check_ungrouped(current)
        requested = patched_filter(current.filter, patch)
        places = patched_places(current.places, patch)
        format = patch.format or current.format
        if (requested, format, places) != (current.filter, current.format, current.places):
            current = msgspec.structs.replace(current, format=format, places=places)
            filter = self._checked_filter(principal, requested, current)
            current = msgspec.structs.replace(current, filter=filter)
        if patch.endpoint != EndpointPatch():
            current = self._with_patched_endpoint(current, patch.endpoint)
        return msgspec.structs.replace(
            current, name=patch.name or current.name, order=patch.order or current.order
        )

    def _with_patched_endpoint(self, current: Subscription, patch: EndpointPatch) -> Subscription:
        endpoint = self._secret_store.patched(current.kind, patch, encrypted=current.target)
        encrypted = self._secret_store.encrypt(endpoint)
        return with_endpoint(current, encrypted, redacted=redact(current.kind, endpoint))

    def _checked_filter(
        self, principal: Principal, requested: Filter, used: NewSubscription | Subscription
    ) -> Filter:
        """The filter, restricted to what the format and the kind of ``used`` can send."""
        known = self._formats.get(used.format, EVERYTHING)
        filter = checked_filter(principal, requested, known, is_named=bool(used.places))
        only = kind_of(used.kind).only_types
        return restrict_to_types(filter, types_filter(only)) if only else filter

    async def _check_places(
        self, principal: Principal, places: Places, *, allow_missing: bool
    ) -> None:
        check_places(principal, places)
        if places and not allow_missing:
            await check_known(self._catalog, principal, places)

    async def _start_position(self, start: str) -> int:
        """The first checkpoint; raises InvalidCursor or CursorExpired."""
        log = self._log
        if start == "now":
            return await log.head()
        if start == "start":
            return await log.floor()
        position = self._position(start, field="from")
        if position > await log.head():
            raise InvalidCursor(f"{start!r} is beyond the newest event", field="from")
        if position < await log.floor():
            raise CursorExpired
        return position

    def _position(self, id: str, *, field: str) -> int:
        try:
            cursor = parse_event_id(id)
        except InvalidCursor as error:
            raise InvalidCursor(error.message, field=field) from error
        if cursor.epoch != self._log.epoch:
            raise InvalidCursor(f"{id!r} is not an event id of this log", field=field)
        return cursor.position

    async def _event(self, principal: Principal, found: Subscription, id: str) -> Event:
        try:
            event = await self._log.get(self._position(id, field="event"))
        except EventDamaged:
            # Without its content, the service cannot tell who may see it.
            raise EventNotFound from None
        if event.id != id.lower() or not principal.visibility.shows(event):
            raise EventNotFound
        if not owns(principal, found):
            # The event goes to the owner's endpoint, and the owner may have fewer groups.
            owner = await self._find_owner(found.owner)
            if owner is None or not owner.visibility.shows(event):
                raise EventNotFound
        return event

    async def _update(
        self,
        principal: Principal,
        id: str,
        what: Change,
        change: Callable[[Subscription], Subscription],
        *,
        check: _Check = _allow,
    ) -> Subscription:
        """Apply ``change``, again if another request or a worker interferes."""
        is_recorded = False
        for tries_left in reversed(range(_TRIES)):
            found = await self.get(principal, id)
            check(principal, found)
            changed = change(found)
            if changed == found:
                return found
            if not is_recorded:
                fields = changed_fields(found, changed)
                await self._record(principal, found, what, **({"fields": fields} if fields else {}))
                is_recorded = True
            try:
                updated = await self._subscriptions.change(changed)
            except Conflict:
                if not tries_left:
                    raise
            else:
                self._notify()
                return updated
        raise AssertionError

    async def _record(
        self, principal: Principal, subscription: Subscription, change: Change, **facts: object
    ) -> Event:
        """Record a change before it is made: what is not in the log must never happen."""
        event = change_event(principal, subscription, change, time=self._clock(), **facts)
        [recorded] = await self._log.append([event])
        return recorded


def _check_ungrouped(subscription: Subscription) -> None:
    if subscription.collection:
        raise Conflict(
            f'subscription is managed by group "{subscription.collection}"; rename it there'
        )
