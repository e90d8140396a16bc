"""The diff: what a change set would do to each resource, shown as Terraform shows it."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

import msgspec
from rich.text import Text

from deploylog.cli.terminal.text import one_line, plain
from deploylog.deployments.changeset import (
    SENSITIVE,
    ChangeCounts,
    Changes,
    Diagnostic,
    Invocation,
    OutputChange,
    Path,
    ResourceChange,
    encode,
)
from deploylog.deployments.truncation import LONG_BYTES, TOO_LONG

#: Characters of a value or a name; longer ones are cut.
MAX_LENGTH = 120

#: The width of the column of names; longer names overflow it.
_MAX_NAME_WIDTH = 40

#: Characters to show before the first difference of two long values.
_CONTEXT = 20

UNKNOWN = "(known after apply)"

#: Reasons to replace a resource, as the heading says them. The fields show the usual reason.
_REPLACED = {
    "replace_because_cannot_update": "must be replaced",
    "replace_because_tainted": "is tainted, so must be replaced",
    "replace_by_request": "will be replaced, as requested",
    "replace_by_triggers": "will be replaced due to changes in replace_triggered_by",
}

#: Other reasons. ``{key}`` stands for the index or key of the resource.
_REASONS = {
    "delete_because_no_resource_config": "because it is not in configuration",
    "delete_because_no_module": "because its module is not in configuration",
    "delete_because_no_move_target": "because it was moved to what is not in configuration",
    "delete_because_wrong_repetition": "because its index or key is not of the kind in use",
    "delete_because_count_index": "because index {key} is out of range for count",
    "delete_because_each_key": "because key {key} is not in for_each map",
    "delete_because_enabled_false": "because enabled is false",
    "read_because_config_unknown": "config refers to values not yet known",
    "read_because_dependency_pending": "depends on a resource or a module with changes pending",
    "read_because_check_nested": "config will be reloaded to verify a check block",
    "forgot_because_lifecycle_destroy_in_config": "because lifecycle.destroy is false in config",
    "forgot_because_lifecycle_destroy_in_state": "because lifecycle.destroy is false in state",
}

_MISSING = object()

_SIGNS = {"create": "+", "update": "~", "delete": "-", "forget": ".", "none": " "}

_STYLES = {
    "+": "green", "~": "yellow", "-": "red", "-/+": "yellow", "+/-": "yellow",
    ".": "red", "<=": "cyan",
}  # fmt: skip

_PLANNED = {
    "create": "will be created",
    "update": "will be updated in place",
    "replace": "must be replaced",
    "delete": "will be destroyed",
    "forget": "will no longer be managed, but not destroyed",
    "none": "will not change",
}

_DRIFTED = _PLANNED | {
    "create": "has appeared",
    "update": "has changed",
    "delete": "has been deleted",
    "none": "has not changed",
}


class _Field(msgspec.Struct, frozen=True):
    """One line of a block."""

    sign: str
    path: Path
    shown: str
    replaces: bool = False


def render_changes(changes: Changes) -> Iterator[Text]:
    """Render all changes, line by line."""
    for change in changes.resources:
        yield from render_resource(change)
    yield from render_end(changes)


def render_resource(change: ResourceChange) -> Iterator[Text]:
    """Render the block of one resource and an empty line; nothing for a resource without change."""
    if change.action != "none" or change.imported or change.previous_address:
        yield from _block(change, _heading(change))


def render_end(changes: Changes) -> Iterator[Text]:
    """Render what comes after the resources, with the summary last."""
    yield from _reads(changes.data_sources)
    yield from _invocations(changes.invocations)
    yield from _drift(changes.drift)
    yield from _outputs(changes.outputs)
    for problem in changes.problems:
        yield from _problem(problem)
    if changes.truncated and not changes.resources:
        yield from _truncation_notice()
    yield render_summary(changes)


def _truncation_notice() -> Iterator[Text]:
    """Say what is missing from an end that was truncated to its totals."""
    yield Text(
        "The plan is too large to show in full. Resources that are not shown above, outputs,"
    )
    yield Text("changes outside of deployments and warnings are omitted.")
    yield Text()


def render_summary(changes: Changes) -> Text:
    """Render the summary of a plan, as Terraform does."""
    has_outputs = any(output.action != "none" for output in changes.outputs)
    if has_outputs or changes.invoked or not _is_nothing(changes.totals):
        actions = f" Actions: {changes.invoked} to invoke." if changes.invoked else ""
        return Text.assemble(("Plan:", "bold"), f" {_counted(changes.totals)}.{actions}")
    if changes.deferred:
        return Text.assemble(
            ("No current changes.", "bold green"),
            " This plan requires another plan to be applied first.",
        )
    return Text("No changes.", style="bold green")


def _is_nothing(totals: ChangeCounts) -> bool:
    return not any(
        count for name, count in msgspec.structs.asdict(totals).items() if name != "none"
    )


def _counted(totals: ChangeCounts) -> str:
    """Count as Terraform does: a replacement adds and destroys."""
    counts = [
        ("import", totals.imported),
        ("add", totals.create + totals.replace),
        ("change", totals.update),
        ("destroy", totals.delete + totals.replace),
        ("forget", totals.forget),
    ]
    optional = ("import", "forget")
    return ", ".join(f"{n} to {word}" for word, n in counts if n or word not in optional)


def _heading(change: ResourceChange) -> Text:
    name, previous = one_line(change.name), one_line(change.previous_address or "")
    if change.action == "none" and not change.imported:
        return Text(f"{previous} has moved to {name}", style="bold")
    words = "will be imported" if change.action == "none" else _planned(change)
    if previous and change.action != "none":
        words = f"{words} (moved from {previous})"
    if change.removes_from_state:
        words = f"{words} (what is there now will be forgotten)"
    if change.imported:
        words += _import_source(change)
    return Text(f"{name} {words}", style="bold")


def _import_source(change: ResourceChange) -> str:
    """Return the id that is imported; some providers use an identity instead."""
    id = change.import_id or change.id
    if id is not None:
        return f" (imported from {render_value(id)})"
    return "" if change.action == "none" else " (imported)"


def _planned(change: ResourceChange) -> str:
    if change.action == "replace" and change.reason in _REPLACED:
        return _REPLACED[change.reason]
    return _PLANNED[change.action]


def _sign(change: ResourceChange) -> str:
    if change.action == "replace":
        return "+/-" if change.create_first else "-/+"
    if change.action == "none" and change.imported:
        return "<="
    return _SIGNS[change.action]


def _block(change: ResourceChange, heading: Text) -> Iterator[Text]:
    sign = _sign(change)
    yield Text.assemble((f"{sign:>3}", _STYLES.get(sign, "")), " ", heading)
    if change.reason is not None and change.reason not in _REPLACED:
        yield _remark(f"({_reason(change, change.reason)})")
    fields = sorted(_fields(change), key=lambda field: _order(field.path))
    names = [_name(field.path) for field in fields]
    width = min(max(map(len, names), default=0), _MAX_NAME_WIDTH)
    for field, name in zip(fields, names, strict=True):
        yield _line(field, name.ljust(width))
    if change.unchanged:
        yield _remark(f"({_number(len(change.unchanged), 'unchanged field')})")
    if _lacks_fields(change):
        yield Text()
        yield _remark("(this change is too large to show in full: fields or values are omitted)")
    yield Text()


def _reason(change: ResourceChange, word: str) -> str:
    """Return the reason in Terraform's words, or an unknown one unchanged."""
    return _REASONS.get(word, one_line(word)).replace("{key}", f"[{_key(change)}]")


def _key(change: ResourceChange) -> str:
    """Return an index as a number, and a key in quotes."""
    is_index = change.reason == "delete_because_count_index"
    return one_line(change.key) if is_index else render_value(change.key)


def _lacks_fields(change: ResourceChange) -> bool:
    """Whether truncation removed something to show: all attributes are removed first."""
    if not change.truncated:
        return False
    if change.before is None and _shows_before(change):
        return True
    # Fields are removed last, after long values and the names of unchanged fields.
    return change.after is None and not (change.unchanged or _has_long_value(change))


def _shows_before(change: ResourceChange) -> bool:
    if change.action == "create":
        return False
    return change.action == "delete" or bool(change.removed or change.known_on_deploy)


def _has_long_value(change: ResourceChange) -> bool:
    return any(
        len(encode(value)) > LONG_BYTES
        for field in (*change.added, *change.modified)
        for value in (field.before, field.after)
    )


def _fields(change: ResourceChange) -> Iterator[_Field]:
    if change.action == "delete":
        yield from _deleted(change.before)
    unknown = dict.fromkeys(change.known_on_deploy)
    for field in change.added:
        yield _Field("+", field.path, _after(field.after, field.path in unknown), field.replaces)
    for field in change.modified:
        shown = _arrow(field.before, field.after, unknown=field.path in unknown)
        yield _Field("~", field.path, shown, field.replaces)
    for path in change.removed:
        yield _Field("-", path, f"{_before(change, path)} -> null")
    shown_paths = {field.path for field in (*change.added, *change.modified)}
    for path in unknown:
        if path not in shown_paths:
            yield _unknown(change, path)


def _deleted(before: object) -> Iterator[_Field]:
    for name, value in before.items() if isinstance(before, dict) else ():
        if value is not None:
            yield _Field("-", (name,), f"{render_value(value)} -> null")


def _unknown(change: ResourceChange, path: Path) -> _Field:
    """Render a field whose new value is known only after the deployment."""
    before = _find(change.before, path)
    if before is _MISSING or before is None:
        return _Field("+", path, UNKNOWN)
    return _Field("~", path, f"{render_value(before)} -> {UNKNOWN}")


def _before(change: ResourceChange, path: Path) -> str:
    value = _find(change.before, path)
    return "…" if value is _MISSING else render_value(value)


def _find(value: Any, path: Path) -> Any:
    try:
        for step in path:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return _MISSING
    return value


def _line(field: _Field, name: str) -> Text:
    line = Text.assemble("      ", (field.sign, _STYLES[field.sign]), f" {name} = {field.shown}")
    return line.append(" # forces replacement", style="red") if field.replaces else line


def render_value(value: object) -> str:
    """Render a value on one line, as JSON, cut if it is long."""
    return _cut(_text(value))


def _text(value: object) -> str:
    text = encode(value).decode()
    for placeholder in (SENSITIVE, TOO_LONG):
        text = text.replace(f'"{placeholder}"', placeholder)
    return one_line(text)


def _cut(text: str, start: int = 0) -> str:
    """Return at most ``MAX_LENGTH`` characters from ``start``."""
    end = start + MAX_LENGTH
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _after(value: object, is_unknown: bool) -> str:
    return UNKNOWN if is_unknown else render_value(value)


def _arrow(before: object, after: object, *, unknown: bool) -> str:
    """Render both values; long ones from shortly before their first difference."""
    if unknown:
        return f"{render_value(before)} -> {UNKNOWN}"
    texts = [_text(before), _text(after)]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
    start = same - _CONTEXT if same > MAX_LENGTH - _CONTEXT else 0
    return " -> ".join(_cut(text, start) for text in texts)


def _name(path: Path) -> str:
    """Return a name such as ``tags.Name``, ``rules[0].port`` or ``tags["a b"]``."""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        elif step.replace("-", "_").isidentifier():
            name += f".{step}" if name else step
        else:
            name += f"[{render_value(step)}]"
    return _cut(name)


def _order(path: Path) -> list[tuple[bool, str | int]]:
    return [(isinstance(step, str), step) for step in path]


def _remark(text: str) -> Text:
    return Text(f"        # {text}", style="dim")


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _reads(addresses: Iterable[str]) -> Iterator[Text]:
    lines = [
        Text.assemble((" <=", "cyan"), f" {one_line(address)} will be read while deploying")
        for address in addresses
    ]
    yield from [*lines, Text()] if lines else []


def _invocations(invocations: Iterable[Invocation]) -> Iterator[Text]:
    lines = [
        Text(f"    {one_line(each.action)} will be invoked{_when(each)}") for each in invocations
    ]
    yield from [*lines, Text()] if lines else []


def _when(invocation: Invocation) -> str:
    """Return the event of a resource that triggers the action."""
    if invocation.resource is None:
        return ""
    return f" ({one_line(invocation.event or 'event')} of {one_line(invocation.resource)})"


def _drift(changes: Iterable[ResourceChange]) -> Iterator[Text]:
    blocks = [
        line
        for change in changes
        for line in _block(change, Text(f"{one_line(change.name)} {_DRIFTED[change.action]}"))
    ]
    if blocks:
        yield Text("Changed outside of deployments since the last one:", style="bold yellow")
        yield Text()
        yield from blocks


def _outputs(outputs: Iterable[OutputChange]) -> Iterator[Text]:
    changed = [output for output in outputs if output.action != "none"]
    if not changed:
        return
    yield Text("Changes to outputs:", style="bold")
    width = max(len(one_line(output.name)) for output in changed)
    for output in changed:
        yield _output(output, width)
    yield Text()


def _output(output: OutputChange, width: int) -> Text:
    sign = _SIGNS[output.action]
    shown = (
        _after(output.after, output.known_on_deploy)
        if output.action == "create"
        else _arrow(output.before, output.after, unknown=output.known_on_deploy)
    )
    name = one_line(output.name).ljust(width)
    return Text.assemble("  ", (sign, _STYLES[sign]), f" {name} = {shown}")


def _problem(problem: Diagnostic) -> Iterator[Text]:
    style = "bold red" if problem.level == "error" else "bold yellow"
    first, *rest = plain(problem.message).splitlines() or [""]
    yield Text.assemble((f"{problem.level.capitalize()}:", style), f" {first}")
    yield from (Text(f"  {line}") for line in rest)
    yield Text()
