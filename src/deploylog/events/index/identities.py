"""Identities: where the events of a source and a producer's id are, by hash.

Every append asks for identities. Hashes are random: in an index of the database each event would
change a page of its own. So those of the newest events are in memory, a sealed segment stores its
own in order, and a filter in memory tells which may be among the sealed ones.
"""

import logging
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from pyroaring import BitMap

from deploylog.events.index.blobs import DamagedSegment, verified, with_checksum
from deploylog.events.index.entries import (
    HASH_BITS,
    entry_of,
    offsets_of,
    pack_entries,
    unpack_entries,
    upper_halves,
)
from deploylog.events.index.growth import last_position
from deploylog.events.index.segments import SEGMENT_SIZE

#: Buckets of a segment, as a power of two.
IDENTITY_BUCKET_BITS = 8

#: Events whose rows are read at once.
_READ_SIZE = 1_000

_LOGGER = logging.getLogger(__name__)

#: A position, and the digest of its event's identity, see ``digest_of``.
Placed = tuple[int, int]


def digest_of(source: str, producer_id: str) -> int:
    """The signed 64-bit integer by which an identity is found. Others may have the same."""
    text = f"{len(source)}:{source}{producer_id}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


class IdentityRows(Protocol):
    """What a backend stores of identities, as one transaction knows it."""

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """One bucket of sealed segments: the segment's number, and the entries."""
        ...

    def placed(self, low: int, high: int) -> Iterable[Placed]:
        """The identities of the rows from behind ``low`` up to ``high``, in order."""
        ...


class Identities:
    """The identities of a log, as one writer knows them.

    Positions that it finds are where an event of the identity may be: its row decides.
    """

    def __init__(self) -> None:
        """It knows nothing yet."""
        #: Up to here the identities are known.
        self._known = 0
        #: By digest the newest position, and by position the one before it of the same digest.
        self._newest: dict[int, int] = {}
        self._earlier: dict[int, int] = {}
        self._sealed = range(0)
        #: The upper half of each sealed digest and offset, see ``upper_halves``; of those in the
        #: buckets that were asked for.
        self._filter = BitMap()
        self._filtered: set[int] = set()

    def catch_up(self, rows: IdentityRows, *, sealed: range, floor: int, head: int) -> None:
        """Learn what is recorded up to ``head``, by this writer or another.

        ``sealed`` are the numbers of the sealed segments, of which the first may be pruned later;
        everything up to ``floor`` is pruned.
        """
        if sealed.stop > self._sealed.stop:
            new = range(max(sealed.start, self._sealed.stop), sealed.stop)
            for bucket in sorted(self._filtered):
                self._filter_bucket(rows, bucket, new)
            self._leave_to_sealed(last_position(sealed.stop - 1))
        self._sealed = sealed
        self._known = max(self._known, floor)
        while self._known < head:
            high = min(self._known + _READ_SIZE, head)
            self.add(rows.placed(self._known, high), high)

    def add(self, placed: Iterable[Placed], known: int) -> None:
        """Take in the identities of events, behind which nothing is up to ``known``."""
        for position, digest in placed:
            earlier = self._newest.get(digest)
            if earlier is not None:
                self._earlier[position] = earlier
            self._newest[digest] = position
        self._known = known

    def forget_after(self, position: int) -> None:
        """Forget what is behind ``position``, for it was not committed."""
        newest, self._newest = self._newest, {}
        earlier, self._earlier = self._earlier, {}
        for digest, at in newest.items():
            chain: int | None = at
            while chain is not None and chain > position:
                chain = earlier.get(chain)
            if chain is not None:
                self._newest[digest] = chain
        self._earlier = {after: before for after, before in earlier.items() if after <= position}
        self._known = min(self._known, position)

    def find(self, digests: Sequence[int], rows: IdentityRows) -> list[int]:
        """The positions where events with these digests may be."""
        found = [position for digest in digests for position in self._newest_of(digest)]
        tags = list(map(_tag, digests))
        for bucket in sorted({_bucket(tag) for tag in tags} - self._filtered):
            self._filter_bucket(rows, bucket, self._sealed)
        suspects = [tag for tag in tags if _upper_half(tag) in self._filter]
        return [*found, *self._find_sealed(suspects, rows)] if suspects else found

    def _newest_of(self, digest: int) -> Iterator[int]:
        position = self._newest.get(digest)
        while position is not None:
            yield position
            position = self._earlier.get(position)

    def _find_sealed(self, tags: Sequence[int], rows: IdentityRows) -> Iterator[int]:
        by_bucket: dict[int, set[int]] = defaultdict(set)
        for tag in tags:
            by_bucket[_bucket(tag)].add(tag)
        for bucket, wanted in by_bucket.items():
            for number, stored in rows.buckets(bucket, self._sealed):
                entries = unpack_entries(_intact(stored, rows, number, bucket))
                for tag in wanted:
                    for offset in offsets_of(entries, tag):
                        yield number * SEGMENT_SIZE + offset

    def _filter_bucket(self, rows: IdentityRows, bucket: int, numbers: range) -> None:
        halves = array("I")
        for number, stored in rows.buckets(bucket, numbers):
            halves += upper_halves(_intact(stored, rows, number, bucket))
        self._filter.update(halves)
        self._filtered.add(bucket)

    def _leave_to_sealed(self, last: int) -> None:
        """Forget what is up to the position ``last``, for it is found in sealed segments."""
        self._newest = {digest: at for digest, at in self._newest.items() if at > last}
        self._earlier = {after: before for after, before in self._earlier.items() if before > last}
        self._known = max(self._known, last)


def _intact(stored: bytes, rows: IdentityRows, number: int, bucket: int) -> bytes:
    """The entries of a bucket: as they are stored or, if they are damaged, from the rows."""
    try:
        return verified(stored, number)
    except DamagedSegment as damage:
        _LOGGER.error("%s: reading its rows; mend it with deploylog verify --mend", damage)
        placed = rows.placed(number * SEGMENT_SIZE - 1, last_position(number))
        return dict(_packed(placed)).get(bucket, b"")


def identity_buckets(placed: Iterable[Placed]) -> list[tuple[int, bytes]]:
    """What is stored of a sealed segment: each bucket that has entries, and these."""
    return [(bucket, with_checksum(entries)) for bucket, entries in _packed(placed)]


def _packed(placed: Iterable[Placed]) -> list[tuple[int, bytes]]:
    buckets: dict[int, list[int]] = defaultdict(list)
    for position, digest in placed:
        tag = _tag(digest)
        buckets[_bucket(tag)].append(entry_of(tag, position % SEGMENT_SIZE))
    return [(bucket, pack_entries(entries)) for bucket, entries in sorted(buckets.items())]


def _tag(digest: int) -> int:
    """The part of a digest that entries have."""
    return digest >> (64 - HASH_BITS) & ((1 << HASH_BITS) - 1)


def _bucket(tag: int) -> int:
    return tag >> (HASH_BITS - IDENTITY_BUCKET_BITS)


def _upper_half(tag: int) -> int:
    return tag >> (HASH_BITS - 32)
