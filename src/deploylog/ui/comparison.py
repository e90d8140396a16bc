"""Two deployments side by side: resources of only one, other outcomes, slower and faster ones."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from deploylog.ui.timeline import Diagnostic
from deploylog.ui.waterfall import Row, is_much_longer

Difference = Literal["outcome", "later", "earlier", "slower", "faster", "same"]

#: In the order in which people want to know of them.
DIFFERENCES: tuple[Difference, ...] = ("outcome", "later", "earlier", "slower", "faster", "same")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A resource in the earlier and in the later deployment; in one of them at least."""

    address: str
    earlier: Row | None
    later: Row | None

    @property
    def difference(self) -> Difference:
        """What matters most of what differs."""
        if self.earlier is None:
            return "later"
        if self.later is None:
            return "earlier"
        if (self.earlier.action, self.earlier.state) != (self.later.action, self.later.state):
            return "outcome"
        if is_much_longer(self.later.duration, self.earlier.duration):
            return "slower"
        if is_much_longer(self.earlier.duration, self.later.duration):
            return "faster"
        return "same"

    @property
    def longer(self) -> int:
        """By how many ns the later one took longer; below zero if it took less."""
        later = self.later.duration if self.later is not None else 0
        earlier = self.earlier.duration if self.earlier is not None else 0
        return later - earlier


class Diagnosed(msgspec.Struct, frozen=True, kw_only=True):
    """Errors and warnings of only one deployment, and of both."""

    later: tuple[Diagnostic, ...]
    earlier: tuple[Diagnostic, ...]
    both: tuple[Diagnostic, ...]


def compare_rows(
    earlier: Iterable[Row], later: Iterable[Row]
) -> dict[Difference, tuple[Pair, ...]]:
    """Every resource under what differs, those with the greatest difference in time first."""
    before = {row.address: row for row in earlier}
    after = {row.address: row for row in later}
    groups: dict[Difference, list[Pair]] = {difference: [] for difference in DIFFERENCES}
    for address in sorted({*before, *after}):
        pair = Pair(address=address, earlier=before.get(address), later=after.get(address))
        groups[pair.difference].append(pair)
    return {
        difference: tuple(sorted(pairs, key=lambda pair: -abs(pair.longer)))
        for difference, pairs in groups.items()
    }


def compare_diagnostics(earlier: Sequence[Diagnostic], later: Sequence[Diagnostic]) -> Diagnosed:
    """Which the later deployment has, too; two that say the same of the same place are one."""
    before = {_meaning(each) for each in earlier}
    after = {_meaning(each) for each in later}
    return Diagnosed(
        later=tuple(each for each in later if _meaning(each) not in before),
        earlier=tuple(each for each in earlier if _meaning(each) not in after),
        both=tuple(each for each in later if _meaning(each) in before),
    )


def _meaning(diagnostic: Diagnostic) -> tuple[str | None, ...]:
    return (diagnostic.severity, diagnostic.message, diagnostic.address)
