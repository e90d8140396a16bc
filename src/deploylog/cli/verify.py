"""``deploylog verify``: what in a store contradicts what was recorded."""

import sys
from typing import Annotated

import msgspec
import typer

from deploylog.cli.serve import Config, Store, chosen_store
from deploylog.cli.terminal.formatting import plain
from deploylog.server import admin
from deploylog.store.contract import Finding, Verified

#: Events between two lines of progress.
_STEP = 100_000

#: The exit code when something is wrong.
WRONG = 1


def verify(
    *,
    store: Store = None,
    config: Config = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a finding, and a summary.")
    ] = False,
) -> None:
    """Verify the store: name what is wrong in it, and exit with 1 if anything is."""

    def found(finding: Finding) -> None:
        if json:
            print(msgspec.json.encode(finding).decode(), flush=True)
        else:
            print(plain(f"{finding.part} {finding.where}: {finding.what}"), flush=True)

    verified = admin.verify(chosen_store(store, config), found=found, progress=_Progress())
    print(msgspec.json.encode(verified).decode() if json else _summary(verified))
    if verified.findings:
        raise typer.Exit(WRONG)


class _Progress:
    """Says on stderr how far it is, where there is much to read."""

    def __init__(self) -> None:
        self._next = _STEP

    def __call__(self, read: int, total: int) -> None:
        if read >= self._next:
            print(f"deploylog: {read} of {total} events verified", file=sys.stderr, flush=True)
            self._next = read - read % _STEP + _STEP


def _summary(verified: Verified) -> str:
    parts = [f"{verified.events} events verified"]
    if verified.unchecked:
        parts.append(f"{verified.unchecked} of them without a checksum, which are only readable")
    parts.append(f"{verified.compared} stacks and deployments compared with their events")
    if verified.not_compared:
        parts.append(f"{verified.not_compared} not compared, as their events are not retained")
    count = verified.findings
    parts.append(f"{count} {'finding' if count == 1 else 'findings'}")
    return "; ".join(parts)
