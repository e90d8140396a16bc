"""Facts in a line of the UI, checked one by one: a value of an unexpected type counts as absent."""

import re
from collections.abc import Mapping

import msgspec

from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    Resource,
    is_too_deep,
)
from deploylog.events.times import SECOND

MAX_INT64 = (1 << 63) - 1

_NOT_IN_A_WORD = re.compile(r"[^a-z0-9_-]+")


def truncate_message(message: str) -> str:
    """Truncate to the maximum size of a message, and replace NULs."""
    clean = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    encoded = clean.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return clean
    mark = "…"
    return encoded[: MAX_MESSAGE_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def diagnostic_message(message: str | None, diagnostic: dict[str, object]) -> str | None:
    """``Error: summary: detail [address]``."""
    message = as_text(diagnostic.get("summary")) if message is None else message
    if message is None:
        return None
    detail = (as_text(diagnostic.get("detail")) or "").strip()
    address = as_text(diagnostic.get("address"))
    return message + (f": {detail}" if detail else "") + (f" [{address}]" if address else "")


def diagnostic_data(diagnostic: dict[str, object]) -> msgspec.Raw | None:
    """Render severity, summary, address and source range; never the snippet."""
    # Values and literals in the snippet may be secrets.
    span = as_object(diagnostic.get("range"))
    return render_facts(
        severity=as_name(diagnostic.get("severity")),
        summary=as_name(diagnostic.get("summary")),
        address=as_name(diagnostic.get("address")),
        range=drop_unknown(
            {
                "filename": as_name(span.get("filename")),
                "start": _source_position(span.get("start")),
                "end": _source_position(span.get("end")),
            }
        ),
    )


def _source_position(value: object) -> dict[str, object] | None:
    place = as_object(value)
    return drop_unknown({name: as_count(place.get(name)) for name in ("line", "column", "byte")})


def redact_output(output: dict[str, object]) -> dict[str, object]:
    """The output without its value, unless it says ``"sensitive": false``."""
    if output.get("sensitive") is not False:
        return {"sensitive": True}
    return {name: output[name] for name in ("sensitive", "type", "value") if name in output}


def outputs_data(outputs: dict[str, dict[str, object]]) -> msgspec.Raw | None:
    """The outputs; without types and values if these exceed the limits of an event."""
    names = {name: {"sensitive": output["sensitive"]} for name, output in outputs.items()}
    for candidate in (outputs, names):
        try:
            data = render_json({"outputs": candidate})
        except RecursionError:
            continue
        if len(bytes(data)) <= MAX_DATA_BYTES and not is_too_deep(bytes(data)):
            return data
    return None


def resource_in(of: dict[str, object]) -> Resource | None:
    """The resource of a hook or a change."""
    fields = as_object(of.get("resource"))
    type_, name = as_name(fields.get("resource_type")), as_name(fields.get("resource_name"))
    if not type_ or not name:
        return None
    id_key, id_value = as_name(of.get("id_key")), as_name(of.get("id_value"))
    has_id = id_key is not None and id_value is not None
    return Resource(
        type=type_,
        name=name,
        key=_key(fields.get("resource_key")),
        address=as_name(fields.get("addr")),
        id_key=id_key if has_id else None,
        id_value=id_value if has_id else None,
    )


def action_in(of: dict[str, object]) -> Resource | None:
    """The action of a hook or an invocation."""
    fields = as_object(of.get("action"))
    type_, name = as_name(fields.get("action_type")), as_name(fields.get("action_name"))
    if not type_ or not name:
        return None
    return Resource(
        type=type_,
        name=name,
        key=_key(fields.get("action_key")),
        address=as_name(fields.get("addr")),
    )


def trigger_in(value: object) -> dict[str, str | None]:
    """The event that invokes an action, and the address of its resource."""
    trigger = as_object(value)
    return {
        "trigger": as_name(as_object(trigger.get("resource")).get("addr")),
        "event": as_name(trigger.get("trigger_event")),
    }


def with_id_of(resource: Resource | None, started: Resource | None) -> Resource | None:
    """The resource with the id from its start event, unless it states its own."""
    if resource is None or started is None or resource.id_key is not None:
        return resource
    return msgspec.structs.replace(resource, id_key=started.id_key, id_value=started.id_value)


def _key(value: object) -> str | None:
    if isinstance(value, str):
        return as_name(value)
    index = as_count(value)
    return None if index is None else str(index)


def elapsed_in(hook: dict[str, object]) -> int | None:
    """The elapsed time in ns."""
    seconds = hook.get("elapsed_seconds")
    if isinstance(seconds, float):
        seconds = round(seconds)
    count = as_count(seconds)
    return count * SECOND if count is not None and count < (MAX_INT64 + 1) // SECOND else None


def as_type_word(value: object) -> str:
    """``value`` as one segment of an event type."""
    return _NOT_IN_A_WORD.sub("_", (as_text(value) or "").lower())[:64] or "unknown"


def as_name(value: object) -> str | None:
    """The string ``value``, truncated to the maximum length of a field."""
    text = as_text(value)
    if text is None:
        return None
    return text[:MAX_NAME_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")


def as_text(value: object) -> str | None:
    """``value`` if it is a string."""
    return value if isinstance(value, str) else None


def as_count(value: object) -> int | None:
    """``value`` if it is an integer from 0 to 2**63 - 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_INT64 else None


def as_object(value: object) -> dict[str, object]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def render_facts(**facts: object) -> msgspec.Raw | None:
    """Render the facts that are not ``None``; ``None`` if there are none."""
    known = drop_unknown(facts)
    return render_json(known) if known else None


def drop_unknown(facts: Mapping[str, object]) -> dict[str, object] | None:
    """The facts that are not ``None``, or ``None`` if there are none."""
    return {name: fact for name, fact in facts.items() if fact is not None} or None


def render_json(value: object) -> msgspec.Raw:
    """Encode as JSON for the ``data`` of an event."""
    return msgspec.Raw(msgspec.json.encode(value))
