"""What ``bench.crash`` finds, in words."""

import msgspec
from bench.crash import Findings


def as_text(findings: Findings) -> list[str]:
    """One line for each kind of fault."""
    counts = msgspec.structs.asdict(findings)
    return [f"{number} events {what}" for what, number in counts.items() if number]
