"""The circuit breaker: a failing endpoint gets one probe at a time."""

from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.subscription import Subscription


class CircuitBreaker:
    """Whether deliveries of a subscription succeed. Times in ns since 1970."""

    def __init__(self, subscription: Subscription) -> None:
        #: When deliveries started to fail; ``None`` while they succeed.
        self.failing_since = subscription.failing_since
        #: Whether the circuit is open: only probes are sent.
        self.is_failing = subscription.state == "failing"
        #: When the next probe may start.
        self.probe_at = 0

    def max_in_flight(self, limit: int) -> int:
        """How many requests may be in flight, of the ``limit`` of a healthy endpoint."""
        return 1 if self.is_failing else limit

    def may_probe(self, now: int) -> bool:
        return now >= self.probe_at

    def succeeded(self, now: int) -> bool:
        """Record a success, and return whether the receiver was down until now."""
        since, self.failing_since = self.failing_since, None
        self.is_failing = False
        return since is not None and retry.has_passed(since, now, retry.DOWN_SECONDS)

    def probe_now(self) -> None:
        """Let the next probe start at once."""
        self.probe_at = 0

    def failed(self, started: int, now: int, *, wait: int) -> bool:
        """Record a failed request, and return whether it opens the circuit.

        While the circuit is open, the next probe starts after ``wait`` ns.
        """
        if self.failing_since is None:
            self.failing_since = started
        was_failing = self.is_failing
        self.is_failing = was_failing or retry.has_passed(
            self.failing_since, now, retry.FAILING_SECONDS
        )
        if self.is_failing:
            self.probe_at = now + wait
        return self.is_failing and not was_failing
