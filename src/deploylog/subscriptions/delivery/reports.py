"""The reports of a worker: each has the checkpoint, and what became of a batch."""

from collections.abc import Sequence

from deploylog.subscriptions.delivery.attempt import SentBatch
from deploylog.subscriptions.delivery.circuit import CircuitBreaker
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.lanes import DeliveryQueue
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.status_events import Status, status_event
from deploylog.subscriptions.subscription import Delivery, Pending, Result, State, Subscription


class DeliveryReports:
    """Reports about one subscription, in the order of what happens."""

    def __init__(
        self,
        subscription: Subscription,
        queue: DeliveryQueue,
        circuit: CircuitBreaker,
        recorder: DeliveryRecorder,
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._queue = queue
        self._circuit = circuit
        self._recorder = recorder
        self._clock = clock
        #: The one that was reported last.
        self.checkpoint = subscription.checkpoint

    def report(
        self,
        sent: SentBatch | None = None,
        result: Result = "delivered",
        *,
        delivered_positions: Sequence[int] = (),
        pending: Sequence[Pending] = (),
        due: int | None = None,
        state: State | None = None,
        reason: str | None = None,
    ) -> None:
        """Record soon what became of a batch, or without one how far the worker is."""
        self.checkpoint = self._queue.checkpoint
        self._recorder.report(
            Delivery(
                subscription=self._subscription.id,
                attempts=sent.attempts(result, due) if sent is not None else (),
                checkpoint=self.checkpoint,
                delivered_positions=tuple(delivered_positions),
                pending=(*pending, *self._queue.drain_held()),
                messages=sent.outcome.messages if sent is not None else (),
                state=state,
                reason=reason,
                failing_since=self._circuit.failing_since,
            )
        )

    def emit(self, status: Status, reason: str, *, key: str) -> None:
        """Append an event about the subscription to the log soon, before the next report."""
        now = self._clock.now()
        self._recorder.emit(
            status_event(self._subscription, status, reason=reason, time=now, key=key)
        )
