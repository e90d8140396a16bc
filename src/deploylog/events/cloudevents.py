"""CloudEvents 1.0 in JSON, to our events and back.

``docs/reference/native-api.md`` lists the extension attributes that have a meaning here; any
other is kept in ``extensions`` and comes back as it was.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from deploylog.errors import InvalidEvent, InvalidInput, TooLarge
from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_NESTING,
    MAX_SCOPES,
    Event,
    NewEvent,
    Resource,
    check_nesting,
)
from deploylog.events.scope import MAX_LENGTH, Scope, parse_scope
from deploylog.events.times import MILLISECOND, parse_time, render_time

#: Bytes that are decoded at once. A decoder in C keeps the interpreter's lock until it is done,
#: so in a thread, too, a larger piece would hold up everyone.
STEP_BYTES = 256 * 1024

#: Bytes of one event among many: its data, its other attributes, and room for blanks.
MAX_EVENT_BYTES = 1024 * 1024


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What an event gets that does not say it itself."""

    #: When it arrived, in ns.
    time: int
    source: str | None = None
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()
    actor: str | None = None
    #: Whether ``actor`` is only for events that are for ``groups``: others must not learn it.
    hides_actor: bool = False

    def actor_of(self, groups: tuple[str, ...]) -> str | None:
        """The actor of an event for these groups that names none."""
        return self.actor if groups == self.groups or not self.hides_actor else None


class CloudEvent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The attributes we know, as they come."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    scopes: str | None = None
    groups: str | None = None
    actor: str | None = None
    message: str | None = None
    elapsedms: int | None = None
    resourcetype: str | None = None
    resourcename: str | None = None
    resourcekey: str | None = None
    resourceaddress: str | None = None
    resourceidkey: str | None = None
    resourceidvalue: str | None = None
    # Given by the log; ignored when sent.
    producerid: str | None = None
    position: str | None = None
    recordedtime: str | None = None


_KNOWN = frozenset(CloudEvent.__struct_fields__)

#: What binary mode tells by the body and its content type.
_NOT_IN_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})

_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

#: Types besides ``text/…`` whose data is text.
_TEXTUAL = re.compile(
    r"(?:.+\+)?(?:xml|yaml|x-yaml|toml|graphql|javascript|ecmascript|sql|x-sh|ndjson|x-ndjson|jsonl"
    r"|x-www-form-urlencoded)"
)

_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,40}")

_decode_one = msgspec.json.Decoder(CloudEvent).decode
_decode_lines = msgspec.json.Decoder(CloudEvent).decode_lines
_decode_batch = msgspec.json.Decoder(list[CloudEvent]).decode
_decode_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_event(body: bytes, defaults: Defaults) -> NewEvent:
    """One event in structured mode; raises InvalidEvent, or TooLarge."""
    if len(body) > MAX_EVENT_BYTES:
        raise TooLarge(f"an event is longer than {MAX_EVENT_BYTES} bytes")
    try:
        event = _decode_one(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # Once more, for the attributes we do not know, and to say which is wrong.
        return _strict(_parse(body, defaults), body)
    if event.id is None or event.specversion is None:
        return _strict(_parse(body, defaults), body)
    return _to_event(event, None, defaults)


def parse_batch(body: bytes, defaults: Defaults, *, limit: int) -> list[NewEvent]:
    """A JSON array of at most ``limit`` events; the error's ``line`` is the place in the array,
    from 1. Raises TooLarge before it has parsed more.
    """
    if len(body) > STEP_BYTES:
        return _one_by_one(_split(body), defaults, limit)
    try:
        return [_to_event(event, None, defaults) for event in _decode_batch(body)]
    except (msgspec.MsgspecError, InvalidInput, RecursionError, UnicodeDecodeError):
        # Once more, one by one: for the attributes we do not know, and to say which is wrong.
        return _one_by_one(enumerate(_items(body), 1), defaults, limit)


def parse_lines(body: bytes, defaults: Defaults, *, limit: int) -> list[NewEvent]:
    """At most ``limit`` events, one a line; blank lines are skipped. The error's ``line`` counts
    from 1. Raises TooLarge before it has parsed more.
    """
    events: list[NewEvent] = []
    for line, piece in _pieces(body):
        events += _parse_piece(piece, defaults, line=line, limit=limit)
        if len(events) > limit:
            raise _too_many(limit)
    return events


def _parse_piece(body: bytes, defaults: Defaults, *, line: int, limit: int) -> list[NewEvent]:
    """The events of some lines, the first of which is ``line``."""
    try:
        return [_to_event(event, None, defaults) for event in _decode_lines(body)]
    except (msgspec.MsgspecError, InvalidInput, RecursionError, UnicodeDecodeError):
        return _one_by_one(enumerate(body.split(b"\n"), line), defaults, limit)


def _pieces(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole lines of ``body``, some at a time, and the number of the first."""
    line, start = 1, 0
    while len(body) - start > STEP_BYTES:
        end = body.rfind(b"\n", start, start + STEP_BYTES) + 1
        if not end:
            end = body.find(b"\n", start, start + MAX_EVENT_BYTES) + 1 or len(body)
            if end - start > MAX_EVENT_BYTES:
                raise _too_long(line)
        piece = body[start:end]
        yield line, piece
        line, start = line + piece.count(b"\n"), end
    yield line, body[start:]


#: From one bracket to the next, strings and all, without a second look at anything.
_TO_BRACKET = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL
)
_BEGIN = re.compile(rb"\s*+\[\s*+")
_NEXT = re.compile(rb"\s*+([,\]])\s*+")


def _split(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The objects of a large JSON array, each with its place in it; raises InvalidEvent.

    It finds where each ends, and no more: what is in it is for the decoder to judge.
    """
    found = _BEGIN.match(body)
    if found is None or body[found.end() : found.end() + 1] != b"{":
        raise InvalidEvent("the body is not a JSON array of events")
    place, start = 1, found.end()
    while True:
        end = _end_of_object(body, start, place)
        yield place, body[start:end]
        found = _NEXT.match(body, end)
        if found is None:
            raise InvalidEvent(f"the body is not a JSON array of events: see after event {place}")
        if found[1] == b"]":
            break
        place, start = place + 1, found.end()
    if found.end() < len(body):
        raise InvalidEvent("the body is not a JSON array of events: it goes on after its end")


def _end_of_object(body: bytes, start: int, place: int) -> int:
    """Where the object that begins at ``start`` ends."""
    if body[start : start + 1] != b"{":
        raise InvalidEvent(f"line {place}: not a CloudEvent", line=place)
    depth, position, most = 0, start, min(len(body), start + MAX_EVENT_BYTES)
    while found := _TO_BRACKET.match(body, position, most):
        depth += 1 if found[1] in b"{[" else -1
        position = found.end()
        if not depth:
            return position
    if most < len(body):
        raise _too_long(place)
    raise InvalidEvent(f"line {place}: not a CloudEvent: it does not end", line=place)


def _too_many(limit: int) -> TooLarge:
    return TooLarge(f"a request has at most {limit} events")


def _too_long(line: int) -> InvalidEvent:
    message = f"line {line}: an event is longer than {MAX_EVENT_BYTES} bytes"
    return InvalidEvent(message, line=line)


def parse_binary(headers: Mapping[str, str], body: bytes, defaults: Defaults) -> NewEvent:
    """Binary mode: attributes in ``ce-`` headers (lower case here), ``body`` is the data."""
    if len(body) > MAX_DATA_BYTES:
        raise InvalidEvent(f"data is longer than {MAX_DATA_BYTES} bytes", field="data")
    attributes: dict[str, Any] = {
        name.removeprefix("ce-"): _header_value(name, value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    for name in _NOT_IN_HEADERS & attributes.keys():
        raise InvalidEvent(f"ce-{name} is not a header: the body and its type say it", field=name)
    if "elapsedms" in attributes:
        attributes["elapsedms"] = _integer(attributes["elapsedms"])
    if body:
        attributes |= _binary_data(headers.get("content-type"), body)
    return _parse(msgspec.json.encode(attributes), defaults)


def _header_value(name: str, text: str) -> str:
    """An attribute from its header: unquoted, then percent-decoded once."""
    value = text.encode("latin-1")
    if quoted := _QUOTED.fullmatch(value):
        value = _ESCAPED.sub(rb"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"{name} is not UTF-8", field=name.removeprefix("ce-")) from None


def _binary_data(content_type: str | None, body: bytes) -> dict[str, Any]:
    """The data of binary mode, and its content type."""
    told = {} if content_type is None else {"datacontenttype": content_type}
    if content_type is None or _is_json(content_type):
        return {**told, "data": _checked_json(body)}
    if _is_text(content_type):
        try:
            return {**told, "data": body.decode()}
        except UnicodeDecodeError:
            # Whatever it is, its bytes are kept.
            pass
    return {**told, "data_base64": base64.b64encode(body).decode()}


def _items(body: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"the body is not a JSON array of events: {error}") from error


def _one_by_one(
    bodies: Iterable[tuple[int, bytes]], defaults: Defaults, limit: int
) -> list[NewEvent]:
    events: list[NewEvent] = []
    for line, body in bodies:
        if not body.strip():
            continue
        if len(events) == limit:
            raise _too_many(limit)
        try:
            events.append(_parse(body, defaults))
        except InvalidInput as error:
            message = f"line {line}: {error.message}"
            raise InvalidEvent(message, field=error.field, line=line) from error
    return events


def _parse(body: bytes, defaults: Defaults) -> NewEvent:
    try:
        attributes = _set_attributes(body)
        unknown = {name: attributes.pop(name) for name in attributes.keys() - _KNOWN}
        for name, value in unknown.items():
            _check_extension(name, value)
        event = _decode_one(msgspec.json.encode(attributes))
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"not a CloudEvent: {error}", field=_field(error)) from error
    return _to_event(event, unknown, defaults)


def _too_deep() -> InvalidEvent:
    """What is wrong where not even a parser comes to the end: only data may be nested."""
    message = f"data is nested deeper than {MAX_NESTING} arrays and objects"
    return InvalidEvent(message, field="data")


def _set_attributes(body: bytes) -> dict[str, msgspec.Raw]:
    """The attributes that are set: one that is null is not. Data that is null is data."""
    attributes = _decode_attributes(body)
    return {
        name: value
        for name, value in attributes.items()
        if name == "data" or bytes(value) != b"null"
    }


def _field(error: Exception) -> str | None:
    """The attribute that msgspec names, as ``$.time`` or as a missing one."""
    match = re.search(r"`\$\.(\w+)`|required field `(\w+)`", str(error))
    return (match[1] or match[2]) if match else None


def _check_extension(name: str, value: msgspec.Raw) -> None:
    if not _EXTENSION_NAME.fullmatch(name):
        raise InvalidEvent(
            f"attribute {name[:64]!r}: names are lower-case letters and digits", field=name[:64]
        )
    if not isinstance(msgspec.json.decode(value), str | int | bool):
        raise InvalidEvent(f"attribute {name}: must be a string, integer or boolean", field=name)


def _strict(event: NewEvent, body: bytes) -> NewEvent:
    """What a single CloudEvent must have, and a line of many may leave out."""
    attributes = _set_attributes(body)
    for name in ("specversion", "id"):
        if name not in attributes:
            raise InvalidEvent(f"a CloudEvent needs {name}", field=name)
    return event


def _to_event(
    event: CloudEvent, unknown: dict[str, msgspec.Raw] | None, defaults: Defaults
) -> NewEvent:
    if event.specversion not in (None, "1.0"):
        raise InvalidEvent("specversion must be 1.0", field="specversion")
    if event.data_base64 is not None and event.data is not msgspec.UNSET:
        raise InvalidEvent("an event has data or data_base64, not both", field="data_base64")
    source = event.source or defaults.source
    if source is None:
        raise InvalidEvent("an event needs a source", field="source")
    groups = _groups(event.groups) if event.groups else defaults.groups
    return NewEvent(
        type=event.type,
        source=source,
        scopes=_scopes(event.scopes) if event.scopes else defaults.scopes,
        time=parse_time(event.time) if event.time is not None else defaults.time,
        producer_id=event.id,
        subject=event.subject,
        groups=groups,
        actor=event.actor if event.actor is not None else defaults.actor_of(groups),
        resource=_resource(event),
        elapsed=event.elapsedms * MILLISECOND if event.elapsedms is not None else None,
        message=event.message,
        data=_checked_json(event.data) if event.data is not msgspec.UNSET else None,
        extensions=_extensions(event, unknown),
    )


def _scopes(text: str) -> tuple[Scope, ...]:
    if len(text) > MAX_SCOPES * (MAX_LENGTH + 1):
        raise InvalidEvent("scopes are too long", field="scopes")
    return _parsed_scopes(text)


@lru_cache(maxsize=256)
def _parsed_scopes(text: str) -> tuple[Scope, ...]:
    return tuple(dict.fromkeys(parse_scope(path) for path in text.split()))


def _groups(text: str) -> tuple[str, ...]:
    return tuple(sorted({unquote(group) for group in text.split()}))


def _resource(event: CloudEvent) -> Resource | None:
    if event.resourcetype is None and event.resourcename is None:
        return None
    if event.resourcetype is None or event.resourcename is None:
        raise InvalidEvent(
            "resourcetype and resourcename come together",
            field="resourcename" if event.resourcename is None else "resourcetype",
        )
    return Resource(
        type=event.resourcetype,
        name=event.resourcename,
        key=event.resourcekey,
        address=event.resourceaddress,
        id_key=event.resourceidkey,
        id_value=event.resourceidvalue,
    )


def _extensions(event: CloudEvent, unknown: dict[str, msgspec.Raw] | None) -> msgspec.Raw | None:
    kept: dict[str, object] = dict(unknown or {})
    if event.datacontenttype is not None:
        kept["datacontenttype"] = event.datacontenttype
    if event.dataschema is not None:
        kept["dataschema"] = event.dataschema
    if event.data_base64 is not None:
        _check_base64(event.data_base64)
        kept["data_base64"] = event.data_base64
    return msgspec.Raw(msgspec.json.encode(kept)) if kept else None


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidEvent("data_base64 is not Base64", field="data_base64") from error


def _checked_json(data: msgspec.Raw | bytes) -> msgspec.Raw:
    """``data``, sure to be JSON in UTF-8: what is not would break whoever reads it back."""
    raw = bytes(data)
    if len(raw) > MAX_DATA_BYTES:
        raise InvalidEvent(f"data is longer than {MAX_DATA_BYTES} bytes", field="data")
    check_nesting(raw, "data")
    try:
        raw.decode()
        msgspec.json.decode(raw)
        if b"\n" in raw or b"\r" in raw:
            # It has to stand in one line, on streams and in exports.
            raw = msgspec.json.format(raw, indent=-1)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"data is not JSON: {error}", field="data") from error
    return msgspec.Raw(raw)


def _integer(text: str) -> int | str:
    # Python refuses to read thousands of digits; what is longer is out of range anyway.
    if len(text) > 19:
        raise InvalidEvent("elapsedms is too long", field="elapsedms")
    return int(text) if text.isascii() and text.isdigit() else text


def _is_json(content_type: str) -> bool:
    subtype = _essence(content_type).partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _is_text(content_type: str) -> bool:
    """Whether the data is text, in UTF-8 if it is not said otherwise."""
    charset = _CHARSET.search(content_type)
    if charset is not None:
        return charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    type_, _, subtype = _essence(content_type).partition("/")
    return type_ == "text" or _TEXTUAL.fullmatch(subtype) is not None


_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def render_event(event: Event) -> dict[str, object]:
    """The attributes of a recorded event."""
    rendered = _attributes(event)
    rendered["id"] = event.id
    if event.producer_id is not None:
        rendered["producerid"] = event.producer_id
    rendered["position"] = str(event.position)
    rendered["recordedtime"] = render_time(event.recorded)
    return rendered


def render_new_event(event: NewEvent) -> bytes:
    """A new event as one JSON object on one line."""
    rendered = _attributes(event)
    if event.producer_id is not None:
        rendered["id"] = event.producer_id
    return msgspec.json.encode(rendered)


def _attributes(event: NewEvent) -> dict[str, object]:
    rendered: dict[str, object] = {
        "specversion": "1.0",
        "id": None,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": render_time(event.time),
        "actor": event.actor,
        "message": event.message,
    }
    if event.scopes:
        rendered["scopes"] = " ".join(event.scopes)
    if event.groups:
        rendered["groups"] = " ".join(quote(group, safe="*") for group in event.groups)
    if event.elapsed is not None:
        rendered["elapsedms"] = event.elapsed // MILLISECOND
    if event.resource is not None:
        resource = event.resource
        rendered["resourcetype"] = resource.type
        rendered["resourcename"] = resource.name
        rendered["resourcekey"] = resource.key
        rendered["resourceaddress"] = resource.address
        rendered["resourceidkey"] = resource.id_key
        rendered["resourceidvalue"] = resource.id_value
    if event.extensions is not None:
        rendered |= _decode_attributes(event.extensions)
    if event.data is not None:
        rendered["data"] = event.data
    return {name: value for name, value in rendered.items() if value is not None}
