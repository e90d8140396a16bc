"""``verify``: what in a store contradicts the recorded events."""

from typing import Annotated

import typer

from deploylog.cli.application import new_app
from deploylog.cli.options import StoreLocation, expanded
from deploylog.cli.printing import Jq, json_lines
from deploylog.cli.terminal.steps import Steps
from deploylog.cli.terminal.text import plain
from deploylog.server import admin
from deploylog.store.contract import Finding, Verified

app = new_app()


@app.command()
@expanded
def verify(
    *,
    location: StoreLocation,
    mend: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Rebuild what is derived from events: the index, stacks and deployments.",
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per finding, and a summary.")
    ] = False,
    jq: Jq = None,
) -> None:
    """Verify the store.

    Prints every inconsistency, and exits 1 if there is any that was not mended.
    """
    lines = json_lines(json, jq)

    def found(finding: Finding) -> None:
        if lines is not None:
            lines.print(finding, flush=True)
        else:
            mended = " (mended)" if finding.mended else ""
            print(plain(f"{finding.part} {finding.where}: {finding.what}{mended}"), flush=True)

    verified = admin.verify(location.url, found=found, progress=Steps("verified"), mend=mend)
    if lines is not None:
        lines.print(verified)
    else:
        print(_summary(verified))
    if verified.findings > verified.mended:
        raise typer.Exit(1)


def _summary(verified: Verified) -> str:
    parts = [f"{verified.events} events verified"]
    if verified.unchecked:
        parts.append(f"{verified.unchecked} of them without a checksum, only read")
    parts.append(f"{verified.compared} stacks and deployments compared with their events")
    if verified.not_compared:
        parts.append(f"{verified.not_compared} not compared, because their events were pruned")
    count = verified.findings
    parts.append(f"{count} {'finding' if count == 1 else 'findings'}")
    if verified.mended:
        parts.append(f"{verified.mended} of them mended")
    return "; ".join(parts)
