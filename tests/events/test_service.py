"""The service: a page is read and its cursors are checked in one call."""

import pytest

from deploylog.errors import CursorExpired
from deploylog.events.access import ANONYMOUS
from deploylog.events.chronology import Moment
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.factories import new_events, now

LATER = 10**12


@pytest.fixture
async def pruned(store: Store, service: EventService) -> EventService:
    """A service whose first three events are no longer retained."""
    await store.log.append(new_events(3))
    await store.log.prune(now() + LATER)
    await store.log.append(new_events(2))
    return service


@pytest.mark.parametrize("cursor", [{"after": 2}, {"before": 2}, {"after": 2, "before": 5}])
async def test_a_page_at_an_expired_cursor_is_refused(pruned: EventService, cursor: dict[str, int]):
    with pytest.raises(CursorExpired):
        await pruned.page(ANONYMOUS, Query(**cursor))  # type: ignore[arg-type]


async def test_a_page_at_the_floor_has_the_rest(pruned: EventService):
    page = await pruned.page(ANONYMOUS, Query(after=3, order="oldest"))

    assert [event.position for event in page] == [4, 5]


async def test_a_page_without_a_cursor_is_never_expired(pruned: EventService):
    assert len(await pruned.page(ANONYMOUS, Query())) == 2


async def test_a_page_by_time_at_an_expired_cursor_is_refused(pruned: EventService):
    with pytest.raises(CursorExpired):
        await pruned.page_by_time(ANONYMOUS, Query(), beyond=Moment(0, 2))


async def test_a_page_by_time_at_the_floor_has_the_rest(pruned: EventService):
    page = await pruned.page_by_time(ANONYMOUS, Query(order="oldest"), beyond=Moment(0, 3))

    assert [event.position for event in page.events] == [4, 5]
