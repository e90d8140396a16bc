"""Groups of subscriptions, such as those of a project, read and replaced as a whole."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from uuid import uuid4

import msgspec

from deploylog.errors import Conflict, Forbidden, InvalidSubscription
from deploylog.events.access import Principal, Right
from deploylog.events.filters import Filter
from deploylog.events.store import EventLog
from deploylog.subscriptions.audit import change_event, changed_fields
from deploylog.subscriptions.ownership import MAX_SUBSCRIPTIONS, check_capacity, owner_of
from deploylog.subscriptions.secret_store import SecretStore
from deploylog.subscriptions.store import Subscriptions
from deploylog.subscriptions.subscription import (
    Endpoint,
    EndpointPatch,
    Format,
    Kind,
    Order,
    Subscription,
    check_name,
    with_endpoint,
)
from deploylog.subscriptions.targets import redact, redact_url

#: How often a group is replaced when another change interferes.
_TRIES = 5


class SubscriptionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group, and what its subscriptions have in common. Its filter has at least one scope."""

    name: str
    filter: Filter
    format: Format
    order: Order


class DesiredSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that a group is to contain."""

    #: Its name within the group; ``None`` for a new one without a name.
    name: str | None
    kind: Kind
    endpoint: EndpointPatch


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription of a group, with its decrypted endpoint."""

    #: ``None`` for a new one without a name.
    name: str | None
    kind: Kind
    endpoint: Endpoint


class SubscriptionGroups:
    """Reads and replaces groups for principals who may read and write their scopes."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        log: EventLog,
        secret_store: SecretStore,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """``on_change`` is called after every change; ``clock`` returns ns since 1970."""
        self._subscriptions = subscriptions
        self._log = log
        self._secret_store = secret_store
        self._notify = on_change
        self._clock = clock
        self._replacing = asyncio.Lock()

    async def members(self, principal: Principal, group: SubscriptionGroup) -> list[GroupMember]:
        """The subscriptions of the group; raises Forbidden.

        URLs are redacted unless the principal may write.
        """
        _check_right(principal, "read", group)
        can_write = _has_right(principal, "write", group)
        return [self._member(each, is_whole=can_write) for each in await self._current(group)]

    async def replace(
        self,
        principal: Principal,
        group: SubscriptionGroup,
        desired: Sequence[DesiredSubscription],
    ) -> None:
        """Make these the only subscriptions of the group.

        An unchanged subscription stays as it is; a changed one gets the principal as its owner.
        Raises Forbidden, InvalidSubscription, Conflict or NoEncryptionKey.
        """
        _check_right(principal, "write", group)
        _check_desired(desired)
        members = [self._desired_member(each) for each in desired]
        async with self._replacing:
            for tries_left in reversed(range(_TRIES)):
                current = await self._current(group)
                subscriptions = await self._reconciled(principal, group, current, members)
                await self._record(principal, current, subscriptions)
                try:
                    await self._subscriptions.replace(group.name, subscriptions)
                except Conflict:
                    if not tries_left:
                        raise
                else:
                    self._notify()
                    return

    def _desired_member(self, desired: DesiredSubscription) -> GroupMember:
        endpoint = self._secret_store.patched(desired.kind, desired.endpoint)
        return GroupMember(name=desired.name, kind=desired.kind, endpoint=endpoint)

    async def _reconciled(
        self,
        principal: Principal,
        group: SubscriptionGroup,
        current: Sequence[Subscription],
        desired: Sequence[GroupMember],
    ) -> list[Subscription]:
        """The subscriptions that the group is to contain."""
        head = await self._log.head()
        unmatched = {each.name: each for each in current}
        subscriptions = []
        # Members with a name come first: those without take what the others leave.
        for member in sorted(desired, key=lambda each: each.name is None):
            match = self._match(member, unmatched)
            if match is None:
                subscriptions.append(self._new(principal, group, member, head))
            else:
                del unmatched[match.name]
                subscriptions.append(self._updated(principal, match, member))
        await self._check_capacity(principal, current, subscriptions)
        return subscriptions

    async def _record(
        self,
        principal: Principal,
        before: Sequence[Subscription],
        after: Sequence[Subscription],
    ) -> None:
        """Record what changes, before it does."""
        known, wanted = ({each.id: each for each in some} for some in (before, after))
        event = partial(change_event, principal, time=self._clock())
        events = [
            *(event(wanted[id], "created") for id in wanted.keys() - known.keys()),
            *(event(known[id], "deleted") for id in known.keys() - wanted.keys()),
            *(
                event(known[id], "changed", fields=fields)
                for id in known.keys() & wanted.keys()
                if (fields := changed_fields(known[id], wanted[id]))
            ),
        ]
        if events:
            await self._log.append(events)

    def _match(
        self, member: GroupMember, unmatched: dict[str, Subscription]
    ) -> Subscription | None:
        """The current subscription with the same name or, without a name, the same endpoint."""
        if member.name is not None:
            return unmatched.get(member.name)
        return next((each for each in unmatched.values() if self._is_same(each, member)), None)

    def _is_same(self, current: Subscription, member: GroupMember) -> bool:
        return (
            current.kind == member.kind and self._secret_store.endpoint(current) == member.endpoint
        )

    def _updated(
        self, principal: Principal, current: Subscription, member: GroupMember
    ) -> Subscription:
        """``current``, with the endpoint of ``member`` and its new owner if they differ."""
        if self._is_same(current, member):
            return current
        owner, encrypted = owner_of(principal), self._secret_store.encrypt(member.endpoint)
        # The secrets stay: receivers verify signatures with them.
        changed = msgspec.structs.replace(current, owner=owner, kind=member.kind)
        return with_endpoint(changed, encrypted, redacted=redact(member.kind, member.endpoint))

    def _new(
        self, principal: Principal, group: SubscriptionGroup, member: GroupMember, head: int
    ) -> Subscription:
        id = str(uuid4())
        return Subscription(
            id=id,
            name=member.name or id,
            kind=member.kind,
            format=group.format,
            filter=group.filter,
            order=group.order,
            state="active",
            reason=None,
            owner=owner_of(principal),
            target=self._secret_store.encrypt(member.endpoint),
            shown=redact(member.kind, member.endpoint),
            # Nothing would show a generated secret.
            secrets=(),
            created=self._clock(),
            collection=group.name,
            checkpoint=head,
        )

    async def _check_capacity(
        self, principal: Principal, current: Sequence[Subscription], new: Iterable[Subscription]
    ) -> None:
        """Raise Conflict when the principal would own too many."""
        ids = {each.id for each in current}
        others = [each for each in await self._subscriptions.list() if each.id not in ids]
        owners = {(each.owner.kind, each.owner.id): each.owner for each in new}
        owner = owners.get((principal.kind, principal.id))
        if owner is not None:
            check_capacity(others, owner, added=sum(each.owner == owner for each in new))

    async def _current(self, group: SubscriptionGroup) -> list[Subscription]:
        return [each for each in await self._subscriptions.list() if each.collection == group.name]

    def _member(self, subscription: Subscription, *, is_whole: bool) -> GroupMember:
        endpoint = self._secret_store.endpoint(subscription)
        if not is_whole:
            endpoint = msgspec.structs.replace(endpoint, url=redact_url(endpoint.url))
        return GroupMember(name=subscription.name, kind=subscription.kind, endpoint=endpoint)


def _has_right(principal: Principal, right: Right, group: SubscriptionGroup) -> bool:
    return any(principal.may(right, path) for path in group.filter.scopes)


def _check_right(principal: Principal, right: Right, group: SubscriptionGroup) -> None:
    if not _has_right(principal, right, group):
        raise Forbidden(f"{principal.name} may not {right} {group.filter.scopes[0]}")


def _check_desired(desired: Sequence[DesiredSubscription]) -> None:
    """Raise InvalidSubscription for what no group can contain."""
    if len(desired) > MAX_SUBSCRIPTIONS:
        raise InvalidSubscription(f"at most {MAX_SUBSCRIPTIONS} subscriptions are allowed")
    names = [each.name for each in desired if each.name is not None]
    for name in names:
        check_name(name)
        if names.count(name) > 1:
            raise InvalidSubscription(f"{name!r} is listed twice", field="id")
