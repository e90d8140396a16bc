"""Retries: one policy and one loop for every request that may succeed later."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from deploylog.client.connection import ClientError, TransientError
from deploylog.errors import DeploylogError

Sleep = Callable[[float], Awaitable[object]]
#: Returns a number in [0, 1).
Jitter = Callable[[], float]
#: Takes one line for the user.
Log = Callable[[str], None]

_T = TypeVar("_T")


class Unanswered(DeploylogError):
    """The server did not respond within the retry timeout."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The clock, and what else depends on time or chance; tests replace it."""

    #: ns since 1970.
    now: Callable[[], int] = time.time_ns
    #: Seconds from an arbitrary start.
    monotonic: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    jitter: Jitter = random.random


class Backoff:
    """Exponential backoff in seconds: each delay doubles, up to ``max_delay``, with jitter."""

    def __init__(self, jitter: Jitter, *, first: float = 0.1, max_delay: float = 5.0) -> None:
        self.first = first
        self._jitter = jitter
        self._max_delay = max_delay
        self._attempts = 0

    def next(self) -> float:
        """Return the next delay, of which up to half is jitter."""
        # Bounded, because two to the power of a week's attempts overflows a float.
        seconds: float = min(self.first * 2 ** min(self._attempts, 32), self._max_delay)
        self._attempts += 1
        return seconds * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """Start again with the first delay."""
        self._attempts = 0


class RetryTimeout(msgspec.Struct, frozen=True, kw_only=True):
    """How many seconds an outage may last."""

    #: Before the first response.
    initial: float
    #: After a response.
    later: float


def same_timeout(seconds: float) -> RetryTimeout:
    """Return a timeout of ``seconds``, before the first response and after it."""
    return RetryTimeout(initial=seconds, later=seconds)


#: Retries without end.
FOREVER = same_timeout(math.inf)


class RetryPolicy:
    """Decides after each failure whether and when to try again.

    It logs the start of an outage once, with ``action``, and its end when there is ``recovery``.
    """

    def __init__(
        self,
        timeout: RetryTimeout,
        timing: Timing,
        *,
        log: Log,
        action: str = "retrying",
        recovery: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.backoff = backoff or Backoff(timing.jitter)
        self._remaining = timeout.initial
        self._later = timeout.later
        self._timing = timing
        self._log = log
        self._action = action
        self._recovery = recovery
        self._outage_start: float | None = None
        #: What is wrong, during an outage.
        self._error = ""

    def change_action(self, action: str) -> None:
        """Log another action at the start of an outage; now, too, if there is one."""
        self._action = action
        if self._outage_start is not None:
            self._log(f"{self._error}; {action}")

    def connected(self) -> None:
        """End the outage: the server responds. The backoff goes on."""
        if self._outage_start is not None and self._recovery is not None:
            self._log(self._recovery)
        self._end_outage()

    def succeeded(self) -> None:
        """End the outage, and reset the backoff."""
        self.connected()
        self.backoff.reset()

    def _end_outage(self) -> None:
        self._remaining = self._later
        self._outage_start = None

    async def wait(self, error: DeploylogError) -> None:
        """Sleep before the next attempt; raises ``error`` if it is final or the timeout is over."""
        if not is_transient(error):
            self._end_outage()
            raise error
        now = self._timing.monotonic()
        start = self._outage_start if self._outage_start is not None else now
        remaining = self._remaining - (now - start)
        if remaining <= 0:
            raise error
        self._error = error.message
        if self._outage_start is None:
            self._log(f"{error.message}; {self._action}{_for_up_to(remaining)}")
        self._outage_start = start
        await self._timing.sleep(min(self._delay(error), remaining))

    def _delay(self, error: DeploylogError) -> float:
        requested = error.retry_after if isinstance(error, ClientError | TransientError) else None
        return max(self.backoff.next(), requested or 0.0)


def _for_up_to(seconds: float) -> str:
    return f" for up to {seconds:.0f} s" if math.isfinite(seconds) else ""


def is_transient(error: DeploylogError) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, TransientError) or (
        isinstance(error, ClientError) and error.is_transient
    )


async def retry(call: Callable[[], Awaitable[_T]], policy: RetryPolicy) -> _T:
    """Call until it succeeds; raises the error that ``policy`` does not retry."""
    while True:
        try:
            result = await call()
        except (TransientError, ClientError) as error:
            await policy.wait(error)
        else:
            policy.succeeded()
            return result
