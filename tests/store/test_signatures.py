"""What every store must do with signatures: ``Signatures``, sentence by sentence."""

import asyncio

from deploylog.store.contract import Store
from support.factories import OpenStoreAgain


async def test_a_signature_is_first_seen_once(store: Store, open_again: OpenStoreAgain):
    first = await store.signatures.first_seen(b"a", now=10, until=100)

    async with open_again() as other:
        again = await other.signatures.first_seen(b"a", now=20, until=110)
        new = await other.signatures.first_seen(b"b", now=20, until=110)

    assert (first, again, new) == (10, 10, 20)


async def test_an_expired_signature_is_forgotten(store: Store):
    await store.signatures.first_seen(b"a", now=10, until=100)

    assert await store.signatures.first_seen(b"a", now=99, until=200) == 10
    assert await store.signatures.first_seen(b"a", now=100, until=200) == 100


async def test_of_two_processes_at_the_same_moment_one_is_first(
    store: Store, open_again: OpenStoreAgain
):
    async with open_again() as other:
        seen = await asyncio.gather(
            *(
                each.signatures.first_seen(b"a", now=now, until=100)
                for now, each in enumerate([store, other] * 5, 1)
            )
        )

    assert len(set(seen)) == 1
