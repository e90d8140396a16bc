"""Verification of the index: a sealed segment compared with the events that it was made of."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, TypeVar

import apsw
from pyroaring import BitMap

from deploylog.events.index.blobs import DamagedSegment, verified
from deploylog.events.index.entries import unpack_entries
from deploylog.events.index.identities import IDENTITY_BUCKET_BITS
from deploylog.events.index.sealed import BUCKET_BITS, seal, unpack_page, unpack_times
from deploylog.events.index.segments import BLOCK_BITS, SEGMENT_SIZE
from deploylog.store.live_index import grown_from_rows
from deploylog.store.sqlite.connection import all_rows, one_value
from deploylog.store.sqlite.identities import sealed_identities
from deploylog.store.sqlite.index import SqliteIndexTables

_OFFSETS = SEGMENT_SIZE - 1

_Key = TypeVar("_Key")


class SegmentDifference:
    """One sealed segment, as it is stored and as its events are."""

    def __init__(self, connection: apsw.Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._first = number * SEGMENT_SIZE
        [(self._floor,)] = all_rows(connection, "SELECT floor FROM log")
        self._expected = seal(grown_from_rows(SqliteIndexTables(), connection, number))
        self._broken: list[str] = []

    def findings(self, damaged: Set[int]) -> Iterator[str]:
        """What differs. Of damaged and pruned events nothing is compared."""
        ignored = BitMap([p - self._first for p in damaged if 0 <= p - self._first < SEGMENT_SIZE])
        # What a damaged event was found by is not known.
        is_sound = not ignored
        if self._floor >= self._first and self._floor:
            ignored |= BitMap(range(min(self._floor + 1 - self._first, SEGMENT_SIZE)))
        yield from self._terms(ignored)
        yield from self._buckets(ignored)
        yield from self._identities(ignored)
        if is_sound:
            yield from self._pages() if not ignored else self._listed_terms()
            yield from self._times(ignored)
        yield from self._broken

    def _terms(self, ignored: BitMap) -> Iterator[str]:
        stored = dict(all_rows(self._connection, _TERMS, (self._number,)))
        for term, there, expected in self._both("term", stored, dict(self._expected.bitmaps)):
            if ignored and (there is None or expected is None):
                # Without them a term may be rare that was common.
                continue
            wrong = (_bitmap(there) ^ _bitmap(expected)) - ignored
            if wrong:
                yield f"term {term!r} is wrong for position {self._first + wrong[0]}"

    def _buckets(self, ignored: BitMap) -> Iterator[str]:
        first = self._number << BUCKET_BITS
        rows = all_rows(self._connection, _BUCKETS, (first, first + (1 << BUCKET_BITS)))
        stored = {id - first: entries for id, entries in rows}
        for bucket, there, expected in self._both("bucket", stored, dict(self._expected.buckets)):
            difference = _entries(there) ^ _entries(expected)
            wrong = [each for each in difference if each & _OFFSETS not in ignored]
            if wrong and not ignored:
                position = self._first + (min(wrong) & _OFFSETS)
                yield f"bucket {bucket} is wrong for position {position}"

    def _identities(self, ignored: BitMap) -> Iterator[str]:
        first = self._number << IDENTITY_BUCKET_BITS
        last = first + (1 << IDENTITY_BUCKET_BITS) - 1
        stored = dict(all_rows(self._connection, _IDENTITIES, (first, last)))
        expected = sealed_identities(self._connection, self._number)
        by_id = {first + bucket: entries for bucket, entries in expected.buckets}
        for _, there, right in self._both("identities", stored, by_id):
            wrong = [e for e in _entries(there) ^ _entries(right) if e & _OFFSETS not in ignored]
            if wrong:
                yield f"the identity of position {self._first + (min(wrong) & _OFFSETS)} is wrong"

    def _pages(self) -> Iterator[str]:
        stored = dict(all_rows(self._connection, _PAGES, (self._number,)))
        for first, there, expected in self._both("page", stored, dict(self._expected.pages)):
            if there is None or expected is None or unpack_page(there) != unpack_page(expected):
                yield f"the page of terms from {first!r} is wrong"

    def _listed_terms(self) -> Iterator[str]:
        """The same where some events are pruned: their terms may be there, too."""
        common = {row[0] for row in all_rows(self._connection, _TERMS, (self._number,))}
        there = set(self._terms_in(all_rows(self._connection, _PAGES, (self._number,))))
        expected = set(self._terms_in(self._expected.pages))
        # A damaged page is found already, and has terms.
        for each in sorted(expected - there - common) if not self._broken else ():
            yield f"the term {each!r} is in no page"

    def _terms_in(self, pages: Iterable[tuple[str, bytes]]) -> Iterator[str]:
        for first, page in pages:
            try:
                yield from unpack_page(verified(page, self._number))
            except DamagedSegment:
                self._broken.append(f"page {first!r} is damaged (checksum mismatch)")

    def _times(self, ignored: BitMap) -> Iterator[str]:
        sql = "SELECT CAST(times AS BLOB) FROM segments WHERE number = ?"
        stored = {"times": one_value(self._connection, sql, (self._number,))}
        for _, there, expected in self._both("the", stored, {"times": self._expected.times}):
            pairs = zip(*(unpack_times(each).blocks() for each in (there, expected)), strict=True)
            for block, (found, right) in enumerate(pairs):
                is_whole = block << BLOCK_BITS not in ignored
                if is_whole and found != right:
                    yield f"the times of block {block} are wrong"

    def _both(
        self, what: str, stored: Mapping[_Key, bytes], expected: Mapping[_Key, bytes]
    ) -> Iterator[tuple[_Key, Any, Any]]:
        """What differs, without checksums; what its checksum proves to be damaged is noted."""
        for key in {**stored, **expected}:
            there, right = stored.get(key), expected.get(key)
            if there == right:
                continue
            try:
                yield key, self._opened(there), self._opened(right)
            except DamagedSegment:
                self._broken.append(f"{what} {key!r} is damaged (checksum mismatch)")

    def _opened(self, blob: bytes | None) -> bytes | None:
        return verified(blob, self._number) if blob is not None else None


def _bitmap(stored: bytes | None) -> BitMap:
    return BitMap.deserialize(stored) if stored is not None else BitMap()


def _entries(stored: bytes | None) -> set[int]:
    return set(unpack_entries(stored)) if stored is not None else set()


_TERMS = "SELECT term, CAST(positions AS BLOB) FROM segment_terms WHERE segment = ?"

_BUCKETS = "SELECT id, CAST(entries AS BLOB) FROM segment_buckets WHERE id >= ? AND id < ?"

_IDENTITIES = "SELECT id, CAST(entries AS BLOB) FROM segment_identities WHERE id BETWEEN ? AND ?"

_PAGES = "SELECT first, CAST(terms AS BLOB) FROM segment_pages WHERE segment = ?"
