"""CloudFormation as a collector sees it, and how patiently it is asked."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from deploylog.client import Backoff, Jitter, Say, Sleep
from deploylog.errors import DeploylogError
from deploylog.ingest.cloudformation.stack_event import StackEvent

_T = TypeVar("_T")


class Throttled(DeploylogError):
    """CloudFormation does not answer now, or wants to be asked less often."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Say after how many seconds it may go better, if that was said."""
        super().__init__(message)
        self.retry_after = retry_after


class CloudFormationError(DeploylogError):
    """CloudFormation refuses to answer."""


class StackNotFound(CloudFormationError):
    """CloudFormation knows no such stack."""


class FoundStack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, as CloudFormation describes it."""

    arn: str
    status: str
    tags: dict[str, str]

    @property
    def is_busy(self) -> bool:
        """Whether something is going on."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_deleted(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status == "DELETE_COMPLETE"


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events of a stack, newest first."""

    events: tuple[StackEvent, ...]
    #: Where the next page goes on, if there is one.
    next: str | None = None


class CloudFormation(Protocol):
    """Raises Busy for what may pass, and Refusing for what will not."""

    async def find(self, stack: str) -> FoundStack | None:
        """The stack of this name that exists, or that of this ARN, a deleted one too."""
        ...

    async def page(self, arn: str, token: str | None) -> Page:
        """A page of its events, the newest unless there is a token; raises Missing, too."""
        ...


class RetryingCloudFormation:
    """CloudFormation, asked again after a while when it is busy."""

    def __init__(
        self,
        within: CloudFormation,
        *,
        patience: float,
        say: Say,
        sleep: Sleep,
        jitter: Jitter,
    ) -> None:
        """Ask ``within``; give up after waiting ``patience`` seconds for one answer."""
        self._within = within
        self._patience = patience
        self._say = say
        self._sleep = sleep
        self._jitter = jitter

    async def find(self, stack: str) -> FoundStack | None:
        return await self._persist(lambda: self._within.find(stack))

    async def page(self, arn: str, token: str | None) -> Page:
        return await self._persist(lambda: self._within.page(arn, token))

    async def _persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        backoff = Backoff(self._jitter, first=1.0, longest=60.0)
        waited = 0.0
        while True:
            try:
                return await call()
            except Throttled as busy:
                if waited >= self._patience:
                    raise
                if not waited:
                    self._say(f"{busy.message}; trying again")
                delay = max(backoff.next(), busy.retry_after or 0.0)
                waited += delay
                await self._sleep(delay)
