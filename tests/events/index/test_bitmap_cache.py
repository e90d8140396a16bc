"""The cache of bitmaps: what was read lately stays, within its bytes."""

from pyroaring import BitMap

from deploylog.events.index.bitmap_cache import BitmapCache, size_of

DENSE = BitMap(range(0, 65_536, 2))


def test_a_bitmap_is_known_by_its_segment_and_its_term():
    cache = BitmapCache()
    cache.put(3, "type:a", BitMap([1]))

    assert cache.get(3, "type:a") == BitMap([1])
    assert cache.get(4, "type:a") is None
    assert cache.get(3, "type:b") is None


def test_what_is_not_asked_for_is_dropped():
    cache = BitmapCache(limit=40_000)
    for number in range(10):
        cache.put(number, "type:a", DENSE)

    assert cache.get(9, "type:a") == DENSE
    assert [cache.get(number, "type:a") for number in range(5)] == [None] * 5


def test_what_is_asked_for_stays():
    cache = BitmapCache(limit=40_000)
    cache.put(0, "scope:a", DENSE)
    for number in range(1, 10):
        cache.put(number, "type:a", DENSE)
        assert cache.get(0, "scope:a") == DENSE


def test_without_room_nothing_is_remembered():
    cache = BitmapCache(limit=0)
    cache.put(1, "type:a", DENSE)
    cache.put(2, "type:a", DENSE)

    assert cache.get(1, "type:a") is None


def test_a_bitmap_is_as_large_as_it_is_stored():
    assert size_of(BitMap([1, 9])) == 4
    assert size_of(DENSE) == 8192
