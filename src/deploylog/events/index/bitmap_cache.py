"""Bitmaps of sealed segments that queries have read lately: most queries share their terms.

A reader's scopes and groups are in each of its queries, and a sealed segment never changes.
"""

from pyroaring import BitMap

#: Bytes of bitmaps that a process remembers.
CACHED_BYTES = 16 * 1024 * 1024

#: What an entry takes beside its bitmap, in bytes.
_OVERHEAD = 200


class BitmapCache:
    """The bitmaps in two generations: an old one is dropped when as much has been read since.

    Any thread may ask. Nobody may change a bitmap of it.
    """

    def __init__(self, limit: int = CACHED_BYTES) -> None:
        """The bitmaps have ``limit`` bytes at most, as they are stored."""
        self._limit = limit
        self._new: dict[tuple[int, str], BitMap] = {}
        self._old: dict[tuple[int, str], BitMap] = {}
        self._size = 0

    def get(self, number: int, term: str) -> BitMap | None:
        """The bitmap of a term in the segment ``number``, if it is remembered."""
        key = number, term
        found = self._new.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self._remember(key, found)
        return found

    def put(self, number: int, term: str, bitmap: BitMap) -> None:
        """Remember what the segment ``number`` has of a term."""
        self._remember((number, term), bitmap)

    def _remember(self, key: tuple[int, str], bitmap: BitMap) -> None:
        self._new[key] = bitmap
        self._size += _OVERHEAD + size_of(bitmap)
        if self._size > self._limit // 2:
            self._old, self._new, self._size = self._new, {}, 0


def size_of(bitmap: BitMap) -> int:
    """The bytes of a bitmap of one segment: an array of 16-bit integers, or a bit for each."""
    return min(2 * len(bitmap), 8192)
