"""The timelines of deployments that people look at, kept so that each read continues the last."""

import asyncio
from collections import defaultdict
from statistics import median

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.service import DeploymentService
from deploylog.events.access import Principal, Visibility
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.filters import Filter, any_of
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.ui.timeline import Timeline
from deploylog.ui.waterfall import Baseline

#: Timelines in memory, each with up to ``MAX_RESOURCES`` resources.
_KEPT = 64

#: Events of one read.
_READ = 2_000

#: Earlier deployments to compare with, and the ends of resources to read of them.
_EARLIER = 3
_EARLIER_EVENTS = 3_000

_TYPES = ("resource.*", "deployment.*")

#: People who see the same share a timeline; others must not.
_Key = tuple[Visibility, str]


class _Kept(msgspec.Struct):
    timeline: Timeline
    lock: asyncio.Lock
    baseline: dict[tuple[str, str], int] | None = None


class Timelines:
    """Reads timelines, and what earlier deployments took."""

    def __init__(self, events: EventService, deployments: DeploymentService) -> None:
        self._events = events
        self._deployments = deployments
        self._kept: BoundedMap[_Key, _Kept] = BoundedMap(_KEPT)

    async def get(self, principal: Principal, deployment: Deployment) -> tuple[Timeline, Baseline]:
        """What the principal may see of a deployment's events, all of them so far."""
        kept = self._keep((principal.visibility, deployment.id))
        async with kept.lock:
            await self._continue(principal, deployment, kept.timeline)
            if kept.baseline is None:
                kept.baseline = await self._baseline(principal, deployment)
        return kept.timeline, kept.baseline

    def _keep(self, key: _Key) -> _Kept:
        kept = self._kept.get(key)
        if kept is None:
            kept = _Kept(Timeline(), asyncio.Lock())
            self._kept.put(key, kept)
        return kept

    async def _continue(
        self, principal: Principal, deployment: Deployment, timeline: Timeline
    ) -> None:
        query = Query(
            scope=deployment.scopes[0],
            filter=Filter(all_of=(any_of("type", _TYPES),)),
            order="oldest",
            limit=_READ,
        )
        position: int | None = timeline.position
        while position is not None:
            part = msgspec.structs.replace(query, after=position)
            page = await self._events.read(principal, part)
            for event in page:
                timeline.add(event)
            position = page.next

    async def _baseline(
        self, principal: Principal, deployment: Deployment
    ) -> dict[tuple[str, str], int]:
        """The median of what each resource took in the last few deployments of the stack."""
        earlier = await self._deployments.deployments_of(
            principal,
            deployment.stack_id,
            statuses=("completed",),
            before=deployment.id,
            limit=_EARLIER,
        )
        durations: dict[tuple[str, str], list[int]] = defaultdict(list)
        for each in earlier:
            if each.operation == deployment.operation:
                await self._add_durations(principal, each, durations)
        return {key: int(median(found)) for key, found in durations.items()}

    async def _add_durations(
        self,
        principal: Principal,
        deployment: Deployment,
        durations: dict[tuple[str, str], list[int]],
    ) -> None:
        timeline = Timeline()
        query = Query(
            scope=deployment.scopes[0],
            filter=Filter(all_of=(any_of("type", ("resource.*",)),)),
            order="oldest",
            limit=_EARLIER_EVENTS,
        )
        async for page in self._events.pages(principal, query):
            for event in page:
                timeline.add(event)
        for address, bars in timeline.bars.items():
            for bar in bars:
                if bar.ended is not None and bar.state == "completed":
                    durations[address, bar.action].append(bar.ended - bar.started)
