"""A writer that goes on while the service refuses."""

import asyncio
import random

from bench.crash import KnownBy, Writer
from bench.http1 import Client, UnexpectedAnswer

_PAUSE_SECONDS = 0.02

#: The statuses with which a service may refuse what it cannot record for now.
REFUSALS = ("503", "507")


class PatientWriter(Writer):
    """Sends a batch again that was refused, unless nothing would make it known."""

    def __init__(
        self, number: int, choice: random.Random, known_by: KnownBy, *, largest: int
    ) -> None:
        super().__init__(number, choice, largest=largest, known_by=known_by)
        self.is_done = False
        self.refused = 0
        #: The longest time between two acknowledgements, in seconds.
        self.longest = 0.0

    async def write(self, port: int) -> None:
        """Write until told to end, and what is pending then."""
        client, loop = await Client.open(port), asyncio.get_running_loop()
        before = loop.time()
        while not self.is_done or self.pending:
            try:
                await self.write_batch(client)
            except UnexpectedAnswer as error:
                if not str(error).startswith(REFUSALS):
                    raise
                self._give_up()
            else:
                self.longest, before = max(self.longest, loop.time() - before), loop.time()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _give_up(self) -> None:
        self.refused += 1
        if self.known_by == "nothing":
            self.pending = None
