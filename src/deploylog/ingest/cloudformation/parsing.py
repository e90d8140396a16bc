"""Parsing and deduplication of CloudFormation's stack events."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.events.event import MAX_NAME_LENGTH, NewEvent
from deploylog.events.times import LATEST, SECOND, parse_time
from deploylog.ingest.cloudformation.stack_event import STACK_TYPE, StackEvent, stack_event_of

#: How the ids begin that EventBridge's events get here: it knows none of CloudFormation's.
EVENTBRIDGE_PREFIX = "eventbridge/"

#: Maximum difference in ns between the times that EventBridge and CloudFormation report for the
#: same event.
MATCH_WINDOW = 5 * SECOND


def name_in(arn: str) -> str:
    """The name in a stack's ARN, ``arn:…:stack/<name>/<uuid>``; raises InvalidEvent."""
    prefix, _, rest = arn.partition(":stack/")
    name, _, uuid = rest.partition("/")
    is_whole = prefix.startswith("arn:") and name and uuid and "/" not in uuid
    if not is_whole or len(arn) > MAX_NAME_LENGTH or not arn.isascii() or not arn.isprintable():
        raise InvalidEvent(f"{arn[:64]!r} is not the id of a stack", field="StackId")
    return name


def parse_stack_event(fields: Mapping[str, object]) -> StackEvent:
    """A stack event as boto3 gives it; raises InvalidEvent, which names the field."""
    known = {name: _text_of(name, fields[name]) for name in _FIELDS if fields.get(name) is not None}
    try:
        event = msgspec.convert(known, StackEvent)
    except msgspec.ValidationError as error:
        missing = next((name for name in _REQUIRED if name not in known), None)
        raise InvalidEvent(f"not a stack event: {error}", field=missing) from error
    time_of(event)
    return event


def _text_of(name: str, value: object) -> str:
    if name == "Timestamp" and isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if not isinstance(value, str):
        raise InvalidEvent(f"{name} is not a text", field=name)
    return value


#: All that CloudFormation says of an event. Tags it says of the stack.
_FIELDS = tuple(f.encode_name for f in msgspec.structs.fields(StackEvent) if f.name != "tags")

_REQUIRED = tuple(f.encode_name for f in msgspec.structs.fields(StackEvent) if f.required)


def time_of(event: StackEvent) -> int:
    """When it happened, in ns; raises InvalidEvent."""
    try:
        time = parse_time(event.timestamp)
    except InvalidInput as error:
        raise InvalidEvent(error.message, field="Timestamp") from error
    # Others are looked for around it before the event itself is checked.
    if not 0 <= time <= LATEST:
        raise InvalidEvent("Timestamp lies outside 1970 to 2262", field="Timestamp")
    return time


def nested_arns(events: Iterable[StackEvent]) -> set[str]:
    """The ARNs of the stacks that these events say are nested in theirs."""
    return {
        event.physical_resource_id
        for event in events
        if event.resource_type == STACK_TYPE
        and not event.is_stack_itself
        and event.physical_resource_id.startswith("arn:")
    }


def _identity(event: StackEvent) -> tuple[str, ...]:
    return (
        event.stack_id,
        event.logical_resource_id,
        event.physical_resource_id,
        event.resource_status,
        event.resource_status_reason or "",
        event.hook_type or "",
        event.hook_status or "",
    )


class RecordedEvents:
    """Recorded events, searchable for duplicates of new ones."""

    def __init__(self, events: Iterable[NewEvent]) -> None:
        self._by_id: dict[str | None, NewEvent] = {}
        self._alike: dict[tuple[str, ...], list[tuple[StackEvent, NewEvent]]] = {}
        for event in events:
            parsed = stack_event_of(event)
            if parsed is not None:
                self._by_id[event.producer_id] = event
                self._alike.setdefault(_identity(parsed), []).append((parsed, event))

    def find(self, event: StackEvent) -> NewEvent | None:
        """The event that was recorded of the same; each is found once, but by its own id.

        EventBridge knows no ids of CloudFormation's: what it tells is the same as what happened
        to the same thing at about the same time.
        """
        if known := self._by_id.get(event.event_id):
            return known
        alike = self._alike.get(_identity(event), [])
        for pair in alike:
            if _is_pair(event, pair[0]):
                alike.remove(pair)
                return pair[1]
        return None


def _is_pair(one: StackEvent, other: StackEvent) -> bool:
    # Two ids of CloudFormation's, or two of EventBridge's, are two events.
    by_eventbridge = [each.event_id.startswith(EVENTBRIDGE_PREFIX) for each in (one, other)]
    tokens = {each.client_request_token for each in (one, other)} - {None}
    is_one_operation = len(tokens) < 2
    is_at_one_time = abs(time_of(one) - time_of(other)) <= MATCH_WINDOW
    return any(by_eventbridge) != all(by_eventbridge) and is_one_operation and is_at_one_time
