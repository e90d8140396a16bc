"""Endings: the end of a deployment says what it restores, also if its producer does not know."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.details import completed
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.deployments.projection import DeploymentEnded, project
from deploylog.deployments.recovery import Recoveries
from deploylog.deployments.store import Catalog
from deploylog.errors import DeploymentNotFound, InvalidEvent
from deploylog.events.access import Principal
from deploylog.events.event import MAX_DATA_BYTES, NewEvent
from deploylog.events.service import EventService

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DeploymentEndings:
    """Completes the events that end deployments."""

    def __init__(self, events: EventService, catalog: Catalog) -> None:
        self._events = events
        self._catalog = catalog

    async def complete(
        self, principal: Principal, events: Sequence[NewEvent]
    ) -> Sequence[NewEvent]:
        """The events, in which each success says what it restores."""
        if not any(event.type in DEPLOYMENT_ENDS for event in events):
            return events
        recoveries = Recoveries(self._catalog, partial(self._events.read_for_writer, principal))
        ended: list[Deployment] = []
        whole = []
        for event in events:
            run = await self._ended_by(event)
            if run is not None and all(principal.may("write", path) for path in run.scopes):
                event = await _completed(recoveries, event, run, ended)
            whole.append(event)
        return whole

    async def _ended_by(self, event: NewEvent) -> Deployment | None:
        """The deployment after its end; ``None`` if the event ends none that is running."""
        change = _end(event)
        if change is None or change.place.deployment_id is None:
            return None
        try:
            run = await self._catalog.deployment(change.place.deployment_id)
        except DeploymentNotFound:
            return None
        if run.ended is not None or run.groups != event.groups:
            return None
        return msgspec.structs.replace(
            run,
            status=change.status,
            ended=change.time,
            operation=run.operation or change.operation,
            details=completed(run.details, change.details),
        )


def _end(event: NewEvent) -> DeploymentEnded | None:
    if event.type not in DEPLOYMENT_ENDS:
        return None
    # The append refuses data that says something wrong, and names the place in the request.
    with suppress(InvalidEvent):
        change = project(event)
        return change if isinstance(change, DeploymentEnded) else None
    return None


async def _completed(
    recoveries: Recoveries, event: NewEvent, run: Deployment, ended: list[Deployment]
) -> NewEvent:
    """The end of ``run``; ``ended`` are the deployments that the events before have ended."""
    restored = None
    if run.status == "completed" and run.details.restores is None:
        restored = await recoveries.restored_by(run, event.time, ended)
    ended.append(run)
    return _with_restored(event, restored) if restored is not None else event


def _with_restored(event: NewEvent, restored: str) -> NewEvent:
    """The event whose data says what its deployment restores, if the data is an object."""
    try:
        data = _decode_object(event.data if event.data is not None else b"{}")
    except msgspec.DecodeError:
        return event
    data["restores"] = msgspec.Raw(msgspec.json.encode(restored))
    encoded = msgspec.json.encode(data)
    if len(encoded) > MAX_DATA_BYTES:
        return event
    return msgspec.structs.replace(event, data=msgspec.Raw(encoded))
