"""A suite: its arguments, what it prints, and its exit code.

A suite tries a fault and examines what is left. It prints one JSON line and one line for people,
and exits with 1 when it found something. With ``--without`` it runs the service without one of its
protections, in the child process only: then it must find something.
"""

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import uvloop
from bench import servers

#: Findings that are printed; more are only counted.
_SHOWN = 10


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite measured, and what it found: nothing, if every promise was kept."""

    figures: dict[str, float | int | str]
    findings: list[str]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How a suite is asked to run."""

    #: ``sqlite`` or ``postgresql``.
    store: str
    #: The protection that is taken out; ``None`` is none.
    without: str | None
    seed: int
    #: The suite's own numbers, such as ``rounds``.
    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    @property
    def program(self) -> tuple[str, ...]:
        """The module to run instead of ``deploylog``, for Python."""
        return ("-m", "faults.weakened", self.without) if self.without else ("-m", "deploylog")


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One suite."""

    name: str
    about: str
    run: Callable[[Trial], Awaitable[Outcome]]
    stores: Sequence[str] = ("sqlite", "postgresql")
    #: By store, the protections that can be taken out.
    protections: Mapping[str, Sequence[str]] = msgspec.field(default_factory=dict)
    #: The suite's own numbers, and their defaults.
    numbers: Mapping[str, int] = msgspec.field(default_factory=dict)
    #: Those that suffice to find something once a protection is out.
    proof: Mapping[str, int] = msgspec.field(default_factory=dict)

    def main(self) -> None:
        """Read the arguments, run, print and exit."""
        trial = self._parse()
        start = time.monotonic()
        try:
            outcome = uvloop.run(_awaited(self.run(trial)))
        except servers.Unavailable as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        except Exception:
            # Not 1: a suite that breaks has proven nothing.
            traceback.print_exc()
            sys.exit(3)
        self._print(trial, outcome, time.monotonic() - start)
        sys.exit(bool(outcome.findings))

    def _parse(self) -> Trial:
        parser = argparse.ArgumentParser(
            prog=f"python -m faults.{self.name}", description=self.about
        )
        every = sorted({each for names in self.protections.values() for each in names})
        parser.add_argument("--store", choices=self.stores, default=self.stores[0])
        parser.add_argument("--without", choices=every, help="take a protection out")
        parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
        for name, default in self.numbers.items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
        given: dict[str, Any] = vars(parser.parse_args())
        numbers = {name: given[name] for name in self.numbers}
        return Trial(
            store=given["store"], without=given["without"], seed=given["seed"], numbers=numbers
        )

    def _print(self, trial: Trial, outcome: Outcome, seconds: float) -> None:
        head = {"suite": self.name, "store": trial.store, "without": trial.without}
        tail = {"findings": len(outcome.findings), "seed": trial.seed, "seconds": round(seconds, 1)}
        for each in outcome.findings[:_SHOWN]:
            print(f"{self.name}: found: {each}")
        print(json.dumps(head | outcome.figures | tail))
        words = ", ".join(f"{value:,} {_words(name)}" if isinstance(value, int)
                          else f"{_words(name)} {value}"
                          for name, value in outcome.figures.items())  # fmt: skip
        without = f" without {trial.without}" if trial.without else ""
        print(
            f"{self.name} on {trial.store}{without}: {words}; {len(outcome.findings)} findings"
            f" in {seconds:.0f} s",
            flush=True,
        )


def _words(name: str) -> str:
    return name.replace("_", " ")


async def _awaited(run: Awaitable[Outcome]) -> Outcome:
    return await run
