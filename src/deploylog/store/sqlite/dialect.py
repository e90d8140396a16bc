"""How SQLite runs statements that are written once for all backends."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import apsw

from deploylog.events.access import Visibility
from deploylog.events.scope import Scope
from deploylog.store.dialect import Values
from deploylog.store.rows import json_text, names_of, scopes_of
from deploylog.store.sqlite.connection import all_rows, insert_rows
from deploylog.store.sqlite.visibility import visible_rows


class SqliteDialect:
    """The ``Dialect`` of SQLite: arrays are JSON."""

    among = "IN (SELECT value FROM json_each(?))"
    unique_violation = apsw.ConstraintError

    def sql(self, statement: str) -> str:
        return statement

    def rows(
        self, connection: apsw.Connection, statement: str, values: Values = ()
    ) -> list[tuple[Any, ...]]:
        return all_rows(connection, statement, values)

    def change(self, connection: apsw.Connection, statement: str, values: Values = ()) -> int:
        connection.execute(statement, values)
        return connection.changes()

    def insert(self, connection: apsw.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            insert_rows(connection, into, len(rows[0]), list(chain.from_iterable(rows)))

    def array(self, values: Iterable[Any]) -> str:
        return json_text(tuple(values))

    def scopes(self, stored: str) -> tuple[Scope, ...]:
        return scopes_of(stored)

    def names(self, stored: str) -> tuple[str, ...]:
        return names_of(stored)

    def text(self, text: str | None) -> str | None:
        return text

    def folded(self, id: str) -> str:
        # The column compares so itself, and so does its index.
        return id

    def visible(self, visibility: Visibility) -> tuple[str, dict[str, Any]]:
        return visible_rows(visibility)


DIALECT = SqliteDialect()
