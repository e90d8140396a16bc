"""Growth, and the order of terms."""

from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.index.growth import Growth
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.index.terms import after_all

_characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\U0010ffff\ud7ff\ue000")


@given(prefix=st.text(_characters, max_size=3), rest=st.text(_characters, max_size=3))
def test_no_text_with_a_prefix_is_after_what_follows_all_of_them(prefix: str, rest: str):
    prefix = f"actor:{prefix}"

    assert f"{prefix}{rest}".encode() < after_all(prefix).encode()
    assert after_all(prefix).encode() > prefix.encode()


@given(prefix=st.text(_characters, max_size=3), other=st.text(_characters, max_size=4))
def test_what_is_between_a_prefix_and_the_next_text_starts_with_it(prefix: str, other: str):
    prefix, other = f"actor:{prefix}", f"actor:{other}"

    is_between = prefix.encode() <= other.encode() < after_all(prefix).encode()

    assert is_between == other.startswith(prefix)


def test_dropping_sealed_segments_leaves_the_newest():
    growth = Growth(SEGMENT_SIZE - 2)
    growth.add(SEGMENT_SIZE - 1, 1, ["a"])
    growth.add(SEGMENT_SIZE, 1, ["a"])

    growth.drop_through(0)

    assert [segment.number for segment in growth.segments] == [1]
    assert growth.full() == []
