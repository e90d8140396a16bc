"""What schemathesis does not know: bodies of newline-delimited JSON, and requests that wait."""

import json
from typing import Any

import schemathesis

#: What ``wait`` allows, but the shortest: seconds for which a request waits for an event.
_LONG_WAITS = {str(seconds) for seconds in range(2, 301)}


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(context: Any, value: Any) -> bytes:
    """One line for each item of an array."""
    items = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(item, default=str).encode() for item in items)


@schemathesis.hook
def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Shorten what a request waits: most of the suite's time would pass in valid long polls."""
    if str((case.query or {}).get("wait")) in _LONG_WAITS:
        case.query["wait"] = 1
