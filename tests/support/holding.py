"""A subscription that is claimed, at times that tests set."""

from typing import Any

from deploylog.store.contract import Store
from deploylog.subscriptions.subscription import Subscription
from support.factories import subscription

NOW = 1_000
LATER = 2_000


async def held(store: Store, **fields: Any) -> Subscription:
    """A subscription that ``me`` holds from ``NOW`` until ``LATER``."""
    new = subscription(**fields)
    await store.subscriptions.add(new)
    await store.deliveries.claim("me", now=NOW, until=LATER)
    return new
