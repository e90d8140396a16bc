"""Templates, and how values appear in them. Every value is escaped."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deploylog.events.times import SECOND, render_time
from deploylog.ui.timeline import address_of

TEMPLATES = Path(__file__).parent / "templates"

#: What a state looks like besides its colour.
_MARKS = {
    "running": "●",
    "started": "●",
    "progress": "●",
    "completed": "✓",
    "failed": "✕",
    "error": "✕",
    "skipped": "○",
    "unfinished": "?",
    "staging": "●",
    "staged": "✓",
    "drifted": "!",
    "active": "✓",
    "paused": "○",
    "failing": "!",
    "disabled": "✕",
    "delivered": "✓",
    "dead_lettered": "✕",
    "revoked": "✕",
}

#: What is done to a resource, as Terraform writes it.
_SIGNS = {
    "create": "+",
    "update": "~",
    "delete": "-",
    "replace": "±",
    "read": "○",
    "forget": "⊘",
    "none": "→",
}


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
        "iso": render_time,
        "clock": lambda ns: f"{datetime.fromtimestamp(ns // SECOND, UTC):%H:%M:%S}",
        "duration": duration,
        "latency": latency,
        "change": change,
        "elapsed": lambda ns: duration(ns) if ns % SECOND else _whole(ns // SECOND),
        "percent": lambda part: f"{part:.3%}",
        "address": address_of,
        "outside": outside_link,
        "segment": lambda text: quote(text, safe=""),
        "number": lambda value: f"{value:,}",
        "plural": plural,
    }
    environment.globals |= {
        "mark": lambda state: _MARKS.get(state, "·"),
        "sign": lambda action: _SIGNS.get(action, "·"),
        "query": query_string,
    }
    return environment


def time_element(ns: int) -> Markup:
    """A time, which the page's script shows in the zone of its reader."""
    return _time(ns, "absolute")


def ago_element(ns: int) -> Markup:
    """A time, which the page's script shows as so long ago."""
    return _time(ns, "relative")


def _time(ns: int, kind: str) -> Markup:
    utc = f"{datetime.fromtimestamp(ns // SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
    passing = Markup(' class="passing"') if kind == "relative" else ""
    return Markup('<time{} datetime="{}" data-time="{}" title="{}">{}</time>').format(
        passing, render_time(ns), kind, utc, utc
    )


def duration(ns: int) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    seconds = max(ns, 0) / SECOND
    if seconds < 10:
        return f"{seconds:.1f} s"
    return _whole(int(seconds))


def latency(ns: int) -> str:
    """As ``duration``, and ``3 ms`` below a second."""
    return f"{max(ns, 0) / 1e6:.0f} ms" if ns < SECOND else duration(ns)


def change(ns: int) -> str:
    """A difference of two durations: ``+12 s``, ``-0.4 s``."""
    return f"{'-' if ns < 0 else '+'}{duration(abs(ns))}"


def _whole(whole: int) -> str:
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def outside_link(url: str) -> Markup:
    """A link to another site, which must not learn where its visitor comes from."""
    if not url.startswith(("https://", "http://")):
        return Markup.escape(url)
    text = url.partition("://")[2]
    return Markup('<a href="{}" rel="noreferrer noopener" title="{}">{}</a>').format(
        url, url, text if len(text) <= 60 else f"{text[:59]}…"
    )


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def query_string(pairs: Any) -> str:
    """A query string of pairs, without those that have no value."""
    return urlencode([(name, value) for name, value in pairs if value])
