"""Event ids: UUIDs of version 7 that sort as their positions do."""

import uuid
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidCursor
from deploylog.events.ids import EPOCH_BITS, POSITION_BITS, event_id, parse_event_id

_positions = st.integers(0, (1 << POSITION_BITS) - 1)
_epochs = st.integers(0, (1 << EPOCH_BITS) - 1)
_times = st.integers(0, (1 << 48) - 1)


@given(position=_positions, epoch=_epochs, milliseconds=_times)
def test_an_id_is_a_uuid_and_contains_its_parts(position: int, epoch: int, milliseconds: int):
    id = event_id(position=position, recorded=milliseconds * 1_000_000 + 999_999, epoch=epoch)

    cursor = parse_event_id(id)
    assert (cursor.position, cursor.epoch) == (position, epoch)
    assert cursor.milliseconds == milliseconds
    assert str(uuid.UUID(id)) == id
    assert uuid.UUID(id).version == 7
    assert uuid.UUID(id).variant == uuid.RFC_4122


@given(first=st.tuples(_times, _positions), second=st.tuples(_times, _positions), epoch=_epochs)
def test_ids_sort_by_time_and_then_position(
    first: tuple[int, int], second: tuple[int, int], epoch: int
):
    def id(of: tuple[int, int]) -> str:
        return event_id(position=of[1], recorded=of[0] * 1_000_000, epoch=epoch)

    assert (id(first) < id(second)) == (first < second)


def test_an_id_in_capitals_is_parsed():
    id = event_id(position=42, recorded=10**18, epoch=7)

    assert parse_event_id(id.upper()) == parse_event_id(id)


@pytest.mark.parametrize(
    "text", ["", "x", "42", "00000000-0000-4000-8000-000000000001", "0" * 32, "\0", "x" * 10_000]
)
def test_an_invalid_id_is_refused(text: str):
    with pytest.raises(InvalidCursor) as raised:
        parse_event_id(text)

    assert len(raised.value.message) < 200


@given(text=st.text(max_size=40))
def test_any_text_is_an_id_or_refused(text: str):
    with suppress(InvalidCursor):
        parse_event_id(text)
