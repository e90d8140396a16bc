"""The errors of Deploylog, in one tree.

DeploylogError
├── InvalidInput                the request is not valid
│   ├── InvalidScope
│   ├── InvalidFilter
│   ├── InvalidCursor
│   ├── InvalidEvent
│   ├── InvalidPlan
│   ├── InvalidSubscription
│   ├── RequestReused           an Idempotency-Key was reused with a different body
│   ├── PlanNotFound
│   ├── TooLarge
│   ├── QueryTooExpensive       it timed out; a narrower query may not
│   ├── AnswerTooLarge
│   └── UnsupportedMedia
├── Unauthenticated
├── Forbidden
├── NotFound
│   ├── MethodNotAllowed
│   ├── EventNotFound
│   │   └── EventDamaged        the stored event differs from what was recorded
│   ├── StackNotFound
│   ├── DeploymentNotFound
│   ├── ChangesetNotFound
│   ├── CleanupNotFound
│   ├── SubscriptionNotFound
│   └── KeyNotFound
├── Conflict
│   ├── StackExists
│   ├── NoEncryptionKey         secrets are only stored encrypted
│   └── StackMismatch
├── CursorExpired               the events after the cursor are no longer retained
├── TooMany                     requests, open streams or failed attempts; retry later
├── Unavailable                 retry later
│   ├── Overloaded              too many bytes of requests are in memory
│   ├── StoreUnavailable
│   ├── LogReset                events were lost in a failover: the log has a new epoch
│   │   └── StoreFull
│   └── Stopping
└── OperatorError               the service or a command is misconfigured
    ├── InvalidSettings
    └── SchemaTooNew

This module knows no HTTP statuses: each API has one table of them.
"""

from typing import Literal

#: Why authentication failed: there is no credential, it names no valid key, it was not signed with
#: that key's secret, it has expired or is not valid yet, or it cannot be parsed.
Reason = Literal["missing", "unknown_key", "bad_signature", "expired", "malformed"]


class DeploylogError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        """Use ``message``, or else the first line of the class's docstring."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])

    @property
    def message(self) -> str:
        """The message for the client."""
        return str(self.args[0])


class InvalidInput(DeploylogError):
    """The request is not valid."""

    def __init__(
        self, message: str | None = None, *, field: str | None = None, line: int | None = None
    ) -> None:
        """``field`` is the invalid one; ``line`` counts from 1, where the input has lines."""
        super().__init__(message)
        self.field = field
        self.line = line


class InvalidScope(InvalidInput):
    """The scope is not valid."""


class InvalidFilter(InvalidInput):
    """The filter is not valid."""


class InvalidCursor(InvalidInput):
    """The cursor is not an event id of this log."""


class InvalidEvent(InvalidInput):
    """The event is not valid."""


class InvalidPlan(InvalidInput):
    """The plan is not valid."""


class InvalidSubscription(InvalidInput):
    """The subscription is not valid."""


class RequestReused(InvalidInput):
    """This Idempotency-Key was already used for a request with a different body."""


class PlanNotFound(InvalidInput):
    """The plan file cannot be opened."""


class TooLarge(InvalidInput):
    """The request is too large."""


class AnswerTooLarge(InvalidInput):
    """The events are too large for one response: request fewer."""


class QueryTooExpensive(InvalidInput):
    """The query takes too long; narrow it by scope or time, or name fewer values."""


class UnsupportedMedia(InvalidInput):
    """The content type or encoding is not supported."""


class Unauthenticated(DeploylogError):
    """Valid credentials are required."""

    def __init__(self, message: str | None = None, *, reason: Reason = "missing") -> None:
        """``reason`` is for the APIs whose originals reveal it; ``message`` never does."""
        super().__init__(message)
        self.reason = reason


class Forbidden(DeploylogError):
    """You may not do this."""


class NotFound(DeploylogError):
    """There is no such thing."""


class MethodNotAllowed(NotFound):
    """This path does not support this method."""


class EventNotFound(NotFound):
    """There is no such event."""


class EventDamaged(EventNotFound):
    """The event is damaged: the store does not hold what was recorded."""


class StackNotFound(NotFound):
    """There is no such stack."""


class DeploymentNotFound(NotFound):
    """There is no such deployment."""


class ChangesetNotFound(NotFound):
    """There is no such change set."""


class CleanupNotFound(NotFound):
    """There is no such cleanup."""


class SubscriptionNotFound(NotFound):
    """There is no such subscription."""


class KeyNotFound(NotFound):
    """There is no such key."""


class Conflict(DeploylogError):
    """The request conflicts with what is recorded."""


class StackExists(Conflict):
    """A stack of this name exists already."""


class NoEncryptionKey(Conflict):
    """No encryption key is configured: set secret_key_file to store secrets."""


class StackMismatch(Conflict):
    """The stack id does not match the current stack of this name."""


class CursorExpired(DeploylogError):
    """The events after this cursor are no longer retained."""


class TooMany(DeploylogError):
    """Too many requests; try again later."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        """``retry_after`` is in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(DeploylogError):
    """The service is unavailable; try again."""

    #: Seconds.
    retry_after = 1.0


class Overloaded(Unavailable):
    """The service holds as many bytes of requests as it may; try again."""


class StoreUnavailable(Unavailable):
    """The store is unavailable."""

    #: Whether the store has logged the error already.
    reported = False


class StoreFull(StoreUnavailable):
    """The store is full."""

    # People must make room first.
    retry_after = 5.0


class LogReset(Unavailable):
    """The log has lost events that were seen, and has a new epoch."""

    def __init__(self, message: str | None = None, *, is_first: bool = False) -> None:
        """``is_first`` is whether this process found out, and gave the log its new epoch."""
        super().__init__(message)
        self.is_first = is_first


class Stopping(Unavailable):
    """The service is stopping."""


class OperatorError(DeploylogError):
    """The service or a command is misconfigured."""


class InvalidSettings(OperatorError):
    """A setting is not valid."""


class SchemaTooNew(OperatorError):
    """The store was written by a newer Deploylog."""
