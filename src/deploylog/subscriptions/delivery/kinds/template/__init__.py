"""Requests with a body by a template of the user's."""

from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, one_sender
from deploylog.subscriptions.delivery.kinds.template.environment import check_template
from deploylog.subscriptions.delivery.kinds.template.sender import TemplateSender

TEMPLATE = EndpointKind(
    name="template",
    title="Requests with a body of your own",
    required=("url", "template"),
    optional=("headers",),
    is_signed=True,
    check=lambda endpoint: check_template(endpoint.template),
    open_senders=one_sender(TemplateSender),
)
