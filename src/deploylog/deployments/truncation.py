"""Truncation: shorten changes to fit a size limit, least informative parts first."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from deploylog.deployments.changeset import (
    Changes,
    FieldChange,
    OutputChange,
    ResourceChange,
    encode,
)

_Value = TypeVar("_Value")

#: Replaces a long value.
TOO_LONG = "(left out: too long)"

#: A longer value, in bytes of JSON, is replaced.
LONG_BYTES = 256


def fit(value: _Value, forms: Iterator[_Value], fits: Callable[[_Value], bool]) -> _Value:
    """The first that fits of ``value`` and its ever shorter ``forms``, or else the last."""
    while not fits(value):
        shorter = next(forms, None)
        if shorter is None:
            break
        value = shorter
    return value


def halvings(length: int) -> Iterator[int]:
    """Half of ``length``, half of that, and so on to 0."""
    while length := length // 2:
        yield length
    yield 0


def shorten(value: object, render: Callable[[object], bytes] = encode) -> object:
    """``value``, or ``TOO_LONG`` if its JSON, as ``render`` writes it, is too long."""
    return TOO_LONG if len(render(value)) > LONG_BYTES else value


def truncate_resource(change: ResourceChange, limit: int) -> ResourceChange:
    """Truncate ``change`` to at most ``limit`` bytes of JSON."""
    return fit(change, _shorter_resources(change), lambda form: len(encode(form)) <= limit)


def truncate_changes(changes: Changes, limit: int) -> Changes:
    """Truncate ``changes`` to at most ``limit`` bytes of JSON."""
    return fit(changes, _shorter_changes(changes), lambda form: len(encode(form)) <= limit)


def _shorter_resources(change: ResourceChange) -> Iterator[ResourceChange]:
    replace = msgspec.structs.replace
    change = replace(change, truncated=True)
    for removed in (
        {"before": None},
        {"after": None},
        {"unchanged": (), "depends_on": ()},
    ):
        change = replace(change, **removed)
        yield change
    change = replace(
        change,
        added=tuple(truncate_field(field) for field in change.added),
        modified=tuple(truncate_field(field) for field in change.modified),
    )
    yield change
    for length in halvings(max(len(getattr(change, name)) for name in _LISTS)):
        yield _cut(change, length)


_LISTS = ("added", "modified", "removed", "known_on_deploy", "computed")


def _cut(change: ResourceChange, length: int) -> ResourceChange:
    return msgspec.structs.replace(
        change, **{name: getattr(change, name)[:length] for name in _LISTS}
    )


def truncate_field(field: FieldChange) -> FieldChange:
    """The field without its long values."""
    return msgspec.structs.replace(field, before=shorten(field.before), after=shorten(field.after))


def _shorter_changes(changes: Changes) -> Iterator[Changes]:
    replace = msgspec.structs.replace
    changes = replace(changes, truncated=True)
    for steps in (1, 2, 3, 4):
        changes = replace(
            changes,
            resources=_each(changes.resources, steps),
            drift=_each(changes.drift, steps),
        )
        yield changes
    changes = replace(changes, outputs=tuple(_shorten_output(o) for o in changes.outputs))
    yield changes
    changes = replace(
        changes,
        resources=tuple(_name_only(change) for change in changes.resources),
        drift=tuple(_name_only(change) for change in changes.drift),
    )
    yield changes
    yield replace(
        changes, resources=(), drift=(), outputs=(), data_sources=(), invocations=(), problems=()
    )


def _each(changes: Iterable[ResourceChange], steps: int) -> tuple[ResourceChange, ...]:
    """Each change after its first ``steps`` truncation steps."""
    shorter = []
    for change in changes:
        forms = _shorter_resources(change)
        for _ in range(steps):
            change = next(forms, change)
        shorter.append(change)
    return tuple(shorter)


def _shorten_output(output: OutputChange) -> OutputChange:
    return msgspec.structs.replace(
        output, before=shorten(output.before), after=shorten(output.after)
    )


def _name_only(change: ResourceChange) -> ResourceChange:
    return ResourceChange(
        name=change.name,
        address=change.address,
        type=change.type,
        action=change.action,
        truncated=True,
    )
