"""Run every suite, one after another, on each store that it is for.

With ``--prove`` each suite also runs without each of its protections, and must find something. A
suite that fails, breaks or takes too long does not end the others; a table at the end has them all.
"""

import argparse
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
from faults.runs import Result, Run, result_of, table_of
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


def runs_of(suites: Sequence[Suite], *, proves: bool) -> Iterator[Run]:
    """The runs of these suites, in order; with ``proves`` also without each protection."""
    for suite in suites:
        for store in suite.stores:
            yield Run(suite.name, store)
            for protection in suite.protections.get(store, ()) if proves else ():
                yield Run(suite.name, store, protection, suite.proof)


def main() -> None:
    """Read the arguments, run, and print a table at the end."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=names, action="append", help="run this suite")
    parser.add_argument("--prove", action="store_true", help="take each protection out, too")
    arguments = parser.parse_args()
    chosen = [suite for suite in SUITES if suite.name in (arguments.only or names)]
    results: list[Result] = []
    try:
        for run in runs_of(chosen, proves=arguments.prove):
            results.append(result_of(run))  # noqa: PERF401  # what ran before an error is printed
    finally:
        print(table_of(results), flush=True)
    wrong = sum(not each.is_right for each in results)
    seconds = sum(each.seconds for each in results)
    print(f"faults: {len(results)} runs in {seconds / 60:.0f} min, {wrong} not as they should be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
