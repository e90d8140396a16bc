"""Rows: whatever clients send can be written, and what is cached of it is limited."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.api.native.wire import parse_events
from deploylog.errors import InvalidInput
from deploylog.events.cloudevents import Defaults
from deploylog.events.event import check_event
from deploylog.store import rows
from deploylog.store.prepared_event import prepare_event
from support.servers import (
    BATCH,
    LINES,
)

LONG = "project/" + "/".join(["a" * 100] * 30)

#: The cache, and calls of what uses it: with a short text, and with a long one.
CACHES: dict[str, tuple[Any, Callable[[], object], Callable[[], object]]] = {
    "scopes that are read": (
        rows._cached_scopes,
        lambda: rows.scopes_of('["project/short"]'),
        lambda: rows.scopes_of(f'["{LONG}"]'),
    ),
    "scopes and groups that are written": (
        rows._cached_text,
        lambda: rows._names_text(("short",)),
        lambda: rows._names_text((LONG,)),
    ),
}


@pytest.mark.parametrize("case", CACHES)
def test_a_long_text_is_not_remembered(case: str):
    cache, short, long = CACHES[case]
    cache.cache_clear()

    long()
    assert cache.cache_info().currsize == 0
    short()
    assert cache.cache_info().currsize == 1


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, categories=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_NAMES = [
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
    "data", "data_base64", "scopes", "groups", "actor", "message", "elapsedms", "resourcetype",
    "resourcename", "resourcekey", "position", "project", "stack", "environment", "traceparent",
]  # fmt: skip
_documents = st.dictionaries(st.sampled_from(_NAMES), _json, max_size=6)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents=st.lists(st.tuples(_documents, st.booleans()), min_size=1, max_size=5))
def test_any_json_is_answered(
    documents: list[tuple[dict[str, object], bool]], tmp_path_factory: pytest.TempPathFactory
):
    """Bodies drawn from the attributes we know, with any values, straight into the parsers."""
    base = {"type": "t", "source": "s", "scopes": "p", "specversion": "1.0", "id": "1"}
    sent = [{**base, **document} if valid else document for document, valid in documents]
    body = json.dumps(sent).encode()

    for type, content in ((BATCH, body), (LINES, b"\n".join(json.dumps(s).encode() for s in sent))):
        try:
            for event in parse_events({"content-type": type}, content, Defaults(time=1), limit=100):
                check_event(event)
                prepare_event(event)
        except InvalidInput:
            pass
