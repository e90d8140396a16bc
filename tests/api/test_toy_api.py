"""An API is one folder and its line in ``APIS``: a toy is added, and nothing else is changed."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import deploylog
from deploylog.events.access import parse_grant
from deploylog.server.admin import add_key
from support.backends import store_url_at
from support.paths import TESTS
from support.servers import Spawned, spawned

TOY = TESTS / "support" / "toy_api"

#: Where the folder is imported, and where its value is listed.
LINES = {
    "from deploylog.api import bluelink, escape, native, rfs\n": (
        "from deploylog.api import bluelink, escape, native, rfs, toy\n"
    ),
    "    native.API,\n": "    native.API,\n    toy.API,\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the toy's folder, listed in ``APIS``."""
    tree = tmp_path_factory.mktemp("tree")
    program = tree / "deploylog"
    shutil.copytree(
        Path(deploylog.__file__).parent, program, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(TOY, program / "api" / "toy")
    literal = program / "api" / "__init__.py"
    text = literal.read_text()
    for before, after in LINES.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    literal.write_text(text)
    return tree


@pytest.fixture
async def toy(tree: Path, tmp_path: Path) -> AsyncIterator[tuple[Spawned, str]]:
    """The service with the toy and two copies of each greeting, and a key."""
    store = store_url_at(tmp_path / "log.db")
    grants = [parse_grant("read:/")]
    _, secret = await asyncio.to_thread(add_key, store, name="ann", groups=(), grants=grants)
    async with spawned(store, program=tree, toy_copies=2) as service:
        yield service, secret


async def test_it_routes_and_answers_errors_in_its_own_words(toy: tuple[Spawned, str]):
    service, secret = toy
    key = {"X-Api-Key": secret}

    greeted = await service.get("/toy/greetings/ann", headers=key)
    missing = await service.get("/toy/greetings/nobody", headers=key)
    unrouted = await service.get("/toy/elsewhere", headers=key)

    assert (greeted.status, greeted.json) == (200, ["Hello, ann", "Hello, ann"])
    assert (missing.status, missing.json) == (404, {"toy": "ToyNotFound"})
    assert (unrouted.status, unrouted.json) == (410, {"toy": "NotFound"})


async def test_it_authenticates(toy: tuple[Spawned, str]):
    service, _ = toy

    refused = await service.get("/toy/greetings/ann")

    assert (refused.status, refused.json) == (401, {"toy": "Unauthenticated"})


async def test_it_is_described(toy: tuple[Spawned, str]):
    service, _ = toy

    document: Any = (await service.get("/openapi.json")).json
    page = (await service.get("/docs/text")).body.decode()

    operation = document["paths"]["/toy/greetings/{name}"]["get"]
    assert operation["operationId"] == "toyGreet"
    assert operation["responses"]["default"]["description"] == "toy."
    assert {"toyTicket": []} in document["security"]
    assert "toyTicket" in document["components"]["securitySchemes"]
    assert "Toy: greetings" in page


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("toy_copies = 4", "toy_copies must be between 1 and 3"),
        ("toy_copies = 'x'", "toy_copies is 'x'; it must be of type int"),
        ("toy_copie = 1", "did you mean toy_copies?"),
    ],
)
def test_it_has_its_section_of_the_settings(tree: Path, tmp_path: Path, line: str, said: str):
    file = tmp_path / "deploylog.toml"
    file.write_text(line)
    environ = {**os.environ, "PYTHONPATH": str(tree)}
    serve = [sys.executable, "-m", "deploylog", "serve", "--config", str(file)]

    refused = subprocess.run(serve, env=environ, capture_output=True, text=True)

    assert refused.returncode != 0
    assert said in refused.stderr


def test_it_has_an_option_of_the_command_line(tree: Path):
    environ = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
    serve = [sys.executable, "-m", "deploylog", "serve", "--help"]

    shown = subprocess.run(serve, env=environ, capture_output=True, text=True, check=True)

    assert "--toy-copies" in shown.stdout
    assert "Copies of each greeting." in shown.stdout
