"""The filters that a subscription may have."""

import msgspec

from deploylog.deployments.catalog import Status
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS, DEPLOYMENT_STARTED
from deploylog.errors import Forbidden, InvalidSubscription
from deploylog.events.access import Principal
from deploylog.events.filters import EVERYTHING, AnyOf, Filter, any_of
from deploylog.events.scope import ROOT
from deploylog.subscriptions.places import EVERYWHERE, Places
from deploylog.subscriptions.subscription import SubscriptionPatch

#: Scopes that a subscription may have.
MAX_SCOPES = 100


def checked_filter(
    principal: Principal, requested: Filter, known: Filter = EVERYTHING, *, is_named: bool = False
) -> Filter:
    """The requested filter in canonical form, restricted to the types in ``known``.

    The scopes of a filter that ``is_named`` follow from names, which were checked. Raises Forbidden
    when the principal may read nothing in one of the scopes, or InvalidSubscription.
    """
    scopes = () if ROOT in requested.scopes else tuple(sorted(set(requested.scopes)))
    if len(scopes) > MAX_SCOPES:
        raise InvalidSubscription(f"at most {MAX_SCOPES} scopes are allowed", field="scopes")
    for path in () if is_named else scopes or (ROOT,):
        if not principal.visibility.overlaps(path):
            raise Forbidden(f"{principal.name} may not read {path or 'anything'}")
    requested = msgspec.structs.replace(requested, scopes=scopes)
    return restrict_to_types(requested, known) if known.all_of else requested


def patched_filter(before: Filter, patch: SubscriptionPatch) -> Filter:
    """Return ``before`` with the changes."""
    scopes = patch.scopes if patch.scopes is not None else before.scopes
    if patch.places is not None:
        scopes = patch.places.scopes
    changed = patch.filter if patch.filter is not None else before
    return with_statuses(msgspec.structs.replace(changed, scopes=scopes), patch.statuses)


def patched_places(before: Places, patch: SubscriptionPatch) -> Places:
    """Return the places after the change: scopes and places replace one another."""
    if patch.places is not None:
        return patch.places
    return before if patch.scopes is None else EVERYWHERE


#: The event with which a deployment enters each status.
_TYPES: dict[Status, str] = {
    "running": DEPLOYMENT_STARTED,
    **{status: type for type, status in DEPLOYMENT_ENDS.items()},
}


def with_statuses(requested: Filter, statuses: tuple[Status, ...]) -> Filter:
    """Restrict the filter to the events with which a deployment enters one of the statuses.

    Raises InvalidSubscription when it excludes them.
    """
    types = tuple(_TYPES[each] for each in statuses)
    return restrict_to_types(requested, types_filter(types)) if types else requested


def restrict_to_types(requested: Filter, known: Filter) -> Filter:
    """Drop the types that ``known`` lacks; raises InvalidSubscription when none is left."""
    types = tuple(value for each in known.all_of for value in each.values)
    rest = tuple(each for each in requested.all_of if each.field != "type")
    for condition in requested.all_of:
        if condition.field == "type":
            types = tuple(text for text in types if _names(condition, text))
    for condition in requested.none_of:
        if condition.field == "type":
            types = tuple(text for text in types if not _names(condition, text))
    if not types:
        message = "none of these event types is available in this format or for this kind"
        raise InvalidSubscription(message, field="filter.type")
    return msgspec.structs.replace(requested, all_of=(AnyOf(field="type", values=types), *rest))


def with_default_types(requested: Filter, types: tuple[str, ...]) -> Filter:
    """The filter with these types if it has no condition on types."""
    conditions = (*requested.all_of, *requested.none_of)
    if not types or any(each.field == "type" for each in conditions):
        return requested
    return msgspec.structs.replace(requested, all_of=(any_of("type", types), *requested.all_of))


def types_filter(types: tuple[str, ...]) -> Filter:
    """The filter of events of these types."""
    return Filter(all_of=(any_of("type", types),))


def _names(condition: AnyOf, text: str) -> bool:
    return text in condition.values or text.startswith(condition.prefixes)
