"""Sealed segments: how a full segment is stored, and read back.

A term with ``COMMON`` events or more, or one that is listed, has a row of its own: a roaring bitmap
in its portable serialization. All other terms are rare, and share rows in two forms:

* A *bucket* has the entries of the rare terms whose hash falls into it: 64-bit little-endian
  integers, 48 bits of the hash over 16 bits of the position, in order (see ``entries``).
* A *page* has the texts of some rare terms, in order, as a MessagePack array, compressed by zlib.
  It is where the terms that start with a prefix are found.

Each of these, and the times of a segment, has a checksum at its end (see ``blobs``).
"""

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec
from pyroaring import BitMap

from deploylog.events.index.bitmap_cache import BitmapCache
from deploylog.events.index.blobs import verified, with_checksum
from deploylog.events.index.entries import (
    HASH_BITS,
    entry_of,
    offsets_of,
    pack_entries,
    unpack_entries,
)
from deploylog.events.index.segments import (
    GrowingSegment,
    Times,
    bitmap_of,
    union,
)
from deploylog.events.index.terms import is_listed

#: Buckets of a segment, as a power of two.
BUCKET_BITS = 9

#: Texts of one page.
PAGE_TERMS = 512

#: Fields whose rare terms can be found by a prefix.
PREFIXED = (
    "word:",
    "subject:",
    "resource_name:",
    "resource_key:",
    "resource_address:",
    "resource_id:",
)

_NOTHING = BitMap()


class SegmentRows(Protocol):
    """What a backend stores of sealed segments, as one moment knows it."""

    def terms(self, prefix: str, number: int, limit: int) -> Iterable[str]:
        """Up to ``limit`` terms of one segment that have a row of their own and start with
        ``prefix``.
        """
        ...

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """The rows of a term: the segment's number, and its bitmap."""
        ...

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """One bucket of several segments: the segment's number, and the entries."""
        ...

    def listed(self, prefix: str, number: int) -> Iterable[tuple[str, bytes]]:
        """The terms of one segment that have a row of their own and start with ``prefix``."""
        ...

    def pages(self, prefix: str, number: int) -> Iterable[bytes]:
        """The pages of one segment that may have terms which start with ``prefix``."""
        ...


class SealedSegment:
    """A segment as it was stored. What a search needs of it is read for many segments at once."""

    def __init__(
        self, number: int, times: Times, rows: SegmentRows, cache: BitmapCache | None = None
    ) -> None:
        """``times`` are the segment's; ``cache`` is of the same log as ``rows``."""
        self.number = number
        self.times = times
        self._rows = rows
        self._cache = BitmapCache() if cache is None else cache
        self._bitmaps: dict[str, BitMap] = {}
        self._buckets: dict[int, Sequence[int]] = {}

    def having(self, term: str) -> BitMap:
        if term not in self._bitmaps:
            read_term((self,), term, self._rows, among=(self.number,))
        return self._bitmaps[term]

    def starting(self, prefix: str) -> BitMap:
        return union([positions for _, positions in self.values(prefix)])

    def values(self, prefix: str) -> Iterator[tuple[str, BitMap]]:
        for term, stored in self._rows.listed(prefix, self.number):
            yield term, unpack_bitmap(verified(stored, self.number))
        for page in self._rows.pages(prefix, self.number):
            for term in unpack_page(verified(page, self.number)):
                if term.startswith(prefix):
                    yield term, self._rare(term)

    def remembers(self, term: str) -> bool:
        """Whether the bitmap of a term need not be read."""
        if term not in self._bitmaps and (known := self._cache.get(self.number, term)) is not None:
            self._bitmaps[term] = known
        return term in self._bitmaps

    def add_bitmap(self, term: str, stored: bytes) -> None:
        """What ``SegmentRows.bitmaps`` has of a term."""
        bitmap = self._bitmaps[term] = unpack_bitmap(verified(stored, self.number))
        self._cache.put(self.number, term, bitmap)

    def add_bucket(self, bucket: int, stored: bytes) -> None:
        """What ``SegmentRows.buckets`` has of a bucket."""
        self._buckets[bucket] = unpack_entries(verified(stored, self.number))

    def settle(self, term: str) -> None:
        """Take the term to be rare, if no bitmap of it was added."""
        if term not in self._bitmaps:
            self._bitmaps[term] = _NOTHING if is_listed(term) else self._rare(term)

    def needs_bucket(self, term: str, bucket: int) -> bool:
        """Whether the bucket decides about the term, and was not added."""
        return term not in self._bitmaps and bucket not in self._buckets

    def _rare(self, term: str) -> BitMap:
        bucket, tag = _hashed(term)
        if bucket not in self._buckets:
            self._buckets[bucket] = ()
            for _, stored in self._rows.buckets(bucket, (self.number,)):
                self.add_bucket(bucket, stored)
        return BitMap(offsets_of(self._buckets[bucket], tag))


def read_term(
    segments: Sequence[SealedSegment], term: str, rows: SegmentRows, *, among: Sequence[int]
) -> None:
    """Read what the segments ``among`` these have of a term, in one query; the others lack it."""
    by_number = {segment.number: segment for segment in segments}
    unread = [number for number in among if not by_number[number].remembers(term)]
    if unread:
        for number, stored in rows.bitmaps(term, unread):
            by_number[number].add_bitmap(term, stored)
    if not is_listed(term):
        _read_bucket(segments, term, rows)
    for segment in segments:
        segment.settle(term)


def _read_bucket(segments: Sequence[SealedSegment], term: str, rows: SegmentRows) -> None:
    bucket, _ = _hashed(term)
    unread = {each.number: each for each in segments if each.needs_bucket(term, bucket)}
    if unread:
        for number, stored in rows.buckets(bucket, tuple(unread)):
            unread[number].add_bucket(bucket, stored)


def _hashed(term: str) -> tuple[int, int]:
    """The bucket of a rare term, and the part of its hash that its entries have."""
    digest = int.from_bytes(blake2b(term.encode(), digest_size=8).digest())
    return digest >> (64 - BUCKET_BITS), digest & ((1 << HASH_BITS) - 1)


def unpack_bitmap(stored: bytes) -> BitMap:
    """The positions of a term."""
    return BitMap.deserialize(stored)


def unpack_page(stored: bytes) -> list[str]:
    """The terms of a page, in order."""
    return msgspec.msgpack.decode(zlib.decompress(stored), type=list[str])


def pack_times(times: Times) -> bytes:
    """The bounds of a segment's blocks as 64-bit little-endian integers."""
    bounds = array("q", times.bounds)
    if sys.byteorder == "big":
        bounds.byteswap()
    return bounds.tobytes()


def unpack_times(stored: bytes) -> Times:
    """What ``pack_times`` packed."""
    bounds = array("q", stored)
    if sys.byteorder == "big":
        bounds.byteswap()
    return Times(bounds)


class Sealed(msgspec.Struct, frozen=True):
    """What of a full segment is to be stored, in slices; each may be written by itself."""

    bitmaps: Iterable[tuple[str, bytes]]
    buckets: Iterable[tuple[int, bytes]]
    #: The first term of each page, and the page.
    pages: Iterable[tuple[str, bytes]]
    times: bytes


def seal(segment: GrowingSegment) -> Sealed:
    """The stored form of a segment to which nothing is added any more."""
    common: list[tuple[str, BitMap]] = []
    buckets: list[list[int]] = [[] for _ in range(1 << BUCKET_BITS)]
    prefixed: dict[str, list[str]] = {}
    for term, positions in segment.terms():
        if is_listed(term) or isinstance(positions, BitMap):
            common.append((term, bitmap_of(positions)))
            continue
        bucket, tag = _hashed(term)
        if isinstance(positions, int):
            buckets[bucket].append(entry_of(tag, positions))
        else:
            buckets[bucket] += [entry_of(tag, each) for each in positions]
        if term.startswith(PREFIXED):
            # Sorted in many small parts, for a sort holds the interpreter's lock.
            prefixed.setdefault(term[: term.index(":") + 2], []).append(term)
    return Sealed(
        bitmaps=_bitmaps(common),
        buckets=(
            (bucket, with_checksum(pack_entries(entries)))
            for bucket, entries in enumerate(buckets)
            if entries
        ),
        pages=_pages(prefixed),
        times=with_checksum(pack_times(segment.times)),
    )


def _bitmaps(common: Iterable[tuple[str, BitMap]]) -> Iterator[tuple[str, bytes]]:
    for term, positions in sorted(common, key=lambda each: each[0]):
        packed = BitMap(positions)
        packed.run_optimize()
        yield term, with_checksum(packed.serialize())


def _pages(parts: dict[str, list[str]]) -> Iterator[tuple[str, bytes]]:
    for part in sorted(parts):
        terms = sorted(parts[part])
        for start in range(0, len(terms), PAGE_TERMS):
            page = terms[start : start + PAGE_TERMS]
            yield page[0], with_checksum(zlib.compress(msgspec.msgpack.encode(page), 1))
