"""The endpoint of DORA's metrics: parse, call the service, render."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.exchange import json_response, query_of
from deploylog.api.native import query_string
from deploylog.api.native.metrics.wire import render_dora
from deploylog.api.native.settings import NativeSettings


class Metrics:
    """Answers for metrics."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._dora = context.dora
        self._clock = context.clock

    async def dora(self, request: Request) -> Response:
        """Measure how deployments went."""
        parameters = query_string.Parameters(query_of(request))
        names = query_string.parse_place(parameters)
        window = query_string.parse_window(parameters, now=self._clock())
        parameters.done()
        found = await self._dora.measure(request.state.principal, names, window)
        body = render_dora(found, base=request.scope.get("base_path", ""))
        return json_response(body)
