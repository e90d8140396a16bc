"""Sets: subscriptions that are put, and read, as the whole that a project has."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

import msgspec

from deploylog.errors import Conflict, Forbidden, InvalidSubscription
from deploylog.events.access import Principal, Right
from deploylog.events.filters import Filter
from deploylog.events.store import EventLog
from deploylog.subscriptions.secret_store import SecretStore
from deploylog.subscriptions.service import (
    MAX_SUBSCRIPTIONS,
    check_subscription_name,
    owner_of,
    require_room,
    retargeted,
)
from deploylog.subscriptions.store import Subscriptions
from deploylog.subscriptions.subscription import (
    Endpoint,
    EndpointPatch,
    Format,
    Kind,
    Order,
    Subscription,
)
from deploylog.subscriptions.targets import redact, redact_url

#: How often a set is put that somebody else's change gets in the way of.
_TRIES = 5


class SubscriptionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A set, and what all that is in it have in common. Its filter has scopes."""

    name: str
    filter: Filter
    format: Format
    order: Order


class DesiredSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """One that the set is to hold."""

    #: What it is called in the set; ``None`` for one that has no name yet.
    name: str | None
    kind: Kind
    endpoint: EndpointPatch


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """One of a set, with its target as far as it is shown."""

    #: ``None`` for one that is to be put, and has no name yet.
    name: str | None
    kind: Kind
    target: Endpoint


class SubscriptionGroups:
    """The sets, for whoever may."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        log: EventLog,
        vault: SecretStore,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """``on_change`` is called when there is something else to deliver; ``clock`` gives ns since
        1970.
        """
        self._subscriptions = subscriptions
        self._log = log
        self._vault = vault
        self._notify = on_change
        self._clock = clock
        self._putting = asyncio.Lock()

    async def members(
        self, principal: Principal, collection: SubscriptionGroup
    ) -> list[GroupMember]:
        """What the set holds, addresses whole for who may write; raises Forbidden."""
        _require(principal, "read", collection)
        whole = _may(principal, "write", collection)
        return [self._member(each, whole=whole) for each in await self._held(collection)]

    async def replace(
        self,
        principal: Principal,
        collection: SubscriptionGroup,
        wanted: Sequence[DesiredSubscription],
    ) -> None:
        """Let the set hold these and no others.

        What is there already, and the same, stays as it is; what differs is the principal's
        from then on. Raises Forbidden, InvalidSubscription, Conflict or NoEncryptionKey.
        """
        _require(principal, "write", collection)
        _check(wanted)
        aimed = [self._aimed(one) for one in wanted]
        async with self._putting:
            for tries_left in reversed(range(_TRIES)):
                subscriptions = await self._put(principal, collection, aimed)
                try:
                    await self._subscriptions.replace(collection.name, subscriptions)
                except Conflict:
                    if not tries_left:
                        raise
                else:
                    self._notify()
                    return

    def _aimed(self, one: DesiredSubscription) -> GroupMember:
        return GroupMember(
            name=one.name, kind=one.kind, target=self._vault.patched(one.kind, one.endpoint)
        )

    async def _put(
        self, principal: Principal, collection: SubscriptionGroup, wanted: Sequence[GroupMember]
    ) -> list[Subscription]:
        """What the set is to hold."""
        head, held = await self._log.head(), await self._held(collection)
        left = {each.name: each for each in held}
        subscriptions = []
        # Those without a name take what is left: the others must have been first.
        for one in sorted(wanted, key=lambda each: each.name is None):
            found = self._found(one, left)
            if found is None:
                subscriptions.append(self._new(principal, collection, one, head))
            else:
                del left[found.name]
                subscriptions.append(self._kept(principal, found, one))
        await self._require_room(principal, held, subscriptions)
        return subscriptions

    def _found(self, one: GroupMember, left: dict[str, Subscription]) -> Subscription | None:
        """The one that it is to take the place of, by its name, or as it is the same."""
        if one.name is not None:
            return left.get(one.name)
        return next((each for each in left.values() if self._is_same(each, one)), None)

    def _is_same(self, found: Subscription, one: GroupMember) -> bool:
        return found.kind == one.kind and self._vault.endpoint(found) == one.target

    def _kept(self, principal: Principal, found: Subscription, one: GroupMember) -> Subscription:
        """``found`` as it is, if it is the same, or else the principal's."""
        if self._is_same(found, one):
            return found
        owner, target = owner_of(principal), self._vault.seal(one.target)
        # Secrets stay: who checks signatures has them.
        changed = msgspec.structs.replace(found, owner=owner, kind=one.kind)
        return retargeted(changed, target, shown=redact(one.kind, one.target))

    def _new(
        self, principal: Principal, collection: SubscriptionGroup, one: GroupMember, head: int
    ) -> Subscription:
        id = str(uuid4())
        return Subscription(
            id=id,
            name=one.name or id,
            kind=one.kind,
            format=collection.format,
            filter=collection.filter,
            order=collection.order,
            state="active",
            reason=None,
            owner=owner_of(principal),
            target=self._vault.seal(one.target),
            shown=redact(one.kind, one.target),
            # Nobody would be told the secret.
            secrets=(),
            created=self._clock(),
            collection=collection.name,
            checkpoint=head,
        )

    async def _require_room(
        self, principal: Principal, held: Sequence[Subscription], new: Iterable[Subscription]
    ) -> None:
        """Raise Conflict when the principal would own too many."""
        ids = {each.id for each in held}
        others = [s for s in await self._subscriptions.list() if s.id not in ids]
        owners = {(each.owner.kind, each.owner.id): each.owner for each in new}
        mine = owners.get((principal.kind, principal.id))
        if mine is not None:
            more = sum(each.owner == mine for each in new)
            require_room(others, mine, more=more)

    async def _held(self, collection: SubscriptionGroup) -> list[Subscription]:
        return [
            each for each in await self._subscriptions.list() if each.collection == collection.name
        ]

    def _member(self, subscription: Subscription, *, whole: bool) -> GroupMember:
        target = self._vault.endpoint(subscription)
        if not whole:
            target = msgspec.structs.replace(target, url=redact_url(target.url))
        return GroupMember(name=subscription.name, kind=subscription.kind, target=target)


def _may(principal: Principal, right: Right, collection: SubscriptionGroup) -> bool:
    return any(principal.may(right, path) for path in collection.filter.scopes)


def _require(principal: Principal, right: Right, collection: SubscriptionGroup) -> None:
    if not _may(principal, right, collection):
        raise Forbidden(f"{principal.name} may not {right} {collection.filter.scopes[0]}")


def _check(wanted: Sequence[DesiredSubscription]) -> None:
    """Raise InvalidSubscription for what no set can hold."""
    if len(wanted) > MAX_SUBSCRIPTIONS:
        raise InvalidSubscription(f"at most {MAX_SUBSCRIPTIONS} subscriptions")
    names = [each.name for each in wanted if each.name is not None]
    for name in names:
        check_subscription_name(name)
        if names.count(name) > 1:
            raise InvalidSubscription(f"{name!r} is there twice", field="id")
