"""Following: who has streams open, how many, and how they end."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from deploylog.errors import TooMany
from deploylog.events.access import Principal
from deploylog.events.hub import Reader

#: Seconds after which somebody with too many streams may try again.
RETRY_SECONDS = 5.0


class OpenStreams:
    """The open streams, by principal."""

    def __init__(self, *, most: int) -> None:
        """``most`` streams at a time for each principal."""
        self._most = most
        #: As each principal was when the stream began: a token says when it ends.
        self._readers: dict[Reader, Principal] = {}
        self._open: Counter[str] = Counter()

    @property
    def principals(self) -> set[Principal]:
        """Those with open streams."""
        return set(self._readers.values())

    @contextmanager
    def following(self, principal: Principal, reader: Reader) -> Iterator[None]:
        """Count the stream while in the block; raises TooMany."""
        # Whoever has a new token is nobody new.
        who = principal.identity
        if self._open[who] >= self._most:
            message = f"{principal.name} has {self._most} streams open, and may have no more"
            raise TooMany(message, retry_after=RETRY_SECONDS)
        self._open[who] += 1
        self._readers[reader] = principal
        try:
            yield
        finally:
            del self._readers[reader]
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    def end(self, principal: Principal) -> None:
        """End the principal's streams."""
        for reader, whose in self._readers.items():
            if whose == principal:
                reader.close()
