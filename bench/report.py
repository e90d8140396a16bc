"""The report of a benchmark: one JSON line per measurement, and a table of medians at the end."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Self

from rich.console import Console
from rich.table import Table

#: The subject that every other one is compared with.
OURS = "deploylog"

#: Figures about the quality of a measurement: in the lines, not in the table.
_CONTROLS = ("fdatasync_us", "client_busy", "queries", "max_ms")

_PROBES = 100


class Report:
    """The measurements of one benchmark.

    Peers are measured in turn within a run, so the ratio of two subjects is taken run by run
    and its median shown: a neighbour's load then weighs on both sides of it.
    """

    def __init__(self, bench: str, *, log: Path | None = None) -> None:
        """``log`` gets every line as well."""
        self._bench = bench
        self._log = log
        self._part = ""
        self._figures: dict[tuple[str, str], dict[str, dict[int, float]]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[Self]:
        """Name the cases of a part of the benchmark."""
        self._part = f"{name} "
        try:
            yield self
        finally:
            self._part = ""

    def add(self, case: str, subject: str, run: int, **figures: float) -> None:
        """Print one measurement, and store it for the table."""
        case = self._part + case
        line = {"bench": self._bench, "case": case, "subject": subject, "run": run}
        text = json.dumps(line | {name: _rounded(value) for name, value in figures.items()})
        print(text, flush=True)
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(text + "\n")
        self._keep(case, subject, run, figures)

    def read(self, log: Path) -> None:
        """Take the measurements that an earlier run of this benchmark has logged."""
        for text in log.read_text().splitlines():
            line = json.loads(text)
            if line.pop("bench") == self._bench:
                case, subject, run = line.pop("case"), line.pop("subject"), line.pop("run")
                self._keep(case, subject, run, line)

    def _keep(self, case: str, subject: str, run: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            subjects = self._figures.setdefault((case, name), {})
            subjects.setdefault(subject, {})[run] = value

    def cases(self, start: str) -> list[str]:
        """The cases whose names start so, each once."""
        return list(dict.fromkeys(case for case, _ in self._figures if case.startswith(start)))

    def median(self, case: str, figure: str, subject: str = OURS) -> float | None:
        """The median of a figure, if it was measured."""
        runs = self._figures.get((case, figure), {}).get(subject)
        return median(runs.values()) if runs else None

    def ratio(self, case: str, figure: str, peer: str) -> float | None:
        """Ours over the peer's: the median of the runs' ratios."""
        subjects = self._figures.get((case, figure), {})
        ours, theirs = subjects.get(OURS, {}), subjects.get(peer, {})
        ratios = [ours[run] / theirs[run] for run in theirs if run in ours and theirs[run]]
        return median(ratios) if ratios else None

    def print_table(self) -> None:
        """Print the median of every figure, and ours against each peer's."""
        table = Table(title=f"{self._bench}: medians, lowest and highest run")
        for column in ("case", "figure", "subject"):
            table.add_column(column)
        for column in ("median", "lowest", "highest", "runs", "ours / theirs"):
            table.add_column(column, justify="right")
        for row in self._rows():
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 120).print(table)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for (case, name), subjects in self._figures.items():
            if name in _CONTROLS:
                continue
            ours = subjects.get(OURS, {})
            for subject, runs in subjects.items():
                ratio = "" if subject == OURS else _ratio(ours, runs)
                yield (case, name, subject, *_spread(runs.values()), ratio)


def _spread(values: Iterable[float]) -> tuple[str, ...]:
    ranked = sorted(values)
    figures = (median(ranked), ranked[0], ranked[-1])
    return (*(f"{_rounded(value):,}" for value in figures), str(len(ranked)))


def _ratio(ours: dict[int, float], theirs: dict[int, float]) -> str:
    ratios = [ours[run] / theirs[run] for run in theirs if run in ours and theirs[run]]
    return f"{median(ratios):.2f}" if ratios else ""


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 1000 else round(value, 3)


def percentile(ranked: Sequence[float], share: float) -> float:
    """The value that ``share`` of the ascending values do not exceed."""
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def fdatasync_us(directory: Path) -> float:
    """Return how long the disk takes to sync an append of 512 B, in µs, as a median."""
    took = []
    with TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(_PROBES):
            start = time.perf_counter()
            file.write(bytes(512))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    return median(took) * 1e6
