"""The operation of DORA's metrics."""

from deploylog.api.api import Resource
from deploylog.api.native.metrics.endpoints import Metrics
from deploylog.api.native.metrics.wire import DoraBody
from deploylog.api.native.query_string import DEFAULT_WINDOW
from deploylog.api.operation import Body, Operation, Parameter, repeated

METRICS = Resource(
    endpoints=Metrics,
    operations=(
        Operation(
            id="measureDora",
            method="GET",
            path="/log/v1/metrics/dora",
            endpoint=Metrics.dora,
            summary="Measure deployments to production by DORA's five metrics",
            tag="metrics",
            parameters=(
                Parameter(name="project", help="Only deployments of this project."),
                Parameter(
                    name="stack",
                    help="Only deployments of the stack that has this name now.",
                    schema=repeated(),
                ),
                Parameter(
                    name="environment",
                    help="Only deployments to this environment.",
                    schema=repeated(),
                ),
                Parameter(
                    name="window",
                    help="How long, up to the end: such as 30d or 12h.",
                    schema={"type": "string", "default": DEFAULT_WINDOW},
                ),
                Parameter(
                    name="from", help="The start, instead of window: RFC 3339, or a time ago."
                ),
                Parameter(name="to", help="The end, by default now: RFC 3339, or a time ago."),
            ),
            answers=(Body(help="The metrics.", type=DoraBody),),
        ),
    ),
)
