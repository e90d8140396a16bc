"""CloudEvents 1.0: single events, batches, and HTTP's binary mode."""

from deploylog.events.cloudevents.attributes import (
    MAX_EVENT_BYTES,
    CloudEvent,
    Defaults,
    checked_json,
    parse_event,
    render_event,
    render_new_event,
)
from deploylog.events.cloudevents.batch import STEP_BYTES, parse_batch, parse_lines
from deploylog.events.cloudevents.binary import parse_binary

__all__ = [
    "MAX_EVENT_BYTES",
    "STEP_BYTES",
    "CloudEvent",
    "Defaults",
    "checked_json",
    "parse_batch",
    "parse_binary",
    "parse_event",
    "parse_lines",
    "render_event",
    "render_new_event",
]
