"""Foreign programs: what operators run on the file of a store while the service uses it."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from support.waiting import PATIENCE

#: Makes the command for a store's file, and a folder for what the program leaves.
Program = Callable[[Path, Path], list[str]]


def python(source: str) -> Program:
    """A script that uses Python's own SQLite on ``{file}``."""
    return lambda file, folder: [
        sys.executable, "-c", f"import sqlite3\n{source}".format(file=file, folder=folder),
    ]  # fmt: skip


def deploylog(*arguments: str) -> Program:
    """A command of ours."""
    return lambda file, folder: [
        sys.executable, "-m", "deploylog", *(each.format(folder=folder) for each in arguments),
        "--store", f"sqlite:///{file}",
    ]  # fmt: skip


READER: Program = python(
    "c = sqlite3.connect('{file}')\nc.execute('SELECT count(*) FROM events').fetchone()\nc.close()"
)

PROGRAMS: dict[str, Program] = {
    "reader": READER,
    "vacuum-into": python(
        "import uuid\nc = sqlite3.connect('{file}')\n"
        "c.execute('VACUUM INTO ?', (f'{folder}/{{uuid.uuid4()}}.db',))\nc.close()"
    ),
    "backup-api": python(
        "import uuid\nc = sqlite3.connect('{file}')\n"
        "d = sqlite3.connect(f'{folder}/{{uuid.uuid4()}}.db')\nc.backup(d)\nd.close()\nc.close()"
    ),
    "checkpoint": python(
        "c = sqlite3.connect('{file}')\n"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()\nc.close()"
    ),
    "cp": lambda file, folder: ["sh", "-c", f"cp {file}* {folder}/"],
    "keys-add": deploylog("keys", "add", "ci", "--grant", "admin:/"),
    "keys-list": deploylog("keys", "list"),
    "migrate": deploylog("migrate"),
    "backup": deploylog("backup", "{folder}/backup.db", "--force"),
}


async def run(program: Program, file: Path, folder: Path) -> str:
    """Run it to its end; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *program(file, folder), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
