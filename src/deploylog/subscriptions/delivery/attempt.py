"""Tries: one request, what came of it, and how that is written down."""

import msgspec

from deploylog.subscriptions.delivery import retry as schedule
from deploylog.subscriptions.delivery.lanes import QueuedBatch, pending_of
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.subscription import Attempt, Pending, Result


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel that was sent. Times in ns since 1970."""

    parcel: QueuedBatch
    verdict: Outcome
    began: int
    ended: int

    @property
    def error(self) -> str:
        """What was wrong, in words."""
        return self.verdict.error or self.verdict.answer.error or "it did not arrive"

    @property
    def is_last(self) -> bool:
        """Whether it has been tried for long enough."""
        first, tries = self.parcel.items[0].first, self.parcel.items[0].tries + 1
        return (
            first is not None
            and tries >= schedule.LEAST_TRIES
            and schedule.is_over(first, self.ended, schedule.GIVE_UP_SECONDS)
        )

    def dead_lettered(self) -> tuple[Pending, ...]:
        """The events as they are kept once they are given up."""
        return tuple(
            msgspec.structs.replace(
                pending_of(item, self.parcel.lane, due=0, error=self.error),
                dead_lettered=True,
                tries=item.tries + 1,
                first=item.first if item.first is not None else self.began,
            )
            for item in self.parcel.items
        )

    def attempts(self, result: Result, due: int | None) -> tuple[Attempt, ...]:
        """One for each event."""
        answer = self.verdict.answer
        return tuple(
            Attempt(
                position=event.position,
                event=event.id,
                started=self.began,
                latency=self.ended - self.began,
                result=result,
                status=answer.status,
                error=self.error if result != "delivered" else None,
                response=answer.body.decode("utf-8", "replace"),
                due=due,
            )
            for event in self.parcel.events
        )
