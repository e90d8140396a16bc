"""Migrations: numbered SQL files, applied once each, in order."""

from collections.abc import Callable, Sequence
from importlib.resources import files

import msgspec

from deploylog.errors import SchemaTooNew


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the schema."""

    #: From 1, without gaps.
    number: int
    #: ``0001_log``
    name: str
    sql: str


def migrations(backend: str) -> list[Migration]:
    """The migrations of a backend, in order."""
    folder = files(f"deploylog.store.{backend}") / "migrations"
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [
        Migration(
            number=int(name.partition("_")[0]),
            name=name.removesuffix(".sql"),
            sql=(folder / name).read_text(encoding="utf-8"),
        )
        for name in found
    ]


def migrate(
    steps: Sequence[Migration], *, version: int, apply: Callable[[Migration], None]
) -> list[str]:
    """Apply the steps after ``version``; return their names.

    Raises SchemaTooNew when ``version`` is newer than this program: it would break what a newer
    program relies on.
    """
    newest = steps[-1].number
    if version > newest:
        raise SchemaTooNew(
            f"the store has schema version {version}, this program knows up to {newest}: "
            "use a newer Deploylog"
        )
    pending = [step for step in steps if step.number > version]
    for step in pending:
        apply(step)
    return [step.name for step in pending]
