"""Subscribing: who may be told of what, and who may see and change that."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar
from uuid import uuid4

import msgspec

from deploylog.errors import (
    Conflict,
    CursorExpired,
    EventDamaged,
    EventNotFound,
    Forbidden,
    InvalidCursor,
    InvalidSubscription,
    SubscriptionNotFound,
)
from deploylog.events.access import Principal
from deploylog.events.event import Event
from deploylog.events.filters import EVERYTHING, AnyOf, Filter
from deploylog.events.ids import parse_event_id
from deploylog.events.scope import ROOT
from deploylog.events.store import EventLog
from deploylog.subscriptions.secret_store import SecretStore
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
    Pending,
    Subscription,
    SubscriptionPatch,
)
from deploylog.subscriptions.targets import default_order, redact

#: The most subscriptions of one owner.
MAX_SUBSCRIPTIONS = 100

#: The most scopes of one.
MAX_SCOPES = 100

#: Credentials that end by themselves, or that stand for nobody.
_NOT_FOR_OWNERS = ("token", "secret", "unauthenticated")

#: How often a change is tried that somebody else's gets in the way of.
_TRIES = 5

#: What is recorded of deliveries, and where a page of it starts.
_Row = TypeVar("_Row", RecordedAttempt, Pending)
_Start = TypeVar("_Start")

#: Whether somebody may do something to a subscription that they see; raises Forbidden.
_Check = Callable[[Principal, Subscription], None]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription, and how its deliveries are going."""

    subscription: Subscription
    #: Events of the log after the checkpoint.
    lag: int
    backlog: Backlog


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up."""

    pending: Pending
    #: Its id; ``None`` when it is no longer retained.
    event: str | None


class SubscriptionService:
    """The subscriptions, for whoever may."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        log: EventLog,
        vault: SecretStore,
        *,
        formats: Mapping[Format, Filter],
        owner: Callable[[Owner], Awaitable[Principal | None]],
        test: Callable[[Subscription], Awaitable[Attempt]],
        changed: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """``formats`` says which types a format has, where it has not all; ``owner`` who an owner
        is now, ``None`` when nobody any more; ``test`` delivers an event that is none; ``changed``
        is told that there is something else to deliver; ``clock`` gives ns since 1970.
        """
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._log = log
        self._vault = vault
        self._formats = formats
        self._owner = owner
        self._test = test
        self._tell = changed
        self._clock = clock
        # Otherwise two requests at once would both be the last that is allowed.
        self._adding = asyncio.Lock()

    # One's own

    async def create(
        self, principal: Principal, new: NewSubscription
    ) -> tuple[Subscription, str | None]:
        """Subscribe; the secret is there if it was drawn, and is told nowhere else.

        Raises Forbidden, InvalidSubscription, InvalidCursor, CursorExpired, Conflict when there
        are ``MAX_SUBSCRIPTIONS``, or NoEncryptionKey.
        """
        owner = owner_of(principal)
        filter = self._filter(principal, new.filter, new.format)
        check_subscription_name(new.name)
        target = self._vault.aim(new.kind, new.aim)
        secrets, told = self._vault.begin(new.kind, new.secret)
        subscription = Subscription(
            id=str(uuid4()),
            name=new.name,
            kind=new.kind,
            format=new.format,
            filter=filter,
            order=new.order or default_order(target),
            state="active",
            reason=None,
            owner=owner,
            target=self._vault.seal(target),
            shown=redact(new.kind, target),
            secrets=secrets,
            created=self._clock(),
            checkpoint=await self._start(new.start),
        )
        async with self._adding:
            require_room(await self._subscriptions.list(), owner, more=1)
            await self._subscriptions.add(subscription)
        self._tell()
        return subscription, told

    async def change(
        self, principal: Principal, id: str, change: SubscriptionPatch
    ) -> Subscription:
        """Let it be different; raises what ``create`` does."""

        def changed(now: Subscription) -> Subscription:
            return self._changed(principal, now, change)

        return await self._update(principal, id, _require_owner, changed)

    async def rotate_secret(
        self, principal: Principal, id: str, *, secret: str | None, overlap: int
    ) -> tuple[Subscription, str | None]:
        """Sign with another secret, and for ``overlap`` ns with the former ones, too.

        The secret is there if it was drawn. Raises InvalidSubscription, Conflict, NoEncryptionKey.
        """
        told: str | None = None

        def rotated(now: Subscription) -> Subscription:
            nonlocal told
            if now.kind == "slack":
                raise InvalidSubscription("requests to Slack are not signed", field="secret")
            terms, told = self._vault.rotate(now.secrets, secret, overlap=overlap)
            return msgspec.structs.replace(now, secrets=terms)

        return await self._update(principal, id, _require_owner, rotated), told

    # One's own, and those whose scopes one administers

    async def subscriptions(self, principal: Principal) -> list[Subscription]:
        """Those that the principal may see, oldest first."""
        return [each for each in await self._subscriptions.list() if _sees(principal, each)]

    async def get(self, principal: Principal, id: str) -> Subscription:
        """One; raises SubscriptionNotFound when there is none, or none to be seen."""
        with suppress(SubscriptionNotFound):
            found = await self._subscriptions.get(id.lower())
            if _sees(principal, found):
                return found
        raise SubscriptionNotFound(f"there is no subscription with the id {id[:64]!r}")

    async def standing(self, subscription: Subscription) -> Standing:
        """How it stands with one that the principal was shown."""
        backlogs = await self._deliveries.backlogs(subscription.id)
        lag = max(await self._log.head() - subscription.checkpoint, 0)
        backlog = backlogs.get(subscription.id, Backlog())
        return Standing(subscription=subscription, lag=lag, backlog=backlog)

    async def pause(self, principal: Principal, id: str) -> Subscription:
        """Let it wait, at its checkpoint, until somebody resumes it."""
        return await self._update(principal, id, _allow, lambda now: _paused(now, principal))

    async def resume(self, principal: Principal, id: str) -> Subscription:
        """Let it go on, whatever stopped it."""
        return await self._update(principal, id, _allow, _resumed)

    async def delete(self, principal: Principal, id: str) -> None:
        """Forget it, and all that is kept of its deliveries."""
        found = await self.get(principal, id)
        await self._subscriptions.delete(found.id)
        self._tell()

    async def test(self, principal: Principal, id: str) -> Attempt:
        """Deliver an event that is none, at once, and say what came of it."""
        return await self._test(await self.get(principal, id))

    async def redeliver(self, principal: Principal, id: str, event_id: str) -> None:
        """Send one event, at once, whether it was sent before or not.

        Raises EventNotFound when principal or owner may not see it, InvalidSubscription when the
        subscription's format has none of its type, Conflict when it is beyond the checkpoint.
        """
        found = await self.get(principal, id)
        event = await self._event(principal, found, event_id)
        if not self._formats.get(found.format, EVERYTHING).matches(event):
            message = f"an event of type {event.type[:64]} has no {found.format} format"
            raise InvalidSubscription(message, field="event")
        if event.position > found.checkpoint:
            raise Conflict("the subscription has not come to this event yet")
        await self._deliveries.redeliver(found.id, OneEvent(event.position))
        self._tell()

    async def redeliver_dead_lettered(self, principal: Principal, id: str, since: int) -> int:
        """Send those again that were given up and first tried since then (ns); how many."""
        found = await self.get(principal, id)
        number = await self._deliveries.redeliver(found.id, DeadLetters(since))
        self._tell()
        return number

    async def attempts(
        self, principal: Principal, id: str, *, before: int | None, limit: int
    ) -> list[RecordedAttempt]:
        """What became of its requests, newest first.

        Others than the owner see those of events that they may see. What receivers answered is
        the owner's alone: they may repeat what they were sent.
        """
        found = await self.get(principal, id)
        shown = await self._shown(
            principal,
            found,
            lambda start: self._deliveries.attempts(found.id, before=start, limit=limit),
            start=before,
            next=lambda last: last.number,
            limit=limit,
        )
        if _owns(principal, found):
            return shown
        return [msgspec.structs.replace(each, response="") for each in shown]

    async def dead_letters(
        self, principal: Principal, id: str, *, after: int, limit: int
    ) -> list[DeadLetter]:
        """What was given up, in the order of the log; for others than the owner, of events that
        they may see.
        """
        found = await self.get(principal, id)
        shown = await self._shown(
            principal,
            found,
            lambda start: self._deliveries.dead_letters(found.id, after=start, limit=limit),
            start=after,
            next=lambda last: last.position,
            limit=limit,
        )
        return [DeadLetter(pending=each, event=await self._id_at(each.position)) for each in shown]

    async def _shown(
        self,
        principal: Principal,
        found: Subscription,
        read: Callable[[_Start], Awaitable[list[_Row]]],
        *,
        start: _Start,
        next: Callable[[_Row], _Start],
        limit: int,
    ) -> list[_Row]:
        """A page of what is recorded of deliveries: for others than the owner, as many pages of
        the store as it takes, of events that they may see.
        """
        rows = await read(start)
        if _owns(principal, found):
            return rows
        shown: list[_Row] = []
        while rows:
            visible = await self._visible(principal, [row.position for row in rows])
            shown += [row for row in rows if row.position in visible]
            if len(shown) >= limit:
                break
            rows = await read(next(rows[-1]))
        return shown[:limit]

    async def _visible(self, principal: Principal, positions: Iterable[int]) -> set[int]:
        """Those whose events the principal may see; what is no longer retained is nobody's."""
        visible = set()
        for position in set(positions):
            with suppress(EventNotFound):
                if principal.visibility.shows(await self._log.get(position)):
                    visible.add(position)
        return visible

    # Rules

    def _changed(
        self, principal: Principal, now: Subscription, change: SubscriptionPatch
    ) -> Subscription:
        if change.name is not None and change.name != now.name:
            check_subscription_name(change.name)
            _require_single(now)
        asked, format = _asked(now.filter, change), change.format or now.format
        if (asked, format) != (now.filter, now.format):
            filter = self._filter(principal, asked, format)
            now = msgspec.structs.replace(now, filter=filter, format=format)
        if change.aim != EndpointPatch():
            target = self._vault.aim(now.kind, change.aim, before=now.target)
            now = retargeted(now, self._vault.seal(target), shown=redact(now.kind, target))
        return msgspec.structs.replace(
            now, name=change.name or now.name, order=change.order or now.order
        )

    def _filter(self, principal: Principal, asked: Filter, format: Format) -> Filter:
        """The filter as it is kept; raises Forbidden or InvalidSubscription."""
        scopes = () if ROOT in asked.scopes else tuple(sorted(set(asked.scopes)))
        if len(scopes) > MAX_SCOPES:
            raise InvalidSubscription(f"at most {MAX_SCOPES} scopes", field="scopes")
        for path in scopes or (ROOT,):
            if not principal.visibility.meets(path):
                raise Forbidden(f"{principal.name} may not read {path or 'anything'}")
        asked = msgspec.structs.replace(asked, scopes=scopes)
        return (
            restrict_to_format(asked, self._formats[format]) if format in self._formats else asked
        )

    async def _start(self, start: str) -> int:
        """The checkpoint to begin with; raises InvalidCursor or CursorExpired."""
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
            # Who may see it is not known.
            raise EventNotFound from None
        if event.id != id.lower() or not principal.visibility.shows(event):
            raise EventNotFound
        if not _owns(principal, found):
            # Its receiver is the owner's, who may be in fewer groups.
            owner = await self._owner(found.owner)
            if owner is None or not owner.visibility.shows(event):
                raise EventNotFound
        return event

    async def _id_at(self, position: int) -> str | None:
        with suppress(EventNotFound):
            return (await self._log.get(position)).id
        return None

    async def _update(
        self,
        principal: Principal,
        id: str,
        check: _Check,
        change: Callable[[Subscription], Subscription],
    ) -> Subscription:
        """Keep what ``change`` makes of it, also when the courier changes it at the same time."""
        for tries_left in reversed(range(_TRIES)):
            found = await self.get(principal, id)
            check(principal, found)
            changed = change(found)
            if changed == found:
                return found
            try:
                kept = await self._subscriptions.change(changed)
            except Conflict:
                if not tries_left:
                    raise
            else:
                self._tell()
                return kept
        raise AssertionError


def owner_of(principal: Principal) -> Owner:
    """The principal as an owner; raises Forbidden when it cannot be one."""
    if principal.kind in _NOT_FOR_OWNERS:
        raise Forbidden("a subscription outlives this credential: subscribe with a key")
    groups = tuple(sorted(principal.groups or ()))
    return Owner(kind=principal.kind, id=principal.id, name=principal.name, groups=groups)


def require_room(all_: list[Subscription], owner: Owner, *, more: int) -> None:
    """Raise Conflict unless the owner may have so many more."""
    theirs = sum((each.owner.kind, each.owner.id) == (owner.kind, owner.id) for each in all_)
    if more and theirs + more > MAX_SUBSCRIPTIONS:
        raise Conflict(f"{owner.name} has {theirs} subscriptions; {MAX_SUBSCRIPTIONS} are the most")


def check_subscription_name(name: str) -> None:
    """Raise InvalidSubscription unless a subscription may be called so."""
    if not 1 <= len(name) <= 128 or not name.isprintable() or name != name.strip():
        message = "name has 1 to 128 characters, no control characters, and no blanks at its ends"
        raise InvalidSubscription(message, field="name")


def retargeted(now: Subscription, target: bytes, *, shown: str) -> Subscription:
    """It with another target: what was wrong with the former one is past."""
    now = msgspec.structs.replace(now, target=target, shown=shown)
    return _resumed(now) if now.state in ("failing", "disabled") else now


def _paused(now: Subscription, principal: Principal) -> Subscription:
    if now.state == "paused":
        return now
    return msgspec.structs.replace(now, state="paused", reason=f"paused by {principal.name}")


def _resumed(now: Subscription) -> Subscription:
    return msgspec.structs.replace(now, state="active", reason=None, failing_since=None)


def _owns(principal: Principal, subscription: Subscription) -> bool:
    owner = subscription.owner
    return (principal.kind, principal.id) == (owner.kind, owner.id)


def _sees(principal: Principal, subscription: Subscription) -> bool:
    if _owns(principal, subscription):
        return True
    return all(principal.may("admin", path) for path in subscription.filter.scopes or (ROOT,))


def _allow(principal: Principal, subscription: Subscription) -> None:
    """For what everybody may who sees it."""


def _require_owner(principal: Principal, subscription: Subscription) -> None:
    # Events of the owner's groups would flow to somebody else's address.
    if not _owns(principal, subscription):
        raise Forbidden("only its owner may change this subscription")


def _require_single(subscription: Subscription) -> None:
    if subscription.collection:
        raise Conflict(f"it is named by {subscription.collection}, where it is one of several")


def _asked(before: Filter, change: SubscriptionPatch) -> Filter:
    """The filter with what is to be different."""
    return msgspec.structs.replace(
        before,
        scopes=change.scopes if change.scopes is not None else before.scopes,
        all_of=change.conditions if change.conditions is not None else before.all_of,
    )


def restrict_to_format(asked: Filter, known: Filter) -> Filter:
    """What of ``asked`` has one of the types of ``known``; raises InvalidSubscription."""
    types = tuple(value for each in known.all_of for value in each.values)
    rest = tuple(each for each in asked.all_of if each.field != "type")
    for condition in asked.all_of:
        if condition.field == "type":
            types = tuple(text for text in types if _allows(condition, text))
    if not types:
        raise InvalidSubscription("no event of these types has this format", field="filter.type")
    return msgspec.structs.replace(asked, all_of=(AnyOf(field="type", values=types), *rest))


def _allows(condition: AnyOf, text: str) -> bool:
    return text in condition.values or text.startswith(condition.prefixes)
