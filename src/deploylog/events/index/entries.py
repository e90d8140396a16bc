"""Entries: hashes with offsets in a segment, in order, as a backend stores them."""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from deploylog.events.index.segments import SEGMENT_BITS, SEGMENT_SIZE

#: Bits of a hash. The offset takes the other bits of a 64-bit integer.
HASH_BITS = 48

_OFFSETS = SEGMENT_SIZE - 1


def entry_of(tag: int, offset: int) -> int:
    """The entry of a hash and an offset."""
    return tag << SEGMENT_BITS | offset


def offsets_of(entries: Sequence[int], tag: int) -> Iterator[int]:
    """The offsets that ``entries``, in order, have of a hash."""
    place = bisect_left(entries, tag << SEGMENT_BITS)
    while place < len(entries) and entries[place] >> SEGMENT_BITS == tag:
        yield entries[place] & _OFFSETS
        place += 1


def pack_entries(entries: Iterable[int]) -> bytes:
    """The entries in order, as 64-bit little-endian integers."""
    packed = array("Q", sorted(entries))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_entries(stored: bytes) -> "array[int]":
    """What ``pack_entries`` packed."""
    entries = array("Q", stored)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def upper_halves(stored: bytes) -> "array[int]":
    """The upper 32 bits of each entry."""
    halves = array("I", memoryview(stored).cast("I")[1::2].tobytes())
    if sys.byteorder == "big":
        halves.byteswap()
    return halves
