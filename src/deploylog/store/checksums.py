"""Checksums: they reveal an event that was altered.

CRC-32 (as in zlib) of the columns after ``recorded``, in the order of ``rows.COLUMNS`` and as one
MessagePack array, followed by ``position`` and ``recorded`` as little-endian 64-bit integers. The
columns come first, so that most of the work is done before an event gets its position.
"""

from struct import Struct
from typing import Any
from zlib import crc32

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_place = Struct("<qq").pack


def content_checksum(values: tuple[Any, ...]) -> int:
    """The checksum of the columns after ``recorded``."""
    return crc32(_encode(values))


def event_checksum(content: int, position: int, recorded: int) -> int:
    """The checksum of the whole row, from that of its content."""
    return crc32(_place(position, recorded), content)
