"""Lines of the machine-readable UI of Terraform and OpenTofu, behind any prefix."""

import re

import msgspec

from deploylog.errors import InvalidInput
from deploylog.events.times import parse_time
from deploylog.ingest.terraform.facts import MAX_INT64, as_object, as_text

#: Maximum length of the prefix before the JSON, and how the JSON starts after it.
_MAX_PREFIX = 1_024
_UI_JSON = '{"@'

#: Text in brackets in a prefix: the unit that Terragrunt runs, or a time.
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_TIME = re.compile(r"[0-9:.,TZ +-]*")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the stream, or one that is added at its end."""

    #: Unique in the run, and the same each time the run is parsed.
    id: str
    time: int
    message: str | None
    #: The line's ``type``, empty when it has none.
    kind: str = ""
    is_error: bool = False
    fields: dict[str, object] = {}
    #: Which of several runs in one output wrote it: the text in brackets in its prefix.
    unit: str = ""


def is_ui_line(fields: dict[str, object]) -> bool:
    """Whether the line is of the machine-readable UI; logs of the tool and its providers have other
    modules.
    """
    module = fields.get("@module")
    if module is not None and not (as_text(module) or "").endswith(".ui"):
        return False
    if as_text(fields.get("@message")) is not None:
        return True
    return as_text(fields.get("type")) is not None and not fields.keys() & {"message", "msg"}


def parse_line(fields: dict[str, object], *, id: str, unit: str, now: int) -> Line:
    """Build the line from its JSON ``fields``; ``now`` (ns) if it has no timestamp."""
    return Line(
        id=id,
        time=_time(fields.get("@timestamp"), now=now),
        message=as_text(fields.get("@message")),
        kind=as_text(fields.get("type")) or "",
        is_error=fields.get("@level") == "error",
        fields=fields,
        unit=unit,
    )


def decode_line(text: str) -> tuple[dict[str, object], str]:
    """Return the JSON object in a line, and the unit named in the prefix before it."""
    stripped = text.strip()
    start = 0 if stripped.startswith("{") else stripped.find(_UI_JSON, 0, _MAX_PREFIX)
    if start < 0:
        return {}, ""
    fields = _decode_object(stripped[start:])
    message = as_text(fields.get("msg"))
    if message is not None and message.startswith(_UI_JSON):
        # Terragrunt's JSON log wraps the tool's line in a string.
        return _decode_object(message.strip()), as_text(fields.get("prefix")) or ""
    return fields, _unit_in(stripped[:start])


def _decode_object(text: str) -> dict[str, object]:
    try:
        return as_object(msgspec.json.decode(text[: text.rfind("}") + 1]))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return {}


def _unit_in(prefix: str) -> str:
    named = _BRACKETS.findall(prefix)
    return " ".join(name for name in named if not _TIME.fullmatch(name))


def _time(timestamp: object, *, now: int) -> int:
    try:
        time = parse_time(as_text(timestamp) or "")
    except InvalidInput:
        return now
    return time if 0 <= time <= MAX_INT64 else now
