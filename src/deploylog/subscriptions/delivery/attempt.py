"""A batch that was sent, and how it is recorded."""

import msgspec

from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.delivery.lanes import QueuedBatch, pending_of
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.subscription import MAX_REQUEST_BYTES, Attempt, Pending, Result


class SentBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, and the outcome of its request. Times in ns since 1970."""

    batch: QueuedBatch
    outcome: Outcome
    started: int
    finished: int

    @property
    def error(self) -> str:
        """What went wrong, for users."""
        return self.outcome.error or self.outcome.response.error or "the delivery failed"

    @property
    def is_last(self) -> bool:
        """Whether the schedule allows no further attempt."""
        first, tries = self.batch.items[0].first, self.batch.items[0].tries + 1
        return (
            first is not None
            and tries >= retry.MIN_ATTEMPTS
            and retry.has_passed(first, self.finished, retry.GIVE_UP_SECONDS)
        )

    def dead_letters(self) -> tuple[Pending, ...]:
        """The events of the batch, given up."""
        return tuple(
            msgspec.structs.replace(
                pending_of(item, self.batch.lane, due=0, error=self.error),
                dead_lettered=True,
                tries=item.tries + 1,
                first=item.first if item.first is not None else self.started,
            )
            for item in self.batch.items
        )

    def attempts(self, result: Result, due: int | None) -> tuple[Attempt, ...]:
        """One attempt for each event."""
        response = self.outcome.response
        return tuple(
            Attempt(
                position=event.position,
                event=event.id,
                started=self.started,
                latency=self.finished - self.started,
                result=result,
                status=response.status,
                error=self.error if result != "delivered" else None,
                response=response.body.decode("utf-8", "replace"),
                request=self.outcome.request[:MAX_REQUEST_BYTES].decode("utf-8", "replace"),
                due=due,
            )
            for event in self.batch.events
        )
