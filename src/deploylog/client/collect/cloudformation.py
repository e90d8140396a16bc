"""CloudFormation as a collector sees it, and retries of calls to it."""

from typing import Protocol

import msgspec

from deploylog.client import Backoff, Log, Timing, TransientError
from deploylog.client.retry import RetryPolicy, retry, same_timeout
from deploylog.errors import DeploylogError
from deploylog.ingest.cloudformation.stack_event import StackEvent


class Throttled(TransientError):
    """CloudFormation does not respond, or throttles requests."""


class CloudFormationError(DeploylogError):
    """CloudFormation refused a request."""


class StackNotFound(CloudFormationError):
    """CloudFormation has no such stack."""


class FoundStack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, as CloudFormation describes it."""

    arn: str
    status: str
    tags: dict[str, str]

    @property
    def is_busy(self) -> bool:
        """Whether an operation is running."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_deleted(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status == "DELETE_COMPLETE"


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a stack's events, newest first."""

    events: tuple[StackEvent, ...]
    #: The token of the next page, if there is one.
    next: str | None = None


class CloudFormation(Protocol):
    """Raises Throttled for what may succeed later, and CloudFormationError for what will not."""

    async def find(self, stack: str) -> FoundStack | None:
        """Return the stack that has this name now, or that has this ARN, even if it is deleted."""
        ...

    async def page(self, arn: str, token: str | None) -> Page:
        """Return a page of a stack's events, the newest without a token; raises StackNotFound."""
        ...


class RetryingCloudFormation:
    """Calls another ``CloudFormation``, and retries each call for up to ``retry_timeout`` seconds
    while it is throttled.
    """

    def __init__(
        self, inner: CloudFormation, *, retry_timeout: float, timing: Timing, log: Log
    ) -> None:
        self._inner = inner
        self._timeout = same_timeout(retry_timeout)
        self._timing = timing
        self._log = log

    async def find(self, stack: str) -> FoundStack | None:
        return await retry(lambda: self._inner.find(stack), self._new_policy())

    async def page(self, arn: str, token: str | None) -> Page:
        return await retry(lambda: self._inner.page(arn, token), self._new_policy())

    def _new_policy(self) -> RetryPolicy:
        backoff = Backoff(self._timing.jitter, first=1.0, max_delay=60.0)
        return RetryPolicy(self._timeout, self._timing, log=self._log, backoff=backoff)
