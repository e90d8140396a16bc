"""One CloudEvent 1.0 in JSON, to an event and back.

``docs/reference/native-api.md`` lists the extension attributes that have a meaning here; any
other is stored in ``extensions`` and rendered as it was.
"""

import base64
import re
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from deploylog.errors import InvalidEvent, TooLarge
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
from deploylog.events.times import MILLISECOND, Time, parse_time, render_time

#: Bytes of one event: its data, its other attributes, and room for whitespace.
MAX_EVENT_BYTES = 1024 * 1024


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What an event gets for the attributes that it leaves out."""

    #: When the request arrived, in ns since 1970 (UTC).
    time: int
    source: str | None = None
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()
    actor: str | None = None
    #: Whether ``actor`` is for events of ``groups`` only: other readers must not learn it.
    hides_actor: bool = False

    def actor_of(self, groups: tuple[str, ...]) -> str | None:
        """The actor of an event for these groups that names no actor."""
        return self.actor if groups == self.groups or not self.hides_actor else None


class CloudEvent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The known attributes, as they are on the wire."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str
    subject: str | None = None
    time: Time | None = None
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
    # Set by the log; ignored in requests.
    producerid: str | None = None
    position: str | None = None
    recordedtime: Time | None = None


_KNOWN = frozenset(CloudEvent.__struct_fields__)

_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,40}")

_decode_one = msgspec.json.Decoder(CloudEvent).decode

_decode_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_event(body: bytes, defaults: Defaults) -> NewEvent:
    """Parse one event in structured mode; raises InvalidEvent or TooLarge."""
    if len(body) > MAX_EVENT_BYTES:
        raise TooLarge(f"an event is longer than {MAX_EVENT_BYTES} bytes")
    try:
        event = _decode_one(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # Parse again, for unknown attributes, and to name the one that is wrong.
        return _strict(parse_attributes(body, defaults), body)
    if event.id is None or event.specversion is None:
        return _strict(parse_attributes(body, defaults), body)
    return to_event(event, None, defaults)


def parse_attributes(body: bytes, defaults: Defaults) -> NewEvent:
    """Parse one event whose ``id`` and ``specversion`` may be missing; raises InvalidEvent."""
    try:
        attributes = _set_attributes(body)
        unknown = {name: attributes.pop(name) for name in attributes.keys() - _KNOWN}
        for name, value in unknown.items():
            _check_extension(name, value)
        event = _decode_one(msgspec.json.encode(attributes))
    except RecursionError:
        raise nested_too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"not a CloudEvent: {error}", field=_field(error)) from error
    return to_event(event, unknown, defaults)


def nested_too_deep() -> InvalidEvent:
    """The error of a body that no parser can read to its end: only data may be nested."""
    message = f"data is nested deeper than {MAX_NESTING} arrays and objects"
    return InvalidEvent(message, field="data")


def _set_attributes(body: bytes) -> dict[str, msgspec.Raw]:
    """The attributes that are set: ``null`` means unset, except for data."""
    attributes = _decode_attributes(body)
    return {
        name: value
        for name, value in attributes.items()
        if name == "data" or bytes(value) != b"null"
    }


def _field(error: Exception) -> str | None:
    """The attribute that msgspec's message names, as ``$.time`` or as missing."""
    match = re.search(r"`\$\.(\w+)`|required field `(\w+)`", str(error))
    return (match[1] or match[2]) if match else None


def _check_extension(name: str, value: msgspec.Raw) -> None:
    if not _EXTENSION_NAME.fullmatch(name):
        raise InvalidEvent(
            f"attribute {name[:64]!r}: a name may have 1 to 40 lower-case letters and digits",
            field=name[:64],
        )
    if not isinstance(msgspec.json.decode(value), str | int | bool):
        raise InvalidEvent(f"attribute {name}: must be a string, integer or boolean", field=name)


def _strict(event: NewEvent, body: bytes) -> NewEvent:
    """Raise InvalidEvent unless a single CloudEvent has what a batch may leave out."""
    attributes = _set_attributes(body)
    for name in ("specversion", "id"):
        if name not in attributes:
            raise InvalidEvent(f"a CloudEvent must have {name}", field=name)
    return event


def to_event(
    event: CloudEvent, unknown: dict[str, msgspec.Raw] | None, defaults: Defaults
) -> NewEvent:
    """Convert a decoded event and its unknown attributes; raises InvalidInput."""
    if event.specversion not in (None, "1.0"):
        raise InvalidEvent("specversion must be 1.0", field="specversion")
    if event.data_base64 is not None and event.data is not msgspec.UNSET:
        raise InvalidEvent("an event may have data or data_base64, not both", field="data_base64")
    source = event.source or defaults.source
    if source is None:
        raise InvalidEvent(
            "an event needs a source: set it in the event or as a default of the request",
            field="source",
        )
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
        data=checked_json(event.data) if event.data is not msgspec.UNSET else None,
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
            "resourcetype and resourcename must be given together",
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
    extensions: dict[str, object] = dict(unknown or {})
    if event.datacontenttype is not None:
        extensions["datacontenttype"] = event.datacontenttype
    if event.dataschema is not None:
        extensions["dataschema"] = event.dataschema
    if event.data_base64 is not None:
        _check_base64(event.data_base64)
        extensions["data_base64"] = event.data_base64
    return msgspec.Raw(msgspec.json.encode(extensions)) if extensions else None


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidEvent("data_base64 is not Base64", field="data_base64") from error


def checked_json(data: msgspec.Raw | bytes) -> msgspec.Raw:
    """``data`` once it is known to be JSON in UTF-8: other data would break its readers."""
    raw = bytes(data)
    if len(raw) > MAX_DATA_BYTES:
        raise InvalidEvent(f"data is longer than {MAX_DATA_BYTES} bytes", field="data")
    check_nesting(raw, "data")
    try:
        raw.decode()
        msgspec.json.decode(raw)
        if b"\n" in raw or b"\r" in raw:
            # It must fit on one line, in streams and exports.
            raw = msgspec.json.format(raw, indent=-1)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"data is not JSON: {error}", field="data") from error
    return msgspec.Raw(raw)


def render_event(event: Event) -> dict[str, object]:
    """Render a recorded event as its attributes."""
    rendered = _render_attributes(event)
    rendered["id"] = event.id
    if event.producer_id is not None:
        rendered["producerid"] = event.producer_id
    rendered["position"] = str(event.position)
    rendered["recordedtime"] = render_time(event.recorded)
    return rendered


def render_new_event(event: NewEvent) -> bytes:
    """Render a new event as JSON on one line."""
    rendered = _render_attributes(event)
    if event.producer_id is not None:
        rendered["id"] = event.producer_id
    return msgspec.json.encode(rendered)


def _render_attributes(event: NewEvent) -> dict[str, object]:
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
