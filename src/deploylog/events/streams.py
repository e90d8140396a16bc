"""The streams that each principal has open: how many, and how they are closed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from deploylog.errors import TooMany
from deploylog.events.access import Principal
from deploylog.events.hub import Reader

#: Seconds after which a principal with too many streams may try again.
RETRY_SECONDS = 5.0


class OpenStreams:
    """The open streams, by principal."""

    def __init__(self, *, max_per_principal: int) -> None:
        self._max = max_per_principal
        #: Each principal as it was when its stream was opened: its token has an expiry.
        self._readers: dict[Reader, Principal] = {}
        self._counts: Counter[str] = Counter()

    @property
    def principals(self) -> set[Principal]:
        """The principals that have open streams."""
        return set(self._readers.values())

    @contextmanager
    def track(self, principal: Principal, reader: Reader) -> Iterator[None]:
        """Count the stream while in the block; raises TooMany."""
        # A new token does not make its bearer another principal.
        identity = principal.identity
        if self._counts[identity] >= self._max:
            message = (
                f"{principal.name} has {self._max} streams open, which is the limit: "
                "close one, then try again"
            )
            raise TooMany(message, retry_after=RETRY_SECONDS)
        self._counts[identity] += 1
        self._readers[reader] = principal
        try:
            yield
        finally:
            del self._readers[reader]
            self._counts[identity] -= 1
            if not self._counts[identity]:
                del self._counts[identity]

    def close(self, principal: Principal) -> None:
        """Close the principal's streams."""
        for reader, owner in self._readers.items():
            if owner == principal:
                reader.close()
