"""DORA's metrics of places that people keep on a wall, measured again when a deployment ended."""

import asyncio
from collections.abc import Sequence

import msgspec

from deploylog.deployments.dora import Dora, Window
from deploylog.deployments.filters import Names
from deploylog.deployments.measuring import DoraService
from deploylog.events.access import Principal, Visibility
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.times import SECOND

#: Measurements in memory.
_KEPT = 64

#: How long one is shown though no deployment ended: its window moves, and reports come later.
_SHOWN = 60 * SECOND

#: People who see the same share a measurement; others must not.
_Key = tuple[Visibility, Names, int]


class _Kept(msgspec.Struct):
    lock: asyncio.Lock
    found: Dora | None = None
    #: The newest that had ended.
    ended: Sequence[str] = ()


class Measurements:
    """Measures, and keeps what was measured."""

    def __init__(self, dora: DoraService) -> None:
        self._dora = dora
        self._kept: BoundedMap[_Key, _Kept] = BoundedMap(_KEPT)

    async def get(
        self, principal: Principal, names: Names, window: Window, ended: Sequence[str]
    ) -> Dora:
        """The metrics of what ``names`` select; ``ended`` are the newest of them, by their ids."""
        kept = self._keep((principal.visibility, names, window.until - window.since))
        async with kept.lock:
            if kept.found is None or kept.ended != ended or _is_old(kept.found, window):
                kept.found = await self._dora.measure(principal, names, window)
                kept.ended = ended
        return kept.found

    def _keep(self, key: _Key) -> _Kept:
        kept = self._kept.get(key)
        if kept is None:
            kept = _Kept(asyncio.Lock())
            self._kept.put(key, kept)
        return kept


def _is_old(found: Dora, window: Window) -> bool:
    return abs(window.until - found.window.until) > _SHOWN
