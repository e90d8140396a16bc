"""Kill the server repeatedly while other programs open its store, and look for lost events.

There is a trial, on a store of its own, for each program that operators run on a live store:
backups, a plain reader, and our own commands. Each round starts the server, checks the whole log
as ``bench.crash`` does, runs the program before, between and after the batches that two writers
post, and kills the server with SIGKILL. The content of every backup is checked too.
"""

import argparse
import asyncio
import random
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench import servers
from bench.crash import Findings, Trial, check_file

#: Seconds that the writers have between two runs of the program.
_PAUSE_SECONDS = (0.05, 0.2)

#: Few and small: the whole log is read in every round.
_WRITERS = 2
_LARGEST_BATCH = 5

#: The command for a store and for the file that a backup is to be.
Program = Callable[[Path, Path], list[str]]


def _python(source: str) -> Program:
    return lambda store, copy: [
        sys.executable, "-c", "import sqlite3, sys\n" + source, str(store), str(copy),
    ]  # fmt: skip


def _deploylog(*arguments: str) -> Program:
    return lambda store, copy: [
        sys.executable, "-m", "deploylog", *(each.format(copy=copy) for each in arguments),
        "--store", f"sqlite:///{store}",
    ]  # fmt: skip


PROGRAMS: dict[str, Program] = {
    "reader": _python(
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('SELECT count(*) FROM events').fetchone()\nc.close()"
    ),
    "vacuum-into": _python(
        "c = sqlite3.connect(sys.argv[1])\nc.execute('VACUUM INTO ?', sys.argv[2:])\nc.close()"
    ),
    "backup-api": _python(
        "c = sqlite3.connect(sys.argv[1], timeout=30)\nd = sqlite3.connect(sys.argv[2])\n"
        "c.backup(d)\nd.close()\nc.close()"
    ),
    "checkpoint": _python(
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()\nc.close()"
    ),
    "cp": lambda store, copy: ["sh", "-c", f"cp {store}* {copy.parent}/ && rm {copy.parent}/*"],
    "keys-list": _deploylog("keys", "list"),
    "keys-revoke": _deploylog("keys", "revoke", "no-such-key"),
    "migrate": _deploylog("migrate"),
    "backup": _deploylog("backup", "{copy}"),
}

#: The programs that create a backup, which is then checked.
_BACKUPS = ("vacuum-into", "backup-api", "backup")


class Disturbance:
    """Runs one program while the server runs."""

    def __init__(self, name: str, store: Path, folder: Path, choice: random.Random) -> None:
        self._name = name
        self._store = store
        self._folder = folder
        self._choice = choice
        self.runs = 0
        #: Backups that are not sound.
        self.unsound = 0

    async def __call__(self) -> None:
        """Run the program, check its backup, and leave the writers some time."""
        self.runs += 1
        copy = self._folder / f"{self.runs}.db"
        process = await asyncio.create_subprocess_exec(
            *PROGRAMS[self._name](self._store, copy),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, errors = await process.communicate()
        # A key that is not there is not revoked: a write that is rolled back.
        if process.returncode != (1 if self._name == "keys-revoke" else 0):
            raise servers.Unavailable(f"{self._name} failed: {errors.decode()}")
        if self._name in _BACKUPS:
            self.unsound += await asyncio.to_thread(_is_unsound, copy)
        await asyncio.sleep(self._choice.uniform(*_PAUSE_SECONDS))


def _is_unsound(copy: Path) -> bool:
    """Whether the backup is damaged, or lacks an event up to its head."""
    with closing(sqlite3.connect(copy)) as connection:
        whole = connection.execute(
            "SELECT (SELECT head FROM log) = (SELECT count(*) FROM events)"
        ).fetchone() == (1,)
    is_unsound = not whole or check_file(copy) != "ok"
    copy.unlink()
    return is_unsound


async def run(name: str, rounds: int, seed: int) -> bool:
    """Run the trial of one program; return whether it found no fault."""
    with TemporaryDirectory(prefix="crash-backup-") as directory:
        store = Path(directory) / "deploylog.db"
        (copies := Path(directory) / "copies").mkdir()
        choice = random.Random(seed)
        trial = Trial(Path(directory), choice, writers=_WRITERS, largest=_LARGEST_BATCH)
        disturbance = Disturbance(name, store, copies, choice)
        findings = Findings()
        for number in range(1, rounds + 1):
            findings = await trial.crash(disturbance)
            if not findings.is_clean:
                print(f"crash-backup: {name}: found in round {number}, seed {seed}: {findings}")
                return False
        findings = await trial.settle()
        integrity = check_file(store)
    print(
        f"crash-backup: {name}: {rounds} rounds, {disturbance.runs} runs,"
        f" {trial.acknowledged} acknowledged events, {findings.lost} lost,"
        f" {findings.doubled} doubled, {findings.torn} torn, {findings.disordered} out of order,"
        f" {disturbance.unsound} unsound backups; integrity check: {integrity}",
        flush=True,
    )
    return findings.is_clean and not disturbance.unsound and integrity == "ok"


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--program", choices=PROGRAMS, action="append")
    arguments = parser.parse_args()
    clean = []
    for name in arguments.program or PROGRAMS:
        try:
            clean.append(uvloop.run(run(name, arguments.rounds, arguments.seed)))
        except servers.Unavailable as error:
            print(f"crash-backup: {name}: {error}")
            clean.append(False)
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()
