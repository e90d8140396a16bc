"""Requests with a body by a template of the user's."""

from collections.abc import Sequence

from deploylog.subscriptions.delivery.kinds.kind import (
    EndpointKind,
    Notice,
    SenderParts,
    one_sender,
)
from deploylog.subscriptions.delivery.kinds.notice_sender import NoticeSender
from deploylog.subscriptions.delivery.kinds.template.environment import check_template
from deploylog.subscriptions.delivery.kinds.template.rendering import render, values_of
from deploylog.subscriptions.delivery.outcome import Request, classify_receiver_response
from deploylog.subscriptions.delivery.sender import OutgoingBatch


def _make_sender(parts: SenderParts) -> NoticeSender:
    async def render_template(batch: OutgoingBatch, notice: Notice) -> Sequence[Request]:
        values = values_of(parts, batch.subscription, notice)
        text = await parts.render_template(batch.endpoint.template, values)
        return [render(batch.endpoint, notice.event, text)]

    return NoticeSender(parts, render_template, classify_receiver_response)


TEMPLATE = EndpointKind(
    name="template",
    title="Requests with a body of your own",
    required=("url", "template"),
    optional=("headers",),
    is_signed=True,
    check=lambda endpoint: check_template(endpoint.template),
    open_senders=one_sender(lambda parts: _make_sender(parts).send),
)
