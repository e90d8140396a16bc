"""Fixtures: the file of a store in SQLite."""

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"
