"""The native API's query strings; pure."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode

import msgspec

from deploylog.deployments.catalog import check_name
from deploylog.errors import InvalidFilter, InvalidInput
from deploylog.events.event import Event
from deploylog.events.filters import Field, Filter, any_of
from deploylog.events.scope import Scope, parse_scope, scope
from deploylog.events.times import LATEST, parse_time_or_ago

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_WAIT_SECONDS = 300
MAX_FILTER_VALUES = 100

#: Query parameter → field of the filter.
FILTERS: dict[str, Field] = {
    "type": "type",
    "source": "source",
    "actor": "actor",
    "subject": "subject",
    "resourcetype": "resource_type",
    "resourcename": "resource_name",
    "resourcekey": "resource_key",
}


class Parameters:
    """A query string, each parameter taken by name; what is left over is refused."""

    def __init__(self, query: str) -> None:
        """Parse ``query``; raises InvalidInput."""
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> tuple[str, ...]:
        """Every value given, without the empty ones."""
        return tuple(value for value in self._values.pop(name, ()) if value)

    def one(self, name: str) -> str | None:
        """The one value given."""
        values = self.all(name)
        if len(values) > 1:
            raise InvalidInput(f"{name} is given twice", field=name)
        return values[0] if values else None

    def required(self, name: str) -> str:
        """The one value that must be given."""
        value = self.one(name)
        if value is None:
            raise InvalidInput(f"{name} is missing", field=name)
        return value

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """A whole number in a range."""
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise InvalidInput(f"{name} is a whole number from {low} to {high}", field=name)
        return int(text)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of ``choices``, the first when it is not given."""
        text = self.one(name) or choices[0]
        if text not in choices:
            raise InvalidInput(f"{name} is one of {', '.join(choices)}", field=name)
        return text

    def done(self) -> None:
        """Raise InvalidInput if a parameter is left that nobody asked for."""
        for name in self._values:
            raise InvalidInput(f"there is no parameter {name[:64]!r}", field=name[:64])


class AppendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a request to append says of all its events."""

    scopes: tuple[Scope, ...]
    source: str | None
    deployment: str | None


def parse_append_query(query: str) -> AppendQuery:
    """Read the query of a request to append: a producer sends the same one time and again."""
    return _known_query(query) if len(query) <= _LONGEST_KNOWN else _append_query(query)


def _append_query(query: str) -> AppendQuery:
    parameters = Parameters(query)
    asked = AppendQuery(
        scopes=tuple(parse_scope(path) for path in parameters.all("scope")),
        source=parameters.one("source"),
        deployment=parameters.one("deployment"),
    )
    parameters.done()
    return asked


#: Characters of a query that is worth remembering.
_LONGEST_KNOWN = 1024

_known_query = lru_cache(maxsize=1024)(_append_query)


class StackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stack that somebody tells of belongs."""

    project: str | None
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def required_project(self) -> str:
        """The project; raises InvalidInput when none is named."""
        if self.project is None:
            raise InvalidInput("project is missing", field="project")
        return self.project


def parse_stack_query(query: str) -> StackQuery:
    """Read the query of a request that tells of a stack."""
    parameters = Parameters(query)
    project = parameters.one("project")
    if project is not None:
        check_name("project", project)
    named = [(word, parameters.one(word)) for word in ("cluster", "image")]
    groups = tuple(sorted(set(parameters.all("group"))))
    parameters.done()
    scopes = tuple(scope(word, name) for word, name in named if name is not None)
    return StackQuery(project=project, scopes=scopes, groups=groups)


def parse_filter(parameters: Parameters, *, now: int) -> Filter:
    """The filter that the parameters make; values of one are ORed, different ones ANDed."""
    since, until = parameters.one("since"), parameters.one("until")
    return Filter(
        scopes=tuple(
            parse_scope(path) for path in check_filter_values("scope", parameters.all("scope"))
        ),
        all_of=tuple(
            any_of(field, values)
            for name, field in FILTERS.items()
            if (values := check_filter_values(name, parameters.all(name)))
        ),
        since=_moment("since", since, now) if since else None,
        until=_moment("until", until, now) if until else None,
    )


def events_path(filter: Filter, event: Event) -> str:
    """The path at which one reads what the filter finds before ``event``, oldest first.

    The filter has no times. Who knows the last event that came adds ``after``.
    """
    return f"{_filter_path(filter)}&before={event.id}"


@lru_cache(maxsize=64)
def _filter_path(filter: Filter) -> str:
    names = {field: name for name, field in FILTERS.items()}
    pairs = [("order", "oldest"), *(("scope", str(path)) for path in filter.scopes)]
    for condition in filter.all_of:
        patterns = (*condition.values, *(f"{prefix}*" for prefix in condition.prefixes))
        pairs += [(names[condition.field], pattern) for pattern in patterns]
    return f"/log/v1/events?{urlencode(pairs, safe='/*')}"


def check_filter_values(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a field; raises InvalidFilter for what no filter can ask."""
    if len(values) > MAX_FILTER_VALUES:
        raise InvalidFilter(f"{name} has more than {MAX_FILTER_VALUES} values", field=name)
    if name == "type" and any("*" in value.removesuffix(".*") for value in values):
        raise InvalidFilter("type: a * stands only at the end, as in resource.*", field=name)
    return values


def _moment(name: str, text: str, now: int) -> int:
    try:
        # No event is older or younger than what a filter can say.
        return min(max(parse_time_or_ago(text, now=now), 0), LATEST)
    except InvalidInput as error:
        raise InvalidFilter(f"{name}: {error.message}", field=name) from error
