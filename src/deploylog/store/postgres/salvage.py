"""Salvage: what a damaged row can still be found by."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from deploylog.errors import DeploylogError
from deploylog.events.event import NewEvent, Resource
from deploylog.events.index.terms import PUBLIC, terms_of
from deploylog.store.sqlite.rows import COLUMNS, names_of, scopes_of

_Name = TypeVar("_Name", bound=str)


def salvaged_terms(row: tuple[Any, ...]) -> tuple[int, list[str]]:
    """The time (ns) and the terms of each column that can be read.

    A row whose groups cannot be read is found only by those who see the events of every group.
    """
    columns = dict(zip(COLUMNS, row, strict=False))
    groups = _names(columns["groups"], names_of)
    event = NewEvent(
        type=columns["type"],
        source=columns["source"],
        scopes=_names(columns["scopes"], scopes_of),
        groups=groups,
        time=columns["time"],
        producer_id=columns["producer_id"],
        subject=columns["subject"],
        actor=columns["actor"],
        message=columns["message"],
        resource=_resource(columns),
    )
    terms = terms_of(event)
    if not groups and columns["groups"] is not None:
        terms.remove(PUBLIC)
    return event.time, terms


def _names(text: str | None, decode: Callable[[str], tuple[_Name, ...]]) -> tuple[_Name, ...]:
    with suppress(msgspec.MsgspecError, DeploylogError):
        return decode(text or "[]")
    return ()


def _resource(columns: dict[str, Any]) -> Resource | None:
    if columns["resource_type"] is None or columns["resource_name"] is None:
        return None
    return Resource(
        type=columns["resource_type"],
        name=columns["resource_name"],
        key=columns["resource_key"],
        address=columns["resource_address"],
        id_value=columns["id_value"],
    )
