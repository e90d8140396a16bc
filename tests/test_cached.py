"""Caches of what clients send are limited: a long text is not kept, and answered the same."""

from collections.abc import Callable
from typing import Any

import pytest

from deploylog.api.native import query_string
from deploylog.auth import anonymous

#: The cache, and calls of what uses it: with a short text, and with a long one.
CACHES: dict[str, tuple[Any, Callable[[], object], Callable[[], object]]] = {
    "append queries": (
        query_string._cached_query,
        lambda: query_string.parse_append_query("source=short"),
        lambda: query_string.parse_append_query("source=" + "s" * 2_000),
    ),
    "hosts and origins": (
        anonymous._are_loopback,
        lambda: anonymous._is_local_request(presented("localhost")),
        lambda: anonymous._is_local_request(presented("h" * 5_000)),
    ),
}


def presented(host: str) -> Any:
    class Shown:
        client = "127.0.0.1"
        headers = {"host": host}

    return Shown()


@pytest.mark.parametrize("case", CACHES)
def test_a_long_text_is_not_remembered(case: str):
    cache, short, long = CACHES[case]
    cache.cache_clear()

    long()
    assert cache.cache_info().currsize == 0
    short()
    assert cache.cache_info().currsize == 1
