"""*Change set*: what a deployment would change, field by field, and what became of it."""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import Deployment
from deploylog.deployments.changeset import Changes, Changeset, ResourceChange, decode_changes
from deploylog.deployments.filters import Names
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope, scope
from deploylog.events.store import Query
from deploylog.ui.field_diff import MAX_FIELDS, FieldDiff, diff_fields
from deploylog.ui.page import Page, View

#: Resources of one page. With fewer fields in all, every resource is open at first.
_LIMIT = 100
_OPEN_FIELDS = 60

#: Deployments that are named as having applied it.
_DEPLOYMENTS = 20

#: Actions in the order of the page: what may do harm comes first. ``none`` are imports and moves.
_ACTIONS = {
    "delete": "Destroy",
    "replace": "Replace",
    "update": "Update",
    "forget": "Forget",
    "create": "Create",
    "none": "Import or move",
}

_RANKS = {action: rank for rank, action in enumerate(_ACTIONS)}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that changes."""

    name: str
    address: str
    action: str
    #: What is said beside its name.
    notes: tuple[str, ...]
    fields: tuple[FieldDiff, ...]
    #: Fields that are left out.
    others: int
    is_truncated: bool


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Resources with one action."""

    action: str
    title: str
    rows: tuple[Row, ...]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """An action to show alone, and how many resources have it."""

    action: str
    title: str
    count: int
    query: str
    is_chosen: bool


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    changeset: Changeset
    changes: Changes
    #: Where what becomes of it happens.
    place: Scope
    choices: tuple[Choice, ...]
    groups: tuple[Group, ...]
    is_open: bool
    #: Resources before these, and how many there are in all.
    first: int
    count: int
    newer: str | None
    older: str | None
    #: Changes that are recorded as events by now.
    recorded: int
    #: Deployments that apply it, newest first.
    deployments: list[Deployment]


async def load(view: View) -> Shown:
    """The change set that the path names."""
    parameters = Parameters(view.query)
    action = parameters.choice("action", ("", *_ACTIONS))
    first = parameters.integer("from", default=0, low=0, high=1 << 31)
    parameters.done()
    services, principal = view.services, view.principal
    changeset = await services.staging.changeset(principal, view.path["id"])
    document, recorded, deployments = await asyncio.gather(
        services.staging.changes(principal, changeset.id),
        services.events.count(principal, _changes_of(changeset)),
        services.deployments.deployments(
            principal, names=Names(plans=(changeset.id,)), limit=_DEPLOYMENTS
        ),
    )
    changes = await asyncio.to_thread(decode_changes, document)
    ordered = sorted(changes.resources, key=lambda each: _RANKS[each.action])
    chosen = [each for each in ordered if action in ("", each.action)]
    groups = _groups(chosen[first : first + _LIMIT])
    following = first + _LIMIT
    return Shown(
        changeset=changeset,
        changes=msgspec.structs.replace(changes, resources=()),
        place=_place(changeset),
        choices=_choices(changes.resources, action),
        groups=groups,
        is_open=sum(len(row.fields) for group in groups for row in group.rows) <= _OPEN_FIELDS,
        first=first,
        count=len(chosen),
        newer=_query(action, max(first - _LIMIT, 0)) if first else None,
        older=_query(action, following) if following < len(chosen) else None,
        recorded=recorded,
        deployments=deployments,
    )


def _changes_of(changeset: Changeset) -> Query:
    filter = Filter(all_of=(any_of("type", ("changeset.resource",)),))
    return Query(scope=changeset.scopes[0], filter=filter)


def _place(changeset: Changeset) -> Scope:
    """The stack, or else the project."""
    if changeset.stack_id is None:
        return scope("project", changeset.project)
    return scope("project", changeset.project, "stack", changeset.stack_id)


def _choices(resources: Sequence[ResourceChange], chosen: str) -> tuple[Choice, ...]:
    counts = {action: sum(r.action == action for r in resources) for action in _ACTIONS}
    return tuple(
        Choice(
            action=action,
            title=title,
            count=counts[action],
            query=_query("" if action == chosen else action, 0),
            is_chosen=action == chosen,
        )
        for action, title in _ACTIONS.items()
        if counts[action]
    )


def _query(action: str, first: int) -> str:
    pairs = [("action", action), ("from", str(first) if first else "")]
    return urlencode([pair for pair in pairs if pair[1]])


def _groups(resources: Sequence[ResourceChange]) -> tuple[Group, ...]:
    by_action = groupby(resources, key=lambda each: each.action)
    return tuple(
        Group(action=action, title=_ACTIONS[action], rows=tuple(map(_row, some)))
        for action, some in by_action
    )


def _row(change: ResourceChange) -> Row:
    fields = diff_fields(change)
    return Row(
        name=change.name,
        address=change.address,
        action=change.action,
        notes=tuple(_notes(change)),
        fields=tuple(fields[:MAX_FIELDS]),
        others=max(len(fields) - MAX_FIELDS, 0),
        is_truncated=change.truncated,
    )


def _notes(change: ResourceChange) -> list[str]:
    notes = []
    if change.imported:
        notes.append(f"imports {change.import_id}" if change.import_id else "is imported")
    if change.previous_address:
        notes.append(f"moves from {change.previous_address}")
    if change.reason:
        notes.append(change.reason.replace("_", " "))
    if change.create_first:
        notes.append("the new one is created first")
    if change.removes_from_state:
        notes.append("another object is no longer managed")
    return notes


PAGE = Page(path="changesets/{id}", template="changeset.html", load=load)
