"""Salvage: what a damaged row can still be found by."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import apsw
import msgspec

from deploylog.errors import DeploylogError
from deploylog.events.event import NewEvent, Resource
from deploylog.events.index.terms import PUBLIC, terms_of
from deploylog.store.rows import names_of, scopes_of
from deploylog.store.sqlite.connection import one_row
from deploylog.store.sqlite.pages import BAD_ROW

_Name = TypeVar("_Name", bound=str)


def salvaged_terms(connection: apsw.Connection, position: int) -> tuple[int, list[str]]:
    """The time (ns) and the terms of each column that can be read.

    A row whose groups cannot be read is found only by those who see the events of every group.
    """
    row = _Columns(connection, position)
    groups = row.names("groups", names_of)
    event = NewEvent(
        type=row.text("type") or "",
        source=row.text("source") or "",
        scopes=row.names("scopes", scopes_of),
        groups=groups,
        time=row.number("time"),
        producer_id=row.text("producer_id"),
        subject=row.text("subject"),
        actor=row.text("actor"),
        message=row.text("message"),
        resource=_resource(row),
    )
    terms = terms_of(event)
    if not groups and row.read("groups") is not None:
        terms.remove(PUBLIC)
    return event.time, terms


def salvaged_identity(connection: apsw.Connection, position: int) -> tuple[str | None, str | None]:
    """The source and the producer's id, each if it can be read."""
    row = _Columns(connection, position)
    return row.text("source"), row.text("producer_id")


class _Columns:
    """The columns of one row, each read by itself."""

    def __init__(self, connection: apsw.Connection, position: int) -> None:
        self._connection = connection
        self._position = position

    def read(self, column: str) -> Any:
        """The value; ``...`` when it cannot be read."""
        sql = f'SELECT "{column}" FROM events WHERE position = ?'
        with suppress(*BAD_ROW):
            row = one_row(self._connection, sql, (self._position,))
            return row[0] if row is not None else None
        return ...

    def text(self, column: str) -> str | None:
        value = self.read(column)
        return value if isinstance(value, str) else None

    def number(self, column: str) -> int:
        value = self.read(column)
        return value if isinstance(value, int) else 0

    def names(self, column: str, decode: Callable[[str], tuple[_Name, ...]]) -> tuple[_Name, ...]:
        with suppress(msgspec.MsgspecError, DeploylogError, UnicodeError):
            return decode(self.text(column) or "[]")
        return ()


def _resource(row: _Columns) -> Resource | None:
    type_, name = row.text("resource_type"), row.text("resource_name")
    if type_ is None or name is None:
        return None
    return Resource(
        type=type_,
        name=name,
        key=row.text("resource_key"),
        address=row.text("resource_address"),
        id_value=row.text("id_value"),
    )
