"""Detection of replays: a signature that is sent again after the grace period, to any process."""

import hashlib
from collections.abc import Callable

from deploylog.auth.store import Signatures
from deploylog.errors import Unavailable
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.times import SECOND

#: Seconds within which a signature may repeat: a client that retries within the second produces the
#: same signature, and so do two equal requests of one second.
GRACE_SECONDS = 10

#: Default limit of signatures that a process remembers beside the store; the oldest are dropped
#: first.
MAX_SIGNATURES = 100_000


class ReplayCache:
    """Knows when each signature was first seen, until it expires on its own."""

    def __init__(
        self,
        signatures: Signatures,
        *,
        lifetime: int,
        clock: Callable[[], int],
        limit: int = MAX_SIGNATURES,
    ) -> None:
        """``lifetime`` of a signature in seconds; ``clock`` returns ns, as in all processes."""
        self._signatures = signatures
        self._lifetime = lifetime * SECOND
        self._clock = clock
        #: By signature, oldest first.
        self._first_seen: BoundedMap[str, int] = BoundedMap(limit)

    async def is_replay(self, signature: str) -> bool:
        """Whether the signature was first seen too long ago for this to be a client's retry."""
        now = self._clock()
        first = self._first_seen.get(signature)
        if first is None:
            first = await self._shared(signature, now)
            self._first_seen.put(signature, first)
        self._drop(now - self._lifetime)
        return now - first > GRACE_SECONDS * SECOND

    async def _shared(self, signature: str, now: int) -> int:
        """When any process first saw the signature."""
        digest = hashlib.sha256(signature.encode()).digest()
        try:
            return await self._signatures.first_seen(digest, now=now, until=now + self._lifetime)
        except Unavailable:
            # What acts needs the store, and fails too; what only reads need not.
            return now

    def _drop(self, before: int) -> None:
        """Drop the signatures first seen before this time."""
        while (oldest := self._first_seen.oldest()) is not None and oldest[1] < before:
            self._first_seen.drop(oldest[0])
