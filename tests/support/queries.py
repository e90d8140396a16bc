"""Hypothesis strategies: events and queries that have something to do with each other."""

from hypothesis import strategies as st

from deploylog.events.access import Visibility
from deploylog.events.event import Resource
from deploylog.events.filters import FIELDS, AnyOf, Filter
from deploylog.events.scope import ROOT, Scope
from deploylog.events.text import Phrase
from support.factories import new_event

_names = st.sampled_from(
    [
        "a",
        "b",
        "\U0010ffffz",
        "a.\U0010ffff",
        "resource.create.started",
        "resource.create.failed",
        "x y",
    ]
)

_scopes = st.sampled_from(
    ["project/a", "project/a/stack/1", "project/b/stack/2/deployment/3", "state/a/b/c", "image/1"]
)

_messages = st.sampled_from(
    [
        "Creation complete after 3s [id=i-0abc]",
        "creation failed: timeout after 3s",
        "sg-0abc: i-0abcdef",
        "Ünïcode TIMEOUT_after",
        " ".join(f"word{number}" for number in range(600)),
        "x" * 70,
        "νεα ΟΔΟΣ.x",
        "Νέα οδος 7",
    ]
)

_resources = st.builds(
    Resource,
    type=_names,
    name=_names,
    key=st.none() | _names,
    address=st.none() | _names,
    id_key=st.just("id"),
    id_value=st.none() | _names,
)

events = st.builds(
    new_event,
    _names.filter(lambda name: " " not in name and name.isascii()),
    scopes=st.lists(_scopes, min_size=1, max_size=2, unique=True).map(tuple),
    groups=st.lists(st.sampled_from(["*", "g", "h"]), max_size=2, unique=True).map(
        lambda groups: tuple(sorted(groups))
    ),
    actor=st.none() | _names,
    subject=st.none() | _names,
    resource=st.none() | _resources,
    message=st.none() | _messages,
    time=st.integers(0, 20),
)

_conditions = st.builds(
    AnyOf,
    field=st.sampled_from(FIELDS),
    values=st.lists(_names, max_size=3).map(tuple),
    prefixes=st.lists(st.sampled_from(["resource.", "a.", "resource.create."]), max_size=2).map(
        tuple
    ),
)

_phrases = st.builds(
    Phrase,
    st.sampled_from(
        [
            "timeout",
            "creation complete",
            "i-0abc",
            "after 3s",
            "word599",
            "ünïcode",
            "x" * 64,
            "a",
            "οδοσ",
        ]
    ),
    st.booleans(),
)

filters = st.builds(
    Filter,
    all_of=st.lists(_conditions, max_size=2).map(tuple),
    none_of=st.lists(_conditions, max_size=1).map(tuple),
    phrases=st.lists(_phrases, max_size=2).map(tuple),
    resources=st.just(()) | st.lists(_names, max_size=2).map(tuple),
    scopes=st.lists(_scopes.map(Scope) | st.just(ROOT), max_size=2).map(tuple),
    since=st.none() | st.integers(0, 20),
    until=st.none() | st.integers(0, 20),
)

visibilities = st.builds(
    Visibility,
    scopes=st.lists(_scopes.map(Scope) | st.just(ROOT), max_size=3).map(tuple),
    groups=st.none() | st.frozensets(st.sampled_from(["g", "h", "i"])),
)

scopes = _scopes.map(Scope) | st.just(ROOT)
