"""Appends: requests to append, recorded and answered for ASGI and for the fast path."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from deploylog.api.context import ApiContext
from deploylog.api.native import query_string, wire
from deploylog.api.native.settings import NativeSettings
from deploylog.errors import InvalidEvent
from deploylog.events.access import Principal
from deploylog.events.cloudevents import Defaults

#: Bytes of a body that is parsed on the event loop; a thread costs more.
QUICK_BYTES = 64 * 1024

_Parsed = TypeVar("_Parsed")


class Appends:
    """Records events for the native API."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._clock = context.clock
        self._max_events = settings.max_batch_events

    async def defaults(self, principal: Principal, query: str) -> Defaults:
        """What the query says of all events; raises InvalidInput or DeploymentNotFound.

        It needs no body.
        """
        now = self._clock()
        given = query_string.parse_append_query(query)
        if given.deployment is None:
            return Defaults(time=now, source=given.source, scopes=given.scopes)
        deployment = await self._deployments.open_deployment_for(principal, given.deployment)
        return Defaults(
            time=now,
            source=given.source,
            scopes=deployment.scopes,
            groups=deployment.groups,
            actor=deployment.actor,
            hides_actor=not self._deployments.shows(principal, deployment),
        )

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
        events, key = await _off_the_loop(
            body,
            lambda: (
                wire.parse_events(headers, body, defaults, limit=self._max_events),
                wire.parse_request_key(headers, principal, query, body),
            ),
        )
        try:
            recorded = await self._events.append(principal, events, request=key)
        except InvalidEvent as refused:
            error = refused
            located = await _off_the_loop(body, lambda: wire.locate(error, headers, body))
            raise located from refused
        return wire.render_receipts(recorded)


async def _off_the_loop(body: bytes, parse: Callable[[], _Parsed]) -> _Parsed:
    """What ``parse`` makes of the body, in a thread if that may take long."""
    if len(body) <= QUICK_BYTES:
        return parse()
    return await asyncio.to_thread(parse)
