"""Following: who has streams open, how many, and how they end."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploylog.errors import TooMany
from deploylog.hub import Reader
from deploylog.principals import Principal

#: Seconds after which somebody with too many streams may try again.
RETRY_SECONDS = 5.0


class Followers:
    """The open streams, by principal."""

    def __init__(self, *, most: int) -> None:
        """``most`` streams at a time for each principal."""
        self._most = most
        self._readers: dict[Principal, set[Reader]] = {}

    @property
    def principals(self) -> list[Principal]:
        """Those with open streams."""
        return list(self._readers)

    @contextmanager
    def following(self, principal: Principal, reader: Reader) -> Iterator[None]:
        """Count the stream while in the block; raises TooMany."""
        readers = self._readers.setdefault(principal, set())
        if len(readers) >= self._most:
            message = f"{principal.name} has {self._most} streams open, and may have no more"
            raise TooMany(message, retry_after=RETRY_SECONDS)
        readers.add(reader)
        try:
            yield
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop(principal, None)

    def end(self, principal: Principal) -> None:
        """End the principal's streams."""
        for reader in self._readers.get(principal, ()):
            reader.close()
