"""Events: what happened in a deployment, before and after the log has recorded it."""

import re
from itertools import accumulate

import msgspec

from deploylog.errors import InvalidEvent
from deploylog.events.scope import Scope

MAX_MESSAGE_BYTES = 64 * 1024
MAX_DATA_BYTES = 256 * 1024
MAX_EXTENSIONS_BYTES = 64 * 1024
MAX_NAME_LENGTH = 1024
MAX_SCOPES = 16
MAX_GROUPS = 64

#: Levels of arrays and objects in any JSON that is stored. Python parses about 960, and fewer when
#: it is called from deeper in the stack.
MAX_NESTING = 100

#: The source of the log's own events, reserved for them: see ``is_reserved``.
SOURCE = "deploylog"

#: What ends a source's first part.
_PARTS_END = ("", "/", ":", "?", "#")

#: The group that every principal is in.
PUBLIC_GROUP = "*"


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a deployment tool acted on."""

    type: str
    name: str
    #: The index of a counted resource as a decimal string, or the key of a keyed one.
    key: str | None = None
    #: The tool's full name for it, modules and key included.
    address: str | None = None
    #: Name and value of the provider's id attribute, once the resource exists.
    id_key: str | None = None
    id_value: str | None = None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as its producer sends it.

    ``source``, ``type``, ``subject`` and ``time`` are those of CloudEvents 1.0; the other fields
    are common to deployments.
    """

    type: str
    source: str
    #: At least one. The event is found under every prefix of each.
    scopes: tuple[Scope, ...]
    #: When it happened, in ns since 1970 (UTC).
    time: int
    #: The producer's own id; with ``source`` it makes retries idempotent.
    producer_id: str | None = None
    subject: str | None = None
    #: The groups that may see it, sorted; none means every reader of one of its scopes.
    groups: tuple[str, ...] = ()
    #: Who did it.
    actor: str | None = None
    resource: Resource | None = None
    #: How long it took, in ns.
    elapsed: int | None = None
    message: str | None = None
    #: Any JSON value.
    data: msgspec.Raw | None = None
    #: CloudEvents attributes that have no place above: a JSON object.
    extensions: msgspec.Raw | None = None

    @property
    def action(self) -> str | None:
        """``create``, ``update``, ``delete``, … of an event about a resource."""
        parts = self.type.split(".")
        return parts[1] if len(parts) == 3 and parts[0] == "resource" else None

    @property
    def phase(self) -> str:
        """``started``, ``progress``, ``completed``, ``failed``, …: the type's last word."""
        return self.type.rpartition(".")[2]


class Event(NewEvent, frozen=True, kw_only=True, gc=False):
    """An event the log has recorded."""

    #: Place in the total order. Positions rise in commit order; they may have gaps.
    position: int
    #: UUIDv7, the public form of the position.
    id: str
    #: When the log recorded it, in ns since 1970 (UTC); never falls as positions rise.
    recorded: int


def recorded_event(event: NewEvent, *, position: int, id: str, recorded: int) -> Event:
    """``event`` with the position, id and time that the log gave it."""
    return Event(
        type=event.type,
        source=event.source,
        scopes=event.scopes,
        time=event.time,
        producer_id=event.producer_id,
        subject=event.subject,
        groups=event.groups,
        actor=event.actor,
        resource=event.resource,
        elapsed=event.elapsed,
        message=event.message,
        data=event.data,
        extensions=event.extensions,
        position=position,
        id=id,
        recorded=recorded,
    )


#: Bytes that an event takes besides its texts, about.
_OTHER_BYTES = 1024


def size_of(event: NewEvent) -> int:
    """The bytes that the event takes in memory, about."""
    size = _OTHER_BYTES + len(event.message or "")
    for raw in (event.data, event.extensions):
        if raw is not None:
            size += len(bytes(raw))
    return size + sum(map(len, event.scopes)) + sum(map(len, event.groups))


def is_reserved(source: str) -> bool:
    """Whether only the log itself may use this source: ``SOURCE`` and all below it, in any case."""
    length = len(SOURCE)
    return source[:length].lower() == SOURCE and source[length : length + 1] in _PARTS_END


def check_event(event: NewEvent) -> None:
    """Raise InvalidEvent, naming the field, unless ``event`` may be recorded."""
    _check_names(event)
    if event.producer_id == "":
        raise InvalidEvent("id must not be empty", field="id")
    if not event.scopes:
        raise InvalidEvent("an event needs at least one scope: name one in scopes", field="scopes")
    if len(event.scopes) > MAX_SCOPES or not all(event.scopes):
        raise InvalidEvent(
            f"scopes must name 1 to {MAX_SCOPES} scopes, none of them empty", field="scopes"
        )
    if len(event.groups) > MAX_GROUPS or not all(event.groups):
        raise InvalidEvent(
            f"groups must name at most {MAX_GROUPS} groups, none of them empty", field="groups"
        )
    if not 0 <= event.time < 1 << 63:
        raise InvalidEvent("time must be between 1970 and 2262", field="time")
    if event.elapsed is not None and not 0 <= event.elapsed < 1 << 63:
        raise InvalidEvent("elapsed must be from 0 to 2**63 - 1 ns", field="elapsed")
    if event.message is not None and _too_long(event.message):
        raise InvalidEvent(f"message is longer than {MAX_MESSAGE_BYTES} bytes", field="message")
    if event.data is not None and len(bytes(event.data)) > MAX_DATA_BYTES:
        raise InvalidEvent(f"data is longer than {MAX_DATA_BYTES} bytes", field="data")
    if event.data is not None:
        check_nesting(bytes(event.data), "data")
    if event.extensions is not None and len(bytes(event.extensions)) > MAX_EXTENSIONS_BYTES:
        raise InvalidEvent(
            f"the other attributes are longer than {MAX_EXTENSIONS_BYTES} bytes", field="extensions"
        )


#: A string of JSON, and then whatever else is neither bracket nor brace.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(text: bytes) -> bool:
    """Whether JSON is nested deeper than ``MAX_NESTING``; found without recursion."""
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return False
    brackets = _STRING.sub(b"", text).translate(None, _OTHERS)
    return max(accumulate(_STEPS[each] for each in brackets), default=0) > MAX_NESTING


def check_nesting(text: bytes, field: str) -> None:
    """Raise InvalidEvent when JSON is nested too deep to be stored."""
    if is_too_deep(text):
        raise InvalidEvent(
            f"{field} is nested deeper than {MAX_NESTING} arrays and objects", field=field
        )


def _too_long(message: str) -> bool:
    """Whether its UTF-8 exceeds the limit; only long messages need encoding."""
    return len(message) * 4 > MAX_MESSAGE_BYTES < len(message.encode())


def _check_names(event: NewEvent) -> None:
    _check_words(event.type, event.source)
    together = _names_together(event)
    if len(together) > MAX_NAME_LENGTH or "\0" in together:
        for field, value in _names(event).items():
            _check_name(field, value or "")
    if event.message is not None and "\0" in event.message:
        raise InvalidEvent("message must not contain a NUL character", field="message")


def _check_words(type_: str, source: str) -> None:
    together = type_ + source
    if type_ and source and together.isascii() and together.isprintable() and " " not in together:
        return
    for field, text in (("type", type_), ("source", source)):
        if not text:
            raise InvalidEvent(f"an event needs a {field}", field=field)
        # They stand on lines of their own, in headers and streams.
        if not text.isascii() or not text.isprintable() or " " in text:
            raise InvalidEvent(f"{field} must be printable ASCII without spaces", field=field)


def _names_together(event: NewEvent) -> str:
    """The texts of ``_names``, one after the other: few events need a look at each."""
    names = (event.type, event.source, event.producer_id, event.subject, event.actor)
    together = "".join(filter(None, (*names, *event.groups)))
    if (resource := event.resource) is None:
        return together
    of_resource = (
        resource.type,
        resource.name,
        resource.key,
        resource.address,
        resource.id_key,
        resource.id_value,
    )
    return together + "".join(filter(None, of_resource))


def _names(event: NewEvent) -> dict[str, str | None]:
    """The names in an event, by field."""
    names: dict[str, str | None] = {
        "type": event.type,
        "source": event.source,
        "id": event.producer_id,
        "subject": event.subject,
        "actor": event.actor,
    }
    if event.resource is not None:
        resource = event.resource
        names["resource.type"] = resource.type
        names["resource.name"] = resource.name
        names["resource.key"] = resource.key
        names["resource.address"] = resource.address
        names["resource.id_key"] = resource.id_key
        names["resource.id_value"] = resource.id_value
    for number, group in enumerate(event.groups):
        names[f"groups.{number}"] = group
    return names


def _check_name(field: str, value: str) -> None:
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidEvent(f"{field} is longer than {MAX_NAME_LENGTH} characters", field=field)
    # PostgreSQL cannot store NUL in text, and no name has a use for it.
    if "\0" in value:
        raise InvalidEvent(f"{field} must not contain a NUL character", field=field)
