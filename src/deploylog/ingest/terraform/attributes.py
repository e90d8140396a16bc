"""Comparison of a resource's attributes, leaf by leaf."""

from collections.abc import Iterable, Sequence

import msgspec

from deploylog.deployments.changeset import FieldChange, Path
from deploylog.ingest.terraform.redaction import (
    Marks,
    Redactor,
    child,
    child_marks,
    holds_true,
    is_marked,
)


class FieldChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a resource by what happens to them, without secrets."""

    added: tuple[FieldChange, ...] = ()
    modified: tuple[FieldChange, ...] = ()
    removed: tuple[Path, ...] = ()
    unchanged: tuple[Path, ...] = ()
    known_on_deploy: tuple[Path, ...] = ()
    computed: tuple[Path, ...] = ()


class ReplacePaths:
    """The paths whose change replaces a resource."""

    def __init__(self, paths: Iterable[Sequence[object]]) -> None:
        """``paths`` lead to the fields, or to what holds them, or into them."""
        self._paths = {tuple(path) for path in paths}
        self._above = {path[:end] for path in self._paths for end in range(len(path))}

    def __contains__(self, path: Path) -> bool:
        """Whether the field at ``path`` is one."""
        return path in self._above or any(path[:end] in self._paths for end in range(len(path) + 1))


def compare_fields(
    before: object,
    after: object,
    *,
    unknown: object,
    marks: Marks,
    redactor: Redactor,
    replaces: ReplacePaths,
    expressions: frozenset[str] | None,
) -> FieldChanges:
    """What happens to each leaf from ``before`` to ``after``.

    ``unknown`` is true where the value after is not known yet. ``expressions`` are the names of
    the attributes that the configuration sets, ``None`` if it is not known.
    """
    walk = _Walk(redactor, replaces)
    walk.visit((), before, after, unknown, tuple(shape for shape in marks if shape))
    return walk.changes(expressions)


def is_same(one: object, other: object) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


class _Walk:
    """Walks both values together, while they are of the same kind and not sensitive."""

    def __init__(self, redactor: Redactor, replaces: ReplacePaths) -> None:
        self._redactor = redactor
        self._replaces = replaces
        self._added: list[FieldChange] = []
        self._modified: list[FieldChange] = []
        self._removed: list[Path] = []
        self._unchanged: list[Path] = []
        self._unknown: list[Path] = []

    def changes(self, expressions: frozenset[str] | None) -> FieldChanges:
        computed = [
            path
            for path in self._unknown
            if path and expressions is not None and path[0] not in expressions
        ]
        return FieldChanges(
            added=tuple(self._added),
            modified=tuple(self._modified),
            removed=self._paths(self._removed),
            unchanged=self._paths(self._unchanged),
            known_on_deploy=self._paths(self._unknown),
            computed=self._paths(computed),
        )

    def visit(
        self, path: Path, before: object, after: object, unknown: object, marks: Marks
    ) -> None:
        if is_marked(marks, before, after):
            self._visit_hidden(path, before, after, unknown, marks)
        elif unknown is True:
            self._visit_unknown(path, before, marks)
        elif _differ_in_kind(before, after, unknown):
            self._modified.append(self._field(path, before, after, marks))
            self.visit(path, None, None, unknown, marks)
        elif steps := _steps(before, after, unknown):
            for step in steps:
                self.visit(
                    (*path, step),
                    child(before, step),
                    child(after, step),
                    child(unknown, step),
                    child_marks(marks, step),
                )
        else:
            self._visit_leaf(path, before, after, marks)

    def _visit_hidden(
        self, path: Path, before: object, after: object, unknown: object, marks: Marks
    ) -> None:
        if holds_true(unknown):
            self._visit_unknown(path, before, marks)
        else:
            self._visit_leaf(path, before, after, marks)

    def _visit_unknown(self, path: Path, before: object, marks: Marks) -> None:
        self._unknown.append(path)
        if not _is_nothing(before):
            self._modified.append(self._field(path, before, None, marks))

    def _visit_leaf(self, path: Path, before: object, after: object, marks: Marks) -> None:
        if _is_nothing(before) and _is_nothing(after):
            return
        if is_same(before, after):
            self._unchanged.append(path)
        elif _is_nothing(after):
            self._removed.append(path)
        elif _is_nothing(before):
            self._added.append(self._field(path, None, after, marks))
        else:
            self._modified.append(self._field(path, before, after, marks))

    def _field(self, path: Path, before: object, after: object, marks: Marks) -> FieldChange:
        values = [self._redactor.value(value, marks) for value in (before, after)]
        return FieldChange(
            path=self._path(path),
            before=values[0],
            after=values[1],
            replaces=path in self._replaces,
            sensitive=is_marked(marks, before, after) or values != [before, after],
        )

    def _paths(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        return tuple(self._path(path) for path in paths)

    def _path(self, path: Path) -> Path:
        return tuple(self._redactor.name(step) if isinstance(step, str) else step for step in path)


def _differ_in_kind(before: object, after: object, unknown: object) -> bool:
    if after is None and holds_true(unknown):
        after = unknown
    return before is not None and after is not None and _kind(before) is not _kind(after)


def _kind(value: object) -> type:
    return type(value) if isinstance(value, dict | list) else object


def _steps(*values: object) -> Sequence[str | int]:
    """The names or indexes in any of the values, which are of one kind."""
    first = next((value for value in values if value is not None), None)
    if isinstance(first, dict):
        return list(dict.fromkeys(k for value in values if isinstance(value, dict) for k in value))
    if isinstance(first, list):
        return range(max(len(value) for value in values if isinstance(value, list)))
    return ()


def _is_nothing(value: object) -> bool:
    return value is None or value in ({}, [])
