"""Many CloudEvents in one body: a JSON array, or one event a line."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from deploylog.errors import InvalidEvent, InvalidInput, TooLarge
from deploylog.events.cloudevents.attributes import (
    MAX_EVENT_BYTES,
    CloudEvent,
    Defaults,
    nested_too_deep,
    parse_attributes,
    to_event,
)
from deploylog.events.event import NewEvent

#: Bytes that are decoded at once. A decoder in C holds the GIL until it is done, so even in a
#: thread a larger piece would block every other request.
STEP_BYTES = 256 * 1024

_decode_lines = msgspec.json.Decoder(CloudEvent).decode_lines

_decode_batch = msgspec.json.Decoder(list[CloudEvent]).decode

#: From one bracket to the next, strings included, without backtracking.
_TO_BRACKET = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL
)

_START = re.compile(rb"\s*+\[\s*+")

_NEXT = re.compile(rb"\s*+([,\]])\s*+")


def parse_batch(body: bytes, defaults: Defaults, *, limit: int) -> list[NewEvent]:
    """Parse a JSON array of at most ``limit`` events.

    The error's ``line`` is the place in the array, from 1. Raises TooLarge before it parses more.
    """
    if len(body) > STEP_BYTES:
        return _one_by_one(_split(body), defaults, limit)
    try:
        return [to_event(event, None, defaults) for event in _decode_batch(body)]
    except (msgspec.MsgspecError, InvalidInput, RecursionError, UnicodeDecodeError):
        # Parse again, one by one: for unknown attributes, and to name the event that is wrong.
        return _one_by_one(enumerate(_items(body), 1), defaults, limit)


def parse_lines(body: bytes, defaults: Defaults, *, limit: int) -> list[NewEvent]:
    """Parse at most ``limit`` events, one a line; blank lines are skipped.

    The error's ``line`` counts from 1. Raises TooLarge before it parses more.
    """
    events: list[NewEvent] = []
    for line, piece in _pieces(body):
        events += _parse_piece(piece, defaults, line=line, limit=limit)
        if len(events) > limit:
            raise _too_many(limit)
    return events


def _parse_piece(body: bytes, defaults: Defaults, *, line: int, limit: int) -> list[NewEvent]:
    """Parse the events of some lines, the first of which is number ``line``."""
    try:
        return [to_event(event, None, defaults) for event in _decode_lines(body)]
    except (msgspec.MsgspecError, InvalidInput, RecursionError, UnicodeDecodeError):
        return _one_by_one(enumerate(body.split(b"\n"), line), defaults, limit)


def _pieces(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Split ``body`` into pieces of whole lines, each with the number of its first line."""
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


def _split(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a large JSON array into its objects, each with its place; raises InvalidEvent.

    This only finds where each object ends; the decoder validates what is in it.
    """
    found = _START.match(body)
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
        raise InvalidEvent("the body is not a JSON array of events: there is more after its end")


def _end_of_object(body: bytes, start: int, place: int) -> int:
    """The end of the object that starts at ``start``."""
    if body[start : start + 1] != b"{":
        raise InvalidEvent(f"line {place}: not a CloudEvent", line=place)
    depth, position, limit = 0, start, min(len(body), start + MAX_EVENT_BYTES)
    while found := _TO_BRACKET.match(body, position, limit):
        depth += 1 if found[1] in b"{[" else -1
        position = found.end()
        if not depth:
            return position
    if limit < len(body):
        raise _too_long(place)
    raise InvalidEvent(f"line {place}: not a CloudEvent: it is incomplete", line=place)


def _too_many(limit: int) -> TooLarge:
    return TooLarge(f"a request may have at most {limit} events: send the rest in another")


def _too_long(line: int) -> InvalidEvent:
    message = f"line {line}: an event is longer than {MAX_EVENT_BYTES} bytes"
    return InvalidEvent(message, line=line)


def _items(body: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except RecursionError:
        raise nested_too_deep() from None
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
            events.append(parse_attributes(body, defaults))
        except InvalidInput as error:
            message = f"line {line}: {error.message}"
            raise InvalidEvent(message, field=error.field, line=line) from error
    return events
