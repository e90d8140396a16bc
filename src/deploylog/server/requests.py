"""What requests cost: figures for each route, and the access log."""

import logging
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

import msgspec
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCESS_LOG = logging.getLogger("deploylog.access")

#: Seconds; a request that waits for a deployment may take minutes.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

#: The route of a path that no API has: its own name would be a label without end.
UNROUTED = "none"


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose response has begun."""

    method: str
    #: The template of the path, such as ``/log/v1/deployments/{id}``.
    route: str
    #: The path without its query, which may have more than a log should.
    path: str
    status: int
    #: From the request to the head of the response: a stream goes on for longer.
    seconds: float
    client: str


class RequestHistogram(Collector):
    """The duration of requests by method, route and status, for a registry."""

    def __init__(self) -> None:
        self._bounds = (*_BOUNDS, math.inf)
        self._counts: dict[tuple[str, str, str], list[int]] = {}
        self._sums: dict[tuple[str, str, str], float] = {}

    def observe(self, answered: Answered) -> None:
        """Count a request."""
        key = (answered.method, answered.route, str(answered.status))
        if key not in self._counts:
            self._counts[key] = [0] * len(self._bounds)
            self._sums[key] = 0.0
        self._counts[key][bisect_left(self._bounds, answered.seconds)] += 1
        self._sums[key] += answered.seconds

    def collect(self) -> Iterable[Metric]:
        """What a scrape sees."""
        family = HistogramMetricFamily(
            "deploylog_request_seconds",
            "How long requests took, to the head of the response.",
            labels=["method", "route", "status"],
        )
        names = list(map(floatToGoString, self._bounds))
        for key, counts in self._counts.items():
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric(key, buckets, self._sums[key])
        yield family


Observe = Callable[[Answered], object]


def log_access(answered: Answered) -> None:
    """Write a line of the access log."""
    ACCESS_LOG.info(
        "%s %s %s %d %.1f ms",
        answered.client,
        answered.method,
        answered.path,
        answered.status,
        answered.seconds * 1000,
        extra={"fields": msgspec.structs.asdict(answered)},
    )


class ObservedApp:
    """Calls an ASGI application, and observes each response when it begins."""

    def __init__(self, app: ASGIApp, routes: Iterable[Route], observe: Observe) -> None:
        self._app = app
        self._routes: Mapping[object, str] = {route.endpoint: route.path for route in routes}
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._observe(self._answered(scope, message["status"], start))
            await send(message)

        await self._app(scope, receive, send_observed)

    def _answered(self, scope: Scope, status: int, start: float) -> Answered:
        # The router has left in the scope which of its routes answers.
        return Answered(
            method=scope["method"],
            route=self._routes.get(scope.get("endpoint"), UNROUTED),
            path=scope["path"],
            status=status,
            seconds=time.perf_counter() - start,
            client=(scope.get("client") or ("-",))[0],
        )
