"""What can go wrong, in our words.

DeploylogError
├── InvalidInput                the caller sent something we cannot take
│   ├── InvalidScope
│   ├── InvalidFilter
│   ├── InvalidCursor
│   ├── InvalidEvent
│   ├── InvalidPlan
│   ├── InvalidSubscription
│   ├── RequestReused           an Idempotency-Key came back with another body
│   ├── PlanNotFound
│   ├── TooLarge
│   ├── QueryTooExpensive       it ran out of time; a narrower one may not
│   ├── AnswerTooLarge
│   └── UnsupportedMedia
├── Unauthenticated
├── Forbidden
├── NotFound
│   ├── MethodNotAllowed
│   ├── EventNotFound
│   │   └── EventDamaged        it is in the log, and its content is not what was recorded
│   ├── StackNotFound
│   ├── DeploymentNotFound
│   ├── ChangesetNotFound
│   ├── CleanupNotFound
│   ├── SubscriptionNotFound
│   └── KeyNotFound
├── Conflict
│   ├── StackExists
│   ├── NoEncryptionKey            secrets can only be kept encrypted
│   └── StackMismatch
├── CursorExpired               what the cursor points at is no longer retained
├── TooMany                     requests, open streams or failed attempts; try again later
├── Unavailable                 try again later
│   ├── StoreUnavailable
│   └── Stopping
└── OperatorError               the service or a command was set up wrongly
    ├── InvalidSettings
    └── SchemaTooNew

HTTP statuses are no business of this module: each dialect has one table for them.
"""

from typing import Literal

#: Why somebody is not let in: no credential at all, one that names no key that is good, one that
#: was not signed with that key's secret, one whose time is over or has not come, or one that
#: cannot be read.
Reason = Literal["missing", "unknown_key", "bad_signature", "expired", "malformed"]


class DeploylogError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        """Say ``message``, or the first line of the class's docstring when there is none."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])

    @property
    def message(self) -> str:
        """The sentence for the caller."""
        return str(self.args[0])


class InvalidInput(DeploylogError):
    """The request is not valid."""

    def __init__(
        self, message: str | None = None, *, field: str | None = None, line: int | None = None
    ) -> None:
        """Name the ``field`` at fault, and the ``line`` (from 1) where the input has lines."""
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
    """This Idempotency-Key was used before, for a request with another body."""


class PlanNotFound(InvalidInput):
    """The plan file cannot be opened."""


class TooLarge(InvalidInput):
    """The request is too large."""


class AnswerTooLarge(InvalidInput):
    """The events asked for are too large for one answer: ask for fewer."""


class QueryTooExpensive(InvalidInput):
    """The query takes too long; narrow it by scope, by time or by fewer values."""


class UnsupportedMedia(InvalidInput):
    """The content type or encoding is not supported."""


class Unauthenticated(DeploylogError):
    """Valid credentials are required."""

    def __init__(self, message: str | None = None, *, reason: Reason = "missing") -> None:
        """The ``reason`` is for dialects whose original tells it; ``message`` never does."""
        super().__init__(message)
        self.reason = reason


class Forbidden(DeploylogError):
    """You may not do this."""


class NotFound(DeploylogError):
    """There is no such thing."""


class MethodNotAllowed(NotFound):
    """This method is not for this path."""


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
    """This service has no encryption key, so it cannot keep secrets: see its secret_key_file."""


class StackMismatch(Conflict):
    """The stack id is not that of the current stack of this name."""


class CursorExpired(DeploylogError):
    """The events after this cursor are no longer retained."""


class TooMany(DeploylogError):
    """There are too many requests; try again later."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        """Say after how many seconds it may go better."""
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(DeploylogError):
    """The service cannot answer now; try again."""


class StoreUnavailable(Unavailable):
    """The store does not answer."""

    #: Whether the store has logged its trouble, so that nobody else need do so.
    reported = False


class Stopping(Unavailable):
    """The service is stopping."""


class OperatorError(DeploylogError):
    """The service or a command was set up wrongly."""


class InvalidSettings(OperatorError):
    """A setting is not valid."""


class SchemaTooNew(OperatorError):
    """The store was written by a newer Deploylog."""
