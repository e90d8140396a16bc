"""What a writing process does; in a module of its own, so that a new interpreter can import it."""

import asyncio

from deploylog.store import open_store
from factories import Commits, new_event


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
