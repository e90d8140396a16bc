"""Blobs of the index: what is stored of a sealed segment, each with a checksum at its end."""

from zlib import crc32

_SIZE = 4


class DamagedSegment(Exception):
    """A blob of a sealed segment is not what was stored: the segment must be made again."""

    def __init__(self, number: int) -> None:
        """``number`` is the segment's."""
        super().__init__(f"segment {number} of the index is damaged")
        self.number = number


def with_checksum(data: bytes) -> bytes:
    """What is stored of ``data``: itself, then its CRC-32 in four little-endian bytes."""
    return data + crc32(data).to_bytes(_SIZE, "little")


def verified(stored: bytes, number: int) -> bytes:
    """What ``with_checksum`` was given; raises DamagedSegment with the segment's number."""
    # SQLite stores the type of a value beside it, where it may be damaged, too.
    if not isinstance(stored, bytes):
        raise DamagedSegment(number)
    data = stored[:-_SIZE]
    if crc32(data).to_bytes(_SIZE, "little") != stored[-_SIZE:]:
        raise DamagedSegment(number)
    return data
