"""Cut the power again and again while the service records: what was acknowledged must be there.

SQLite runs on a disk that forgets what was not synced, see ``faults.forgetful``. Each round kills
the service at a random moment, and goes on with what a loss of power would have left. For the log
the rules of ``bench.crash`` hold, and SQLite must find its file in order.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers
from bench.crash import Trial as Crashes
from bench.crash import check_file

from faults import forgetful
from faults.findings import as_text
from faults.suite import Outcome, Suite, Trial

_WRITERS = 8
_LARGEST_BATCH = 8
_PAUSE_SECONDS = 0.01


async def run(trial: Trial) -> Outcome:
    """All rounds."""
    with TemporaryDirectory(prefix="faults-power-") as name:
        machine = _Machine(Path(name), trial)
        crashes = Crashes(
            machine.files,
            random.Random(trial.seed),
            writers=_WRITERS,
            largest=_LARGEST_BATCH,
            keyed=_WRITERS // 2,
            pause=_PAUSE_SECONDS,
            serve=machine.serve,
        )
        found = await _rounds(crashes, trial["rounds"])
        found += as_text(await crashes.settle())
        found += [each for each in [check_file(machine.files / "deploylog.db")] if each != "ok"]
    return Outcome(
        figures={
            "rounds": trial["rounds"],
            "acknowledged": crashes.acknowledged,
            "sent_again": crashes.retried,
            "of_these_recorded_before": crashes.recognized,
        },
        findings=found,
    )


async def _rounds(crashes: Crashes, rounds: int) -> list[str]:
    for number in range(1, rounds + 1):
        try:
            findings = await crashes.crash()
        except servers.Unavailable as error:
            return [f"round {number}: the service does not start: {str(error)[-300:]}"]
        if not findings.is_clean:
            return [f"round {number}: {each}" for each in as_text(findings)]
    return []


class _Machine:
    """A machine whose power fails whenever its service ends."""

    def __init__(self, folder: Path, trial: Trial) -> None:
        self.files, self._disk = folder / "files", folder / "disk"
        for each in (self.files, self._disk):
            each.mkdir()
        self._trial = trial
        self._starts = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[servers.Server]:
        """Run the service on what the last loss of power left."""
        if self._starts:
            forgetful.after_power_loss(self.files, self._disk)
        self._starts += 1
        program = (
            "-m", "faults.forgetful", str(self._disk), f"{self._trial.seed} {self._starts}",
            self._trial.without or "-",
        )  # fmt: skip
        async with servers.deploylog(self.files, program=program) as server:
            yield server


SUITE = Suite(
    name="power",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("sqlite",),
    protections={"sqlite": ("sync",)},
    numbers={"rounds": 30},
)

if __name__ == "__main__":
    SUITE.main()
