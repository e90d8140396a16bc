"""Ownership: who may own a subscription, see it and change it."""

from collections.abc import Iterable

from deploylog.errors import Conflict, Forbidden
from deploylog.events.access import Principal
from deploylog.events.scope import ROOT, Scope, scope
from deploylog.subscriptions.store import name_taken
from deploylog.subscriptions.subscription import Owner, Subscription

#: Subscriptions that one owner may have.
MAX_SUBSCRIPTIONS = 100

#: Kinds of principals whose credential expires, or is shared.
_NOT_OWNERS = ("token", "secret", "unauthenticated")


def owner_of(principal: Principal) -> Owner:
    """The principal as an owner; raises Forbidden when it cannot be one."""
    if principal.kind in _NOT_OWNERS:
        raise Forbidden("this credential cannot own a subscription: subscribe with a key")
    groups = tuple(sorted(principal.groups or ()))
    return Owner(kind=principal.kind, id=principal.id, name=principal.name, groups=groups)


def check_capacity(existing: Iterable[Subscription], owner: Owner, *, added: int) -> None:
    """Raise Conflict unless the owner may have ``added`` more subscriptions."""
    owned = sum((each.owner.kind, each.owner.id) == (owner.kind, owner.id) for each in existing)
    if added and owned + added > MAX_SUBSCRIPTIONS:
        raise Conflict(
            f'owner "{owner.name}" has {owned} subscriptions; the limit is {MAX_SUBSCRIPTIONS}'
        )


def check_free(existing: Iterable[Subscription], subscription: Subscription) -> None:
    """Raise Conflict when another subscription of the owner has its name."""
    if subscription.collection:
        return
    owner = subscription.owner
    for each in existing:
        taken = (each.owner.kind, each.owner.id, each.name, each.collection)
        if taken == (owner.kind, owner.id, subscription.name, "") and each.id != subscription.id:
            raise name_taken(subscription)


def owns(principal: Principal, subscription: Subscription) -> bool:
    """Whether the principal is the owner."""
    owner = subscription.owner
    return (principal.kind, principal.id) == (owner.kind, owner.id)


def can_see(principal: Principal, subscription: Subscription) -> bool:
    """Whether the principal is the owner, or an admin of all scopes of the subscription."""
    if owns(principal, subscription):
        return True
    return all(principal.may("admin", path) for path in subject_of(subscription) or (ROOT,))


def subject_of(subscription: Subscription) -> tuple[Scope, ...]:
    """The scopes that a subscription is about; none: the whole log."""
    project = subscription.places.project
    return (scope("project", project),) if project is not None else subscription.filter.scopes


def check_owner(principal: Principal, subscription: Subscription) -> None:
    """Raise Forbidden unless the principal is the owner."""
    # Otherwise events of the owner's groups could be sent to another user's endpoint.
    if not owns(principal, subscription):
        raise Forbidden("only the owner can change this subscription")
