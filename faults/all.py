"""Run every suite, one after another, on each store that it is for.

With ``--prove`` each suite also runs without each of its protections, and must find something.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence

from faults import (
    clients,
    clock,
    damage,
    disk,
    kill,
    migration,
    moving,
    order,
    partition,
    postgres,
    power,
    pressure,
    race,
)
from faults.suite import Suite

SUITES: tuple[Suite, ...] = (
    power.SUITE,
    kill.SUITE,
    postgres.SUITE,
    clients.SUITE,
    partition.SUITE,
    disk.SUITE,
    damage.SUITE,
    order.SUITE,
    race.SUITE,
    migration.SUITE,
    moving.SUITE,
    clock.SUITE,
    pressure.SUITE,
)

#: The exit code of a suite that found something.
_FOUND = 1


def _runs(suites: Sequence[Suite], *, proves: bool) -> Iterator[tuple[Suite, str, str | None]]:
    for suite in suites:
        for store in suite.stores:
            yield suite, store, None
            for protection in suite.protections.get(store, ()) if proves else ():
                yield suite, store, protection


def _run(suite: Suite, store: str, without: str | None) -> bool:
    """Run one suite in a process of its own; return whether it ended as it should."""
    command = [sys.executable, "-m", f"faults.{suite.name}", "--store", store]
    command += ["--without", without] if without else []
    return subprocess.run(command).returncode == (_FOUND if without else 0)


def main() -> None:
    """Read the arguments and run."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=names, action="append", help="run this suite")
    parser.add_argument("--prove", action="store_true", help="take each protection out, too")
    arguments = parser.parse_args()
    chosen = [suite for suite in SUITES if suite.name in (arguments.only or names)]
    wrong = [
        f"{suite.name} on {store}" + (f" without {without}" if without else "")
        for suite, store, without in _runs(chosen, proves=arguments.prove)
        if not _run(suite, store, without)
    ]
    print(
        f"faults: not as it should be: {', '.join(wrong)}"
        if wrong
        else "faults: every promise was kept"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
