"""Event ids: the public form of a position (RFC 9562 UUIDs of version 7).

An id holds, from the left: 48 bits of Unix milliseconds when the event was recorded, 34 bits
of the log's *epoch* (drawn once, when the log is created) and 40 bits of position, around the
fixed version and variant bits. So an id sorts as its position does, converts to it without a
lookup, and an id of another log, such as a store that was recreated, is recognised.
"""

import uuid
from functools import lru_cache

import msgspec

from deploylog.errors import InvalidCursor

POSITION_BITS = 40
EPOCH_BITS = 34

_LOW_EPOCH_BITS = 62 - POSITION_BITS
_POSITION_MASK = (1 << POSITION_BITS) - 1
_LOW_EPOCH_MASK = (1 << _LOW_EPOCH_BITS) - 1


class EventId(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an event id."""

    #: Unix milliseconds.
    milliseconds: int
    epoch: int
    position: int


def event_id(*, position: int, recorded: int, epoch: int) -> str:
    """The id of the event at ``position``, recorded at ``recorded`` (ns since 1970)."""
    return f"{id_prefix(recorded // 1_000_000, epoch)}{position:010x}"


@lru_cache(maxsize=1024)
def id_prefix(milliseconds: int, epoch: int) -> str:
    """The common prefix of the ids of one millisecond: all but the position's ten digits."""
    high = milliseconds << 16 | 0x7000 | epoch >> _LOW_EPOCH_BITS
    low = 0b10 << 62 | (epoch & _LOW_EPOCH_MASK) << POSITION_BITS
    head, tail = f"{high:016x}", f"{low:016x}"
    return f"{head[:8]}-{head[8:12]}-{head[12:]}-{tail[:4]}-{tail[4:6]}"


def parse_event_id(text: str) -> EventId:
    """Parse an id; raises InvalidCursor when ``text`` is not a UUID of version 7."""
    try:
        value = uuid.UUID(text)
    except ValueError as error:
        raise InvalidCursor(f"{text[:64]!r} is not an event id") from error
    if value.version != 7:
        raise InvalidCursor(f"{text[:64]!r} is not an event id")
    high, low = value.int >> 64, value.int & (1 << 64) - 1
    return EventId(
        milliseconds=high >> 16,
        epoch=(high & 0xFFF) << _LOW_EPOCH_BITS | (low >> POSITION_BITS) & _LOW_EPOCH_MASK,
        position=low & _POSITION_MASK,
    )
