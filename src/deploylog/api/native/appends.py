"""Appends: requests to append, recorded and answered for ASGI and for the fast path."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from deploylog.api.context import ApiContext
from deploylog.api.native import query_string, wire
from deploylog.api.native.ingest.wire import check_is_no_webhook
from deploylog.api.native.plain_event import (
    parse_plain_event,
    to_event,
    to_named_event,
)
from deploylog.api.native.settings import NativeSettings
from deploylog.deployments.report import Report
from deploylog.errors import InvalidEvent
from deploylog.events.access import Principal
from deploylog.events.cloudevents import Defaults
from deploylog.events.event import Event, NewEvent
from deploylog.events.store import IdempotencyKey
from deploylog.ingest.named_events import named

#: Bytes of a body that is parsed on the event loop; a thread costs more.
QUICK_BYTES = 64 * 1024

_Parsed = TypeVar("_Parsed")


class Appends:
    """Records events for the native API."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._reports = context.reports
        self._endings = context.endings
        self._clock = context.clock
        self._max_events = settings.max_batch_events

    async def defaults(self, principal: Principal, query: str) -> Defaults:
        """What the query says of all events; raises InvalidInput or DeploymentNotFound.

        It needs no body.
        """
        now = self._clock()
        given = query_string.parse_append_query(query)
        defaults = Defaults(time=now, source=given.source, scopes=given.scopes)
        if given.deployment is None:
            return defaults
        return await self._of_deployment(principal, given.deployment, defaults)

    async def record(
        self,
        principal: Principal,
        headers: Mapping[str, str],
        query: str,
        body: bytes,
        defaults: Defaults,
    ) -> bytes:
        """Record the events of ``body``; the receipts as JSON. ``headers`` are by lower-case name.

        Raises InvalidEvent with its place in the body.
        """
        key = await _off_the_loop(
            body, lambda: wire.parse_request_key(headers, principal, query, body)
        )
        events = await self._events_in(principal, headers, body, defaults)
        try:
            recorded = await self._append(principal, events, key)
        except InvalidEvent as refused:
            error = refused
            located = await _off_the_loop(body, lambda: wire.locate(error, headers, body))
            raise located from refused
        return wire.render_receipts(recorded)

    async def _events_in(
        self, principal: Principal, headers: Mapping[str, str], body: bytes, defaults: Defaults
    ) -> list[NewEvent]:
        if wire.is_plain_event(headers):
            check_is_no_webhook(headers)
            return [await self._plain_event(principal, body, defaults)]
        return await _off_the_loop(
            body, lambda: wire.parse_events(headers, body, defaults, limit=self._max_events)
        )

    async def _plain_event(self, principal: Principal, body: bytes, defaults: Defaults) -> NewEvent:
        event = await _off_the_loop(body, lambda: parse_plain_event(body))
        if event.names_deployment:
            return to_named_event(event, principal, defaults)
        if event.deployment is not None:
            defaults = await self._of_deployment(principal, event.deployment, defaults)
        scopes = defaults.scopes
        if event.project is not None:
            scopes = await self._deployments.event_scopes(
                principal, event.project, stack=event.stack, environment=event.environment
            )
        return to_event(event, principal, scopes, defaults)

    async def _of_deployment(self, principal: Principal, id: str, defaults: Defaults) -> Defaults:
        """The defaults that a deployment gives, instead of those of the query."""
        deployment = await self._deployments.open_deployment_for(principal, id)
        return Defaults(
            time=defaults.time,
            source=defaults.source,
            scopes=deployment.scopes,
            groups=deployment.groups,
            actor=deployment.actor,
            hides_actor=not self._deployments.shows(principal, deployment),
        )

    async def _append(
        self, principal: Principal, events: list[NewEvent], key: IdempotencyKey | None
    ) -> list[Event]:
        if all(event.scopes for event in events):
            whole = await self._endings.complete(principal, events)
            return await self._events.append(principal, whole, request=key)
        items = [_named(line, event) for line, event in enumerate(events, 1)]
        recorded = await self._reports.append(principal, items, request=key)
        return [group[-1] for group in recorded]


def _named(line: int, event: NewEvent) -> NewEvent | Report:
    """The event, or what it reports about a deployment that it names; raises InvalidEvent."""
    try:
        return named(event)
    except InvalidEvent as error:
        raise InvalidEvent(error.message, field=error.field, line=line) from error


async def _off_the_loop(body: bytes, parse: Callable[[], _Parsed]) -> _Parsed:
    """What ``parse`` makes of the body, in a thread if that may take long."""
    if len(body) <= QUICK_BYTES:
        return parse()
    return await asyncio.to_thread(parse)
