"""Health: whether anything arrives, and how carefully to find out."""

from deploylog.subscriptions.delivery import retry as schedule
from deploylog.subscriptions.subscription import Subscription


class CircuitBreaker:
    """How a subscription's target is doing. Times in ns since 1970."""

    def __init__(self, subscription: Subscription) -> None:
        """As it was when the last courier left off."""
        self.failing_since = subscription.failing_since
        #: Whether one event at a time is tried, to find out whether anything arrives again.
        self.is_failing = subscription.state == "failing"
        #: When that may be tried next.
        self.probe_at = 0

    def most_under_way(self, most: int) -> int:
        """How many requests may be under way."""
        return 1 if self.is_failing else most

    def may_probe(self, now: int) -> bool:
        """Whether it may be tried again."""
        return now >= self.probe_at

    def succeeded(self) -> bool:
        """Something arrived: whether that ends a failure that was told."""
        was_failing, self.is_failing = self.is_failing, False
        self.failing_since = None
        return was_failing

    def failed(self, began: int, now: int, *, wait: int) -> bool:
        """Something did not arrive: whether that is now to be told as a failure. While it is one,
        the next is tried after ``wait`` ns.
        """
        if self.failing_since is None:
            self.failing_since = began
        was_failing = self.is_failing
        self.is_failing = was_failing or schedule.is_over(
            self.failing_since, now, schedule.FAILING_SECONDS
        )
        if self.is_failing:
            self.probe_at = now + wait
        return self.is_failing and not was_failing
