"""The text of the search box, and the query that it stands for; pure.

``type:resource.* -actor:ci "quota exceeded"`` is ``type=resource.*&actor!=ci&q="quota exceeded"``.
"""

import re
from collections.abc import Iterable

from deploylog.api.native.query_string import FILTERS, render_conditions
from deploylog.events.filters import Filter
from deploylog.events.text import render_text
from deploylog.subscriptions.places import EVERYWHERE, Places

#: Query parameters that the box may name, as ``name:value``.
NAMES = (
    *FILTERS,
    "project",
    "stack",
    "environment",
    "deployment",
    "version",
    "commit",
    "label",
    "status",
    "resource",
    "scope",
    "since",
    "until",
)

#: Those of them whose values may be excluded, as ``-name:value``.
EXCLUDABLE = frozenset(FILTERS)

_TOKEN = re.compile(r'(?:(?P<not>-)?(?P<name>[a-z]+):)?(?P<value>"[^"]*"?|[^\s"]+)')

Pairs = list[tuple[str, str]]


def parse_search(text: str) -> Pairs:
    """The query of a text. Whatever names no parameter is full text."""
    pairs: Pairs = []
    words: list[str] = []
    for token in _TOKEN.finditer(text):
        name, is_excluded = token["name"], token["not"] is not None
        if name not in NAMES or (is_excluded and name not in EXCLUDABLE):
            words.append(token[0])
        else:
            pairs.append((f"{name}!" if is_excluded else name, token["value"].strip('"')))
    if words:
        pairs.append(("q", " ".join(words)))
    return [pair for pair in pairs if pair[1]]


def pairs_of(filter: Filter, places: Places = EVERYWHERE) -> Pairs:
    """The query of a filter that has no times; ``places`` stand for its scopes."""
    scopes = () if places else filter.scopes
    pairs = [*places.pairs, *(("scope", str(path)) for path in scopes)]
    pairs += [("resource", resource) for resource in filter.resources]
    for conditions, label in ((filter.all_of, "{}"), (filter.none_of, "{}!")):
        for name, patterns in render_conditions(conditions).items():
            pairs += [(label.format(name), pattern) for pattern in patterns]
    return [*pairs, ("q", render_text(filter.phrases))] if filter.phrases else pairs


def render_search(pairs: Iterable[tuple[str, str]]) -> str:
    """The text that stands for a query; parameters that it cannot name are left out."""
    tokens = [_token(name, value) for name, value in pairs if name.removesuffix("!") in NAMES]
    return " ".join([*tokens, *(value for name, value in pairs if name == "q")])


def _token(name: str, value: str) -> str:
    quoted = f'"{value}"' if re.search(r'[\s"]', value) else value
    return f"-{name[:-1]}:{quoted}" if name.endswith("!") else f"{name}:{quoted}"
