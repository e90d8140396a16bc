"""Patience: how often, and how long, to ask a server that does not answer."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from deploylog.client.connection import ClientError, ServerUnreachable
from deploylog.errors import DeploylogError

Sleep = Callable[[float], Awaitable[object]]
#: Gives a number in [0, 1).
Jitter = Callable[[], float]
Say = Callable[[str], None]

_T = TypeVar("_T")


class Unanswered(DeploylogError):
    """The server did not answer for so long that nobody waits for it any more."""


class Backoff:
    """How long to wait before the next try: twice as long each time, with jitter."""

    def __init__(self, jitter: Jitter, *, first: float = 0.1, longest: float = 5.0) -> None:
        """Wait about ``first`` seconds at first, and never more than ``longest``."""
        self.first = first
        self._jitter = jitter
        self._longest = longest
        self._tries = 0

    def next(self) -> float:
        """The seconds to wait now."""
        # Bounded, because two to the power of a week's tries is no float.
        seconds: float = min(self.first * 2 ** min(self._tries, 32), self._longest)
        self._tries += 1
        return seconds * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """Begin again: it has worked."""
        self._tries = 0


class RetryTimeout(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to go on asking."""

    #: Before the first answer.
    first: float
    #: After one, without another.
    later: float


class RetryPolicy:
    """Decides, each time there was no answer, whether and when to ask again."""

    def __init__(
        self, patience: RetryTimeout, backoff: Backoff, *, sleep: Sleep, say: Say, again: str
    ) -> None:
        """Once an outage ``say`` is told why, and that we try ``again``."""
        self.backoff = backoff
        self._left = patience.first
        self._later = patience.later
        self._sleep = sleep
        self._say = say
        self._again = again
        self._lost: float | None = None

    def answered(self) -> None:
        """Take note of an answer."""
        self._left = self._later
        self._lost = None

    async def wait(self, error: DeploylogError) -> None:
        """Wait before the next try; raises ``error`` if that has no use, or no time is left."""
        if not is_transient(error):
            raise error
        now = time.monotonic()
        since = self._lost if self._lost is not None else now
        left = self._left - (now - since)
        if left <= 0:
            raise error
        if self._lost is None:
            self._say(f"{error.message}; {self._again}")
        self._lost = since
        await self._sleep(min(self._delay(error), left))

    def _delay(self, error: DeploylogError) -> float:
        asked = error.retry_after if isinstance(error, ClientError) else None
        return max(self.backoff.next(), asked or 0.0)


def is_transient(error: DeploylogError) -> bool:
    """Whether it may go better later."""
    if isinstance(error, ClientError):
        return error.transient
    return isinstance(error, ServerUnreachable)


async def retry(call: Callable[[], Awaitable[_T]], persistence: RetryPolicy) -> _T:
    """``call`` until the server answers; raises what is final."""
    while True:
        try:
            answer = await call()
        except (ServerUnreachable, ClientError) as error:
            await persistence.wait(error)
        else:
            persistence.answered()
            return answer
