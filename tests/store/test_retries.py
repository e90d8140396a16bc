"""Retries of a request that named itself, after a part of what it recorded was forgotten."""

import asyncio

from deploylog.events.store import IdempotencyKey
from deploylog.store.contract import Store
from support.factories import new_event, new_events, now
from support.waiting import until

KEY = IdempotencyKey(key="k", fingerprint=b"f")


async def test_a_retry_whose_older_events_are_forgotten_harms_nobody(store: Store):
    """Some events of the request were recorded before it, so they go before the others."""
    old = new_event(producer_id="old")
    [first] = await store.log.append([old])
    await until(lambda: now() > first.recorded)
    batch = [old, new_event(producer_id="new")]
    [_, second] = await store.log.append(batch, request=KEY)
    await store.log.prune(second.recorded)

    retry, other = await asyncio.gather(
        store.log.append(batch, request=KEY),
        store.log.append(new_events(1)),
        return_exceptions=True,
    )

    assert isinstance(other, list), other
    assert isinstance(retry, list), retry
    assert second in retry
