"""What a planned change does to each field of a resource, as lines to read; pure."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from deploylog.deployments.changeset import FieldChange, Path, ResourceChange, encode

#: Fields of one resource, lines of one field, and characters of one value that a page shows.
MAX_FIELDS = 200
MAX_LINES = 120
MAX_CHARACTERS = 4_000

#: Lines around each difference.
_CONTEXT = 2

#: Shorter JSON stays on one line.
_WIDE = 72

_PLAIN = re.compile(r"[A-Za-z_][\w-]*")

Sign = Literal["+", "-", "~", " "]


class Line(msgspec.Struct, frozen=True):
    """A line of a value, and whether it comes, goes or stays."""

    sign: Sign
    text: str


class FieldDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One field, before and after."""

    path: str
    sign: Sign
    #: ``None`` where there is no value, or where it is not recorded.
    before: str | None = None
    after: str | None = None
    #: Instead of both, where a value has several lines.
    lines: tuple[Line, ...] = ()
    #: Whether it is why the resource is replaced.
    replaces: bool = False
    is_sensitive: bool = False
    #: Whether its value is known once the deployment has run.
    is_unknown: bool = False


def diff_fields(change: ResourceChange) -> list[FieldDiff]:
    """The fields that change: causes of a replacement first, then in order of their paths."""
    unknown = {path for path in change.known_on_deploy if path}
    told = {field.path for field in (*change.added, *change.modified)}
    found = [
        *(_diff(field, "+", field.path in unknown) for field in change.added),
        *(_diff(field, "~", field.path in unknown) for field in change.modified),
        *(_removed(path, change.before) for path in change.removed),
        *(FieldDiff(path=render_path(p), sign="+", is_unknown=True) for p in unknown - told),
        *_destroyed(change),
    ]
    return sorted(found, key=lambda field: (not field.replaces, field.path))


def render_path(path: Path) -> str:
    """``tags.team``, ``rule[0].port``, ``["a key"]``."""
    text = "".join(map(_step, path))
    return text.removeprefix(".") or "(the whole)"


def render_value(value: object) -> str:
    """A JSON value to read: text as it is if it has several lines, JSON within a text laid out."""
    if isinstance(value, str):
        nested = _laid_out(value)
        return nested or (value if "\n" in value else encode(value).decode())
    text = encode(value)
    return (msgspec.json.format(text, indent=2) if len(text) > _WIDE else text).decode()


def diff_lines(before: str, after: str) -> tuple[Line, ...]:
    """The lines that differ, with some around them."""
    old, new = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    lines: list[Line] = []
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        if lines:
            lines.append(Line(" ", "…"))
        for tag, i1, i2, j1, j2 in group:
            lines += (Line(" " if tag == "equal" else "-", text) for text in old[i1:i2])
            lines += (Line("+", text) for text in new[j1:j2] if tag != "equal")
    return tuple(lines)


def _diff(field: FieldChange, sign: Sign, is_unknown: bool) -> FieldDiff:
    before = _shown(field.before) if sign == "~" else None
    after = _shown(field.after) if not is_unknown else None
    return FieldDiff(
        path=render_path(field.path),
        sign=sign,
        before=before,
        after=after,
        lines=_lines(before, after),
        replaces=field.replaces,
        is_sensitive=field.sensitive,
        is_unknown=is_unknown,
    )


def _removed(path: Path, root: object) -> FieldDiff:
    found = _at(root, path)
    before = _shown(found) if found is not None else None
    return FieldDiff(path=render_path(path), sign="-", before=before, lines=_lines(before, None))


def _destroyed(change: ResourceChange) -> Iterator[FieldDiff]:
    """What goes with a resource that goes."""
    if change.action in ("delete", "forget") and isinstance(change.before, dict):
        for name, value in change.before.items():
            if value is not None:
                yield _removed((name,), change.before)


def _lines(before: str | None, after: str | None) -> tuple[Line, ...]:
    """The lines of values of which one has several; none if both fit beside each other."""
    if not any("\n" in text for text in (before, after) if text is not None):
        return ()
    if before is not None and after is not None:
        return _bounded(diff_lines(before, after))
    sign: Sign = "-" if after is None else "+"
    return _bounded([Line(sign, text) for text in (before or after or "").splitlines()])


def _bounded(lines: Iterable[Line]) -> tuple[Line, ...]:
    found = tuple(lines)
    if len(found) <= MAX_LINES:
        return found
    return (*found[:MAX_LINES], Line(" ", f"… {len(found) - MAX_LINES:,} more lines"))


def _shown(value: object) -> str:
    text = render_value(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _laid_out(text: str) -> str | None:
    """A JSON array or object, laid out; ``None`` for any other text."""
    if not text.startswith(("{", "[")) or len(text) <= _WIDE:
        return None
    with suppress(msgspec.MsgspecError, RecursionError):
        msgspec.json.decode(text, type=dict | list)
        return msgspec.json.format(text, indent=2)
    return None


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN.fullmatch(step) else f"[{encode(step).decode()}]"


def _at(root: object, path: Path) -> object:
    """The value at a path; ``None`` if there is none."""
    for step in path:
        if isinstance(root, dict):
            root = root.get(step)
        elif isinstance(root, list) and isinstance(step, int) and step < len(root):
            root = root[step]
        else:
            return None
    return root
