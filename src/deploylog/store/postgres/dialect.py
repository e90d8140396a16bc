"""How PostgreSQL runs statements that are written once for all backends."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from psycopg import errors

from deploylog.events.access import Visibility
from deploylog.events.scope import Scope
from deploylog.store.dialect import Values
from deploylog.store.postgres.connection import Connection, all_rows, change, without_nul
from deploylog.store.postgres.visibility import visible_rows

#: ``:name``, but not the type in ``value::type``.
_NAMED = re.compile(r"(?<!:):(\w+)")


class PostgresDialect:
    """The ``Dialect`` of PostgreSQL, with the placeholders of its driver."""

    among = "= ANY(?)"
    unique_violation = errors.UniqueViolation

    def sql(self, statement: str) -> str:
        return _with_placeholders(statement)

    def rows(
        self, connection: Connection, statement: str, values: Values = ()
    ) -> list[tuple[Any, ...]]:
        return all_rows(connection, _with_placeholders(statement), values)

    def change(self, connection: Connection, statement: str, values: Values = ()) -> int:
        return change(connection, _with_placeholders(statement), values)

    def insert(self, connection: Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            places = ", ".join(["%s"] * len(rows[0]))
            with connection.cursor() as cursor:
                cursor.executemany(f"{into} VALUES ({places})", rows)

    def array(self, values: Iterable[Any]) -> list[Any]:
        return list(values)

    def scopes(self, stored: list[str]) -> tuple[Scope, ...]:
        return tuple(map(Scope, stored))

    def names(self, stored: list[str]) -> tuple[str, ...]:
        return tuple(stored)

    def text(self, text: str | None) -> str | None:
        return without_nul(text)

    def folded(self, id: str) -> str:
        return f"lower({id})"

    def visible(self, visibility: Visibility) -> tuple[str, dict[str, Any]]:
        return visible_rows(visibility)


@cache
def _with_placeholders(statement: str) -> str:
    return _NAMED.sub(r"%(\1)s", statement).replace("?", "%s")


DIALECT = PostgresDialect()
