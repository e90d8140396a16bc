"""The bounded map: it never weighs more than its limit, and drops the oldest first."""

from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.bounded_map import BoundedMap


def test_the_oldest_entries_are_dropped_first():
    entries: BoundedMap[str, int] = BoundedMap(2)

    dropped = [entries.put(key, 0) for key in "abc"]

    assert dropped == [[], [], ["a"]]
    assert list(entries) == ["b", "c"]


def test_an_entry_put_again_is_the_newest():
    entries: BoundedMap[str, int] = BoundedMap(2)
    for key in "aba":
        entries.put(key, 0)

    entries.put("c", 0)

    assert list(entries) == ["a", "c"]


def test_a_value_above_the_limit_is_not_stored():
    entries: BoundedMap[str, bytes] = BoundedMap(3, weigh=len)
    entries.put("a", b"xx")

    assert entries.put("b", b"xxxx") == ["a", "b"]
    assert len(entries) == 0


def test_a_dropped_entry_makes_room():
    entries: BoundedMap[str, bytes] = BoundedMap(3, weigh=len)
    entries.put("a", b"xxx")

    entries.drop("a")
    entries.drop("unknown")

    assert entries.put("b", b"xxx") == []
    assert entries.oldest() == ("b", b"xxx")


def test_an_empty_map_has_no_oldest_entry():
    entries: BoundedMap[str, int] = BoundedMap(1)
    entries.put("a", 0)

    entries.clear()

    assert entries.oldest() is None
    assert "a" not in entries
    assert entries.get("a") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=9))), st.integers(0, 20))
def test_the_values_never_weigh_more_than_the_limit(puts: list[tuple[int, bytes]], limit: int):
    entries: BoundedMap[int, bytes] = BoundedMap(limit, weigh=len)
    for key, value in puts:
        entries.put(key, value)

        values = [entries.get(each) or b"" for each in entries]
        assert sum(map(len, values)) <= limit
        if len(value) <= limit:
            assert entries.get(key) == value
