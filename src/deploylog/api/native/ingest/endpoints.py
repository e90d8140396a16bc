"""The endpoints for what other services post in forms of their own."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import BodyLimits, read_body
from deploylog.api.http.exchange import json_response, query_of
from deploylog.api.native import query_string, wire
from deploylog.api.native.ingest.stack_recorder import StackRecorder
from deploylog.api.native.ingest.wire import IngestReceipt, parse_place, render_receipt
from deploylog.api.native.settings import NativeSettings
from deploylog.events.access import Principal
from deploylog.ingest.cloudformation.notifications import parse_envelope, parse_message
from deploylog.ingest.cloudformation.parsing import EVENTBRIDGE_PREFIX
from deploylog.ingest.cloudformation.rendering import StackContext, Via
from deploylog.ingest.cloudformation.sns import SnsMessage, parse_sns_message
from deploylog.ingest.cloudformation.stack_event import StackEvent
from deploylog.ingest.delivery import Delivery, Ignored
from deploylog.ingest.sources import reader_of

#: More than the largest SNS message, 256 KiB, in its envelope.
_SNS_BYTES = 1024 * 1024

#: Seconds in which a message must arrive: anyone may send one.
_SNS_SECONDS = 15.0


class Ingest:
    """Records what other services post in forms of their own."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._recorder = StackRecorder(context.events, context.endings)
        self._reports = context.reports
        self._clock = context.clock
        self._topics = context.topics
        self._limits = context.limits.at_most(_SNS_BYTES)
        self._webhook_limits = context.limits
        # SNS shows its credential in the body, so the body is read before authentication.
        self._sns_limits = BodyLimits(
            sent=_SNS_BYTES, decompressed=_SNS_BYTES, seconds=_SNS_SECONDS
        )

    async def eventbridge(self, request: Request) -> Response:
        """Record an event of EventBridge about CloudFormation."""
        request.state.principal.require_anywhere("write")
        asked = query_string.parse_stack_query(query_of(request))
        event = parse_envelope(await read_body(request, self._limits))
        return await self._record(request.state.principal, asked, event)

    async def sns(self, request: Request) -> Response:
        """Accept a message from an SNS topic."""
        asked = query_string.parse_stack_query(query_of(request))
        message = parse_sns_message(await read_body(request, self._sns_limits))
        principal, project = await self._topics.authenticate(message, asked.project)
        if message.type != "Notification":
            return await self._subscription(message)
        asked = query_string.StackQuery(project=project, scopes=asked.scopes, groups=asked.groups)
        return await self._record(principal, asked, parse_message(message.message))

    async def source(self, request: Request) -> Response:
        """Record a webhook of a source as a deployment."""
        request.state.principal.require_anywhere("write")
        read = reader_of(request.path_params["source"])
        delivery = Delivery(
            place=parse_place(query_of(request)),
            headers=request.headers,
            body=await read_body(request, self._webhook_limits),
            received=self._clock(),
        )
        said = read(delivery)
        if isinstance(said, Ignored):
            return json_response(IngestReceipt(ignored=said.reason), status=200)
        receipt = render_receipt(await self._reports.append(request.state.principal, said))
        return json_response(receipt, status=201 if receipt.events else 200)

    async def _subscription(self, message: SnsMessage) -> Response:
        if message.type == "SubscriptionConfirmation":
            await self._topics.confirm(message)
        return Response(status_code=204)

    async def _record(
        self, principal: Principal, asked: query_string.StackQuery, event: StackEvent
    ) -> Response:
        via: Via = "eventbridge" if event.event_id.startswith(EVENTBRIDGE_PREFIX) else "sns"
        frame = StackContext(
            project=asked.required_project,
            arn=event.stack_id,
            scopes=asked.scopes,
            groups=asked.groups,
            via=via,
        )
        recorded = await self._recorder.record(principal, frame, event)
        content = wire.render_receipts(recorded)
        return Response(content, status_code=201, media_type="application/json")
