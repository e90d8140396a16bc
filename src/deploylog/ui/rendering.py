"""Templates, and how values appear in them. Every value is escaped."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deploylog.events.times import SECOND, render_time

TEMPLATES = Path(__file__).parent / "templates"

_MARKS = {"running": "●", "completed": "✓", "failed": "✕"}


def make_environment() -> Environment:
    """The templates, with the filters that they use."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": time_element,
        "ago": ago_element,
        "duration": duration,
        "segment": lambda text: quote(text, safe=""),
        "number": lambda value: f"{value:,}",
        "plural": plural,
    }
    environment.globals |= {"mark": lambda status: _MARKS.get(status, "○"), "query": query_string}
    return environment


def time_element(ns: int) -> Markup:
    """A time, which the page's script shows in the zone of its reader."""
    return _time(ns, "absolute")


def ago_element(ns: int) -> Markup:
    """A time, which the page's script shows as so long ago."""
    return _time(ns, "relative")


def _time(ns: int, kind: str) -> Markup:
    utc = f"{datetime.fromtimestamp(ns // SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" data-time="{}" title="{}">{}</time>').format(
        render_time(ns), kind, utc, utc
    )


def duration(ns: int) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    seconds = max(ns, 0) / SECOND
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def query_string(pairs: Any) -> str:
    """A query string of pairs, without those that have no value."""
    return urlencode([(name, value) for name, value in pairs if value])
