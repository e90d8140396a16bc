"""Statements: each one that a module names is one that SQLite accepts.

A read takes an error of SQLite for a damaged row, and goes on row by row: a wrong statement would
not fail, but make everything slow.
"""

import re
from importlib import import_module
from pkgutil import iter_modules

import apsw
import pytest
from apsw.ext import query_info

from deploylog import store
from deploylog.store import sqlite
from deploylog.store.migrations import migrations

_IS_STATEMENT = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH|INSERT[^;]*(VALUES|SELECT))\s")


def _statements() -> dict[str, str]:
    modules = [
        import_module(f"{package.__name__}.{each.name}")
        for package in (sqlite, store)
        for each in iter_modules(package.__path__)
        if package is sqlite or not each.ispkg
    ]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        # Not those that a function completes.
        if isinstance(value, str) and _IS_STATEMENT.match(value) and "{" not in value
    }


STATEMENTS = _statements()


@pytest.fixture(scope="module")
def connection() -> apsw.Connection:
    connection = apsw.Connection("")
    for step in migrations("sqlite"):
        connection.execute(step.sql)
    return connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_sqlite_accepts_a_statement(name: str, connection: apsw.Connection):
    query_info(connection, STATEMENTS[name])


def test_the_statements_are_found():
    assert len(STATEMENTS) > 50
