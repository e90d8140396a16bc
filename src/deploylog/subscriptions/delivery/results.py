"""The results of batches: what an outcome changes in the queue, in the circuit and in the store."""

from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.delivery.attempt import SentBatch
from deploylog.subscriptions.delivery.circuit import CircuitBreaker
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.lanes import DeliveryQueue
from deploylog.subscriptions.delivery.reports import DeliveryReports


class BatchResults:
    """Applies the outcomes of the batches of one subscription."""

    def __init__(
        self,
        queue: DeliveryQueue,
        circuit: CircuitBreaker,
        reports: DeliveryReports,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._circuit = circuit
        self._reports = reports
        self._clock = clock
        #: When the receiver answered a test, in ns.
        self._reachable_since = 0

    def retry_now(self) -> None:
        """Send at once what waits for a retry: the receiver has just answered a test."""
        # A request that is in flight may still fail, and must not put its events off again.
        self._reachable_since = self._clock.now()
        self._circuit.probe_now()
        self._queue.retry_now()

    def apply(self, sent: SentBatch) -> None:
        """Apply the outcome of a batch."""
        if sent.outcome.result == "delivered":
            self._delivered(sent)
        elif sent.outcome.result == "disable":
            self._disabled(sent)
        elif sent.outcome.result == "dead_letter" or sent.is_last:
            self._dead_lettered(sent)
        else:
            self._failed(sent)

    def _delivered(self, sent: SentBatch) -> None:
        delivered = self._queue.finish(sent.batch)
        was_failing = self._circuit.is_failing
        if self._circuit.succeeded(sent.finished):
            self._queue.retry_now()
        if was_failing:
            self._reports.emit("resumed", "deliveries succeed again", key=str(sent.finished))
        self._reports.report(
            sent,
            "delivered",
            delivered_positions=delivered,
            state="active" if was_failing else None,
        )

    def _dead_lettered(self, sent: SentBatch) -> None:
        """Give the events up, until a user redelivers them."""
        dead_letters = sent.dead_letters()
        self._queue.finish(sent.batch)
        if sent.outcome.result == "retry":
            self._opens_circuit(sent, self._clock.chance())
        self._reports.report(sent, "dead_lettered", pending=dead_letters)

    def _failed(self, sent: SentBatch) -> None:
        chance = self._clock.chance()
        due = sent.finished + self._delay(sent, chance)
        pending = self._queue.fail(
            sent.batch, now=sent.finished, due=due, started=sent.started, error=sent.error
        )
        if not self._opens_circuit(sent, chance):
            self._reports.report(sent, "failed", pending=pending, due=due)
            return
        self._reports.emit("failing", sent.error, key=str(self._circuit.failing_since))
        self._reports.report(
            sent, "failed", pending=pending, due=due, state="failing", reason=sent.error
        )

    def _disabled(self, sent: SentBatch) -> None:
        """Stop for the receiver. The events stay pending until a user resumes the subscription."""
        pending = self._queue.fail(
            sent.batch, now=sent.started, due=0, started=sent.started, error=sent.error
        )
        self._reports.emit("disabled", sent.error, key=str(sent.finished))
        self._reports.report(sent, "failed", pending=pending, state="disabled", reason=sent.error)

    def _delay(self, sent: SentBatch, chance: float) -> int:
        """How long the events of a failed batch wait, in ns."""
        if self._is_obsolete(sent):
            return 0
        return retry.delay(
            sent.batch.items[0].tries + 1,
            retry_after=sent.outcome.response.retry_after,
            chance=chance,
            is_paced=sent.outcome.is_paced,
        )

    def _is_obsolete(self, sent: SentBatch) -> bool:
        """Whether a failure says nothing: its request started before the receiver was back."""
        return sent.started <= self._reachable_since

    def _opens_circuit(self, sent: SentBatch, chance: float) -> bool:
        """Record the failure, and return whether the subscription is failing from now on."""
        wait = retry.probe_delay(retry_after=sent.outcome.response.retry_after, chance=chance)
        if self._is_obsolete(sent):
            wait = 0
        return self._circuit.failed(sent.started, sent.finished, wait=wait)
