"""The metrics of the service, for Prometheus."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from deploylog import __version__
from deploylog.server.dora_gauges import DoraGauges
from deploylog.server.requests import Answered, RequestHistogram

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_LAG = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


class LagHistogram(Collector):
    """A histogram that observes a value many times at once."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0
        self._created = time.time()

    def observe(self, value: int, times: int) -> None:
        """Count ``value`` so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def collect(self) -> Iterable[Metric]:
        """What a scrape sees."""
        family = HistogramMetricFamily(self._name, self._documentation)
        names = map(floatToGoString, self._bounds)
        family.add_metric([], list(zip(names, accumulate(self._counts), strict=True)), self._sum)
        family.add_sample(f"{self._name}_created", {}, self._created)
        yield family


class Metrics:
    """Every metric, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._appended = Counter(
            "deploylog_events_appended",
            "Events in committed transactions.",
            registry=self._registry,
        )
        self._commit = Histogram(
            "deploylog_commit_seconds",
            "How long a commit took, fsync included.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._damaged = Counter(
            "deploylog_damaged_events",
            "Damaged events that reads have met, each counted once.",
            ["reason"],
            registry=self._registry,
        )
        self._rows = Counter(
            "deploylog_rows_read",
            "Rows of events that queries have read.",
            registry=self._registry,
        )
        self._rows_in_vain = Counter(
            "deploylog_rows_read_in_vain",
            "Rows of events that queries have read, and that did not match.",
            registry=self._registry,
        )
        self._readers = Gauge(
            "deploylog_readers", "Open readers of the live log.", registry=self._registry
        )
        self._head = Gauge(
            "deploylog_head_position", "The newest position.", registry=self._registry
        )
        self._body_bytes = Gauge(
            "deploylog_request_body_bytes",
            "Bytes of request bodies in memory.",
            registry=self._registry,
        )
        self._lag = LagHistogram(
            "deploylog_reader_lag_events",
            "Positions between a reader and the head when a batch is sent.",
            _LAG,
        )
        self._registry.register(self._lag)
        self._requests = RequestHistogram()
        self._registry.register(self._requests)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        Info("deploylog_build", "The version of the service.", registry=self._registry).info(
            {"version": __version__}
        )
        self.dora = DoraGauges()
        self._registry.register(self.dora)
        self._sent = Counter(
            "deploylog_events_sent", "Events sent on streams.", registry=self._registry
        )
        self._errors = Counter(
            "deploylog_errors",
            "Requests answered with an error.",
            ["kind"],
            registry=self._registry,
        )

        self._refused = Counter(
            "deploylog_failed_attempts",
            "Requests without valid credentials.",
            registry=self._registry,
        )

        self._refusals = Counter(
            "deploylog_refusals",
            "Connections and requests refused before a request was complete.",
            ["reason"],
            registry=self._registry,
        )

        self._attempts = Counter(
            "deploylog_delivery_attempts",
            "Attempts to deliver an event, by how they ended.",
            ["result"],
            registry=self._registry,
        )
        self._delivery_lag = Gauge(
            "deploylog_delivery_lag_positions",
            "Positions between the head and what a subscription has dealt with.",
            ["subscription"],
            registry=self._registry,
        )
        self._dead_lettered = Gauge(
            "deploylog_deliveries_dead_lettered",
            "Events that were dead-lettered and have not been redelivered.",
            ["subscription"],
            registry=self._registry,
        )

    def committed(self, seconds: float, events: int) -> None:
        """Record a committed transaction."""
        self._appended.inc(events)
        self._commit.observe(seconds)

    def damaged(self, reason: str) -> None:
        """Count a damaged event, when a read first meets it."""
        self._damaged.labels(reason=reason).inc()

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        """Count the rows that a query has read, and those of them that did not match."""
        self._rows.inc(rows)
        self._rows_in_vain.inc(in_vain)

    def answered(self, request: Answered) -> None:
        """Count a request whose response has begun."""
        self._requests.observe(request)

    def failed(self, kind: str) -> None:
        """Count a request that ended in an error of this class."""
        self._errors.labels(kind=kind).inc()

    def refused(self) -> None:
        """Count a request without a valid credential."""
        self._refused.inc()

    def turned_away(self, reason: str) -> None:
        """Count a connection or a request that was refused before a request was complete."""
        self._refusals.labels(reason=reason).inc()

    def sent(self, events: int, *, lag: int, readers: int = 1) -> None:
        """Record a batch for each of ``readers`` that are ``lag`` positions behind the head."""
        self._sent.inc(events * readers)
        self._lag.observe(lag, readers)

    def attempted(self, result: str, number: int) -> None:
        """Count ``number`` delivery attempts with this result."""
        self._attempts.labels(result=result).inc(number)

    def delivering(self, subscription: str, *, lag: int, dead_lettered: int) -> None:
        """Set the delivery gauges of a subscription."""
        self._delivery_lag.labels(subscription=subscription).set(lag)
        self._dead_lettered.labels(subscription=subscription).set(dead_lettered)

    def delivery_stopped(self, subscription: str) -> None:
        """Remove the gauges of a subscription that this process no longer delivers."""
        for gauge in (self._delivery_lag, self._dead_lettered):
            with suppress(KeyError):
                gauge.remove(subscription)

    def watch(
        self,
        *,
        readers: Callable[[], float],
        head: Callable[[], float],
        body_bytes: Callable[[], float],
    ) -> None:
        """Read these gauges when a scrape asks for them."""
        self._body_bytes.set_function(body_bytes)
        self._readers.set_function(readers)
        self._head.set_function(head)

    def render(self) -> bytes:
        """Render every metric in the Prometheus text format."""
        return generate_latest(self._registry)

    async def exposition(self) -> bytes:
        """What a scrape gets of the only process."""
        return self.render()
