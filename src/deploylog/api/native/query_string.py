"""The native API's query strings; pure."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import get_args
from urllib.parse import parse_qsl, urlencode

import msgspec

from deploylog.api.native.paths import EVENTS
from deploylog.deployments.catalog import Status, check_name
from deploylog.deployments.dora import Window
from deploylog.deployments.filters import Names, suggestion
from deploylog.errors import InvalidFilter, InvalidInput
from deploylog.events.event import Event
from deploylog.events.filters import AnyOf, Field, Filter, any_of, patterns_of
from deploylog.events.scope import Scope, parse_scope, scope
from deploylog.events.text import parse_text, render_text
from deploylog.events.times import LATEST, SECOND, parse_duration, parse_time_or_ago
from deploylog.subscriptions.places import EVERYWHERE, Places

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_WAIT_SECONDS = 300
MAX_FILTER_VALUES = 100
DEFAULT_TOP = 10
#: An hour each of the default range.
DEFAULT_BUCKETS = 168
MAX_BUCKETS = 500

#: ns before ``until`` at which a histogram starts by default.
HISTOGRAM_RANGE = 7 * 86_400 * SECOND

#: Fields of a filter, by query parameter.
FILTERS: dict[str, Field] = {
    "type": "type",
    "source": "source",
    "actor": "actor",
    "subject": "subject",
    "resourcetype": "resource_type",
    "resourcename": "resource_name",
    "resourcekey": "resource_key",
    "resourceaddress": "resource_address",
    "resourceid": "resource_id",
}


class Parameters:
    """A query string whose parameters are taken by name; ``done`` rejects the others."""

    def __init__(self, query: str) -> None:
        """Parse ``query``; raises InvalidInput."""
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> tuple[str, ...]:
        """All values of the parameter that are not empty."""
        return tuple(value for value in self._values.pop(name, ()) if value)

    def one(self, name: str) -> str | None:
        """The parameter's value, if any; raises InvalidInput if it is repeated."""
        values = self.all(name)
        if len(values) > 1:
            raise InvalidInput(f"{name} is repeated", field=name)
        return values[0] if values else None

    def required(self, name: str) -> str:
        """The parameter's value; raises InvalidInput if it is missing or repeated."""
        value = self.one(name)
        if value is None:
            raise InvalidInput(f"{name} is missing", field=name)
        return value

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """The parameter as an integer from ``low`` to ``high``; raises InvalidInput."""
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise InvalidInput(f"{name} must be an integer from {low} to {high}", field=name)
        return int(text)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of ``choices``, by default the first; raises InvalidInput."""
        text = self.one(name) or choices[0]
        if text not in choices:
            raise InvalidInput(f"{name} must be one of {', '.join(choices)}", field=name)
        return text

    def rest(self) -> list[tuple[str, str]]:
        """The parameters that were not taken."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def done(self) -> None:
        """Raise InvalidInput if the query string has a parameter that was not taken."""
        for name in self._values:
            raise InvalidInput(f"unknown parameter {name[:64]!r}", field=name[:64])


class AppendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults for all events of a request to append."""

    scopes: tuple[Scope, ...]
    source: str | None
    deployment: str | None


def parse_append_query(query: str) -> AppendQuery:
    """Parse the query of a request to append; short ones are cached, as producers repeat them."""
    return _cached_query(query) if len(query) <= _MAX_CACHED_LENGTH else _append_query(query)


def _append_query(query: str) -> AppendQuery:
    parameters = Parameters(query)
    append = AppendQuery(
        scopes=tuple(parse_scope(path) for path in parameters.all("scope")),
        source=parameters.one("source"),
        deployment=parameters.one("deployment"),
    )
    parameters.done()
    return append


#: Longer queries, in characters, are not cached.
_MAX_CACHED_LENGTH = 1024

_cached_query = lru_cache(maxsize=1024)(_append_query)


class StackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The project, scopes and groups under which to record a stack's events."""

    project: str | None
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def required_project(self) -> str:
        """The project; raises InvalidInput when it is missing."""
        if self.project is None:
            raise InvalidInput("project is missing", field="project")
        return self.project


def parse_stack_query(query: str) -> StackQuery:
    """Parse the query of a request that reports a stack's events."""
    parameters = Parameters(query)
    project = parameters.one("project")
    if project is not None:
        check_name("project", project)
    names = [(kind, parameters.one(kind)) for kind in ("cluster", "image")]
    groups = tuple(sorted(set(parameters.all("group"))))
    parameters.done()
    scopes = tuple(scope(kind, name) for kind, name in names if name is not None)
    return StackQuery(project=project, scopes=scopes, groups=groups)


def parse_limit(parameters: Parameters) -> int:
    """The number of items of a page; raises InvalidInput."""
    return parameters.integer("limit", default=DEFAULT_LIMIT, low=1, high=MAX_LIMIT)


def parse_filter(parameters: Parameters, *, now: int) -> Filter:
    """The parameters as a filter: values of one parameter are ORed, parameters are ANDed.

    ``name!=value`` excludes what has the value.
    """
    since, until, text = (parameters.one(name) for name in ("since", "until", "q"))
    return Filter(
        scopes=tuple(
            parse_scope(path) for path in check_filter_values("scope", parameters.all("scope"))
        ),
        all_of=parse_conditions(parameters.all),
        none_of=_exclusions(parameters),
        phrases=parse_text(text) if text else (),
        resources=check_filter_values("resource", parameters.all("resource")),
        since=_time("since", since, now) if since else None,
        until=_time("until", until, now) if until else None,
    )


def _exclusions(parameters: Parameters) -> tuple[AnyOf, ...]:
    """What ``type!=deployment.log`` excludes, and ``not=type=deployment.log`` alike."""
    excluded: dict[str, tuple[str, ...]] = {}
    for text in check_filter_values("not", parameters.all("not")):
        name, equals, value = text.partition("=")
        if name not in FILTERS or not equals or not value:
            raise InvalidFilter(
                f"not: {text[:64]!r} is not FIELD=VALUE{suggestion(name, FILTERS)}", field="not"
            )
        excluded[name] = (*excluded.get(name, ()), value)
    return parse_conditions(
        lambda name: (*parameters.all(f"{name}!"), *excluded.get(name, ())), label="{}!"
    )


def parse_conditions(
    values_of: Callable[[str], tuple[str, ...]], *, label: str = "{}"
) -> tuple[AnyOf, ...]:
    """The conditions that name values; ``label`` makes a condition's name in errors."""
    return tuple(
        any_of(field, _check_patterns(field, label.format(name), values))
        for name, field in FILTERS.items()
        if (values := values_of(name))
    )


def parse_edges(filter: Filter, *, buckets: int, now: int) -> list[int]:
    """The times (ns) between which a histogram counts the events of ``filter``."""
    until = filter.until if filter.until is not None else now
    since = filter.since if filter.since is not None else max(until - HISTOGRAM_RANGE, 0)
    if until - since < buckets:
        raise InvalidFilter("until must be after since", field="until")
    return [since + (until - since) * number // buckets for number in range(buckets + 1)]


_STATUSES: tuple[Status, ...] = get_args(Status)


def parse_names(parameters: Parameters) -> Names:
    """The parameters that select by the names that people use."""
    return Names(
        project=parameters.one("project"),
        stacks=check_filter_values("stack", parameters.all("stack")),
        environments=check_filter_values("environment", parameters.all("environment")),
        deployments=check_filter_values("deployment", parameters.all("deployment")),
        statuses=parse_statuses(parameters.all("status")),
        versions=check_filter_values("version", parameters.all("version")),
        commits=check_filter_values("commit", parameters.all("commit")),
        labels=tuple(_label(text) for text in parameters.all("label")),
    )


def parse_statuses(values: tuple[str, ...]) -> tuple[Status, ...]:
    """The statuses of deployments; raises InvalidFilter for another word."""
    for status in check_filter_values("status", values):
        if status not in _STATUSES:
            message = f"status of a deployment must be one of {', '.join(_STATUSES)}"
            raise InvalidFilter(message, field="status")
    return tuple(each for each in _STATUSES if each in values)


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidFilter("label: write NAME=VALUE", field="label")
    return name, value


def parse_since(parameters: Parameters, *, now: int) -> int | None:
    """The time since which deployments started."""
    since = parameters.one("since")
    return _time("since", since, now) if since else None


def parse_place(parameters: Parameters) -> Names:
    """The parameters that name a project, stacks and environments."""
    return Names(
        project=parameters.one("project"),
        stacks=check_filter_values("stack", parameters.all("stack")),
        environments=check_filter_values("environment", parameters.all("environment")),
    )


DEFAULT_WINDOW = "30d"


def parse_window(parameters: Parameters, *, now: int) -> Window:
    """The parameters ``window``, ``from`` and ``to``."""
    window, since, until = (parameters.one(name) for name in ("window", "from", "to"))
    if window is not None and since is not None:
        raise InvalidInput("use window or from, not both", field="window")
    end = _time("to", until, now) if until else now
    start = _time("from", since, now) if since else end - _duration(window or DEFAULT_WINDOW)
    if start >= end:
        raise InvalidInput("from must be before to", field="from")
    return Window(since=max(start, 0), until=end)


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except InvalidInput as error:
        raise InvalidInput(f"window: {error.message}", field="window") from error


def events_path(filter: Filter, event: Event, places: Places = EVERYWHERE) -> str:
    """The path that lists the filter's events before ``event``, oldest first.

    ``places`` stand for the scopes of ``filter``, which must have no times. A client adds ``after``
    with the last event that it received.
    """
    return f"{_filter_path(filter, places)}&before={event.id}"


@lru_cache(maxsize=64)
def _filter_path(filter: Filter, places: Places) -> str:
    scopes = () if places else filter.scopes
    pairs = [
        ("order", "oldest"),
        *places.pairs,
        *(("scope", str(path)) for path in scopes),
        *(("resource", resource) for resource in filter.resources),
    ]
    for conditions, label in ((filter.all_of, "{}"), (filter.none_of, "{}!")):
        for name, patterns in render_conditions(conditions).items():
            pairs += [(label.format(name), pattern) for pattern in patterns]
    if filter.phrases:
        pairs.append(("q", render_text(filter.phrases)))
    return f"{EVENTS}?{urlencode(pairs, safe='/*!')}"


def render_conditions(conditions: Sequence[AnyOf]) -> dict[str, tuple[str, ...]]:
    """The patterns of each condition by its name."""
    names = {field: name for name, field in FILTERS.items()}
    return {names[condition.field]: patterns_of(condition) for condition in conditions}


def check_filter_values(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``values``; raises InvalidFilter if a filter cannot have them."""
    if len(values) > MAX_FILTER_VALUES:
        raise InvalidFilter(f"{name} must have at most {MAX_FILTER_VALUES} values", field=name)
    return values


def _check_patterns(field: Field, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    check_filter_values(name, values)
    if field == "type" and any("*" in value.removesuffix(".*") for value in values):
        raise InvalidFilter(f"{name}: use * only at the end, as in resource.*", field=name)
    return values


def _time(name: str, text: str, now: int) -> int:
    try:
        # No event lies outside the range of a filter's times.
        return min(max(parse_time_or_ago(text, now=now), 0), LATEST)
    except InvalidInput as error:
        raise InvalidFilter(f"{name}: {error.message}", field=name) from error
