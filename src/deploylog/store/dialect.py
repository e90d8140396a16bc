"""Dialects: how a backend runs statements that are written once for all.

A statement has ``?`` or ``:name`` where a value belongs, and otherwise what all backends know.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from deploylog.events.access import Visibility
from deploylog.events.scope import Scope

_Connection = TypeVar("_Connection", contravariant=True)

#: The values of a statement, in its order or by name.
Values = Sequence[Any] | dict[str, Any]


class Dialect(Protocol[_Connection]):
    """One backend's words."""

    @property
    def among(self) -> str:
        """What follows a column that is one of an array, which is the next value."""
        ...

    @property
    def unique_violation(self) -> type[Exception]:
        """What a statement raises when a row exists already."""
        ...

    def sql(self, statement: str) -> str:
        """The statement in the backend's own words."""
        ...

    def rows(
        self, connection: _Connection, statement: str, values: Values = ()
    ) -> list[tuple[Any, ...]]:
        """Run a statement; return all rows."""
        ...

    def change(self, connection: _Connection, statement: str, values: Values = ()) -> int:
        """Run a statement that returns no rows; return how many it changed."""
        ...

    def insert(self, connection: _Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows; ``into`` is ``INSERT INTO table (columns)``."""
        ...

    def array(self, values: Iterable[Any]) -> Any:
        """An array as a value, also one to store."""
        ...

    def scopes(self, stored: Any) -> tuple[Scope, ...]:
        """The scopes in an array that was stored."""
        ...

    def names(self, stored: Any) -> tuple[str, ...]:
        """The texts in an array that was stored."""
        ...

    def text(self, text: str | None) -> str | None:
        """The text of somebody else, as it can be stored."""
        ...

    def folded(self, id: str) -> str:
        """The column of an id, or a value of it, without the case of its letters."""
        ...

    def visible(self, visibility: Visibility) -> tuple[str, dict[str, Any]]:
        """The condition of ``Visibility`` on rows ``c``, and the parameters that it names."""
        ...
