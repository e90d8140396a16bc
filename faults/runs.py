"""Runs of suites: each in a process of its own, and a table of how they ended."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import msgspec

#: The exit codes of a suite: what each says.
_WORDS = {0: "kept", 1: "found", 2: "cannot run"}

#: Seconds after which a suite is stopped, and within which it must then have cleaned up.
_MAX_SECONDS, _STOP_SECONDS = 900, 60


class Run(msgspec.Struct, frozen=True):
    """One run of a suite."""

    #: Of its module.
    suite: str
    store: str
    #: The protection that is taken out.
    without: str | None = None
    #: The suite's own numbers; its defaults without.
    numbers: Mapping[str, int] = {}

    @property
    def command(self) -> list[str]:
        """What runs it."""
        command = [sys.executable, "-m", f"faults.{self.suite}", "--store", self.store]
        command += ["--without", self.without] if self.without else []
        return command + [f"--{name.replace('_', '-')}={n}" for name, n in self.numbers.items()]


class Result(msgspec.Struct, frozen=True):
    """How a run ended."""

    run: Run
    seconds: float
    #: ``None`` of a run that was stopped.
    code: int | None

    @property
    def word(self) -> str:
        """What it says."""
        return "took too long" if self.code is None else _WORDS.get(self.code, "broke")

    @property
    def is_right(self) -> bool:
        """Whether nothing was found, or, without a protection, something."""
        return self.word == ("found" if self.run.without else "kept")


def result_of(run: Run, *, max_seconds: float = _MAX_SECONDS) -> Result:
    """Run a suite in a process of its own, whatever becomes of it."""
    start = time.monotonic()
    with subprocess.Popen(run.command) as process:
        try:
            code: int | None = process.wait(max_seconds)
        except subprocess.TimeoutExpired:
            code = None
            _stop(process)
    return Result(run, time.monotonic() - start, code)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a suite: it stops what it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def table_of(results: Sequence[Result]) -> str:
    """One line a run: what was run, for how long, and how it ended."""
    rows = [("suite", "store", "without", "seconds", "result", "")]
    for each in results:
        run = each.run
        mark = "" if each.is_right else "<- not as it should be"
        seconds = f"{each.seconds:.0f}"
        rows.append((run.suite, run.store, run.without or "-", seconds, each.word, mark))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)
