"""What a writing process does; in a module of its own, so that a new interpreter can import it."""

import asyncio
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from deploylog.events.store import IdempotencyKey
from deploylog.store import open_store
from support.factories import Commits, changeset, new_event


def write_numbers(store_url: str, writer: int, number: int) -> None:
    """Append events numbered from 0, a few at a time."""

    async def write() -> None:
        async with open_store(store_url, observer=Commits()) as store:
            for first in range(0, number, 3):
                await store.log.append(
                    [
                        new_event(
                            subject=str(n), actor=f"writer-{writer}", producer_id=f"{writer}/{n}"
                        )
                        for n in range(first, min(first + 3, number))
                    ]
                )

    asyncio.run(write())


def add_changesets(
    store_url: str, requests: list[str], together: Barrier, answers: "Queue[object]"
) -> None:
    """Add a change set for each of ``requests``, each at the same moment as the others."""

    async def add() -> list[str]:
        async with open_store(store_url, observer=Commits()) as store:
            added = []
            for key in requests:
                request = IdempotencyKey(key=key, fingerprint=b"f")
                together.wait()
                stored = await store.changesets.add(changeset(), b"{}", request=request, since=0)
                added.append(stored.id)
            return added

    try:
        answers.put(asyncio.run(add()))
    except Exception as error:
        together.abort()
        answers.put(repr(error))
