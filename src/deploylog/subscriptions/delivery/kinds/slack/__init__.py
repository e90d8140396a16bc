"""Slack: messages of an incoming webhook, or of a bot."""

from collections.abc import Callable

from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, SenderParts
from deploylog.subscriptions.delivery.kinds.slack.bot import SlackBotSender
from deploylog.subscriptions.delivery.kinds.slack.webhook import SlackWebhookSender
from deploylog.subscriptions.delivery.sender import Sender
from deploylog.subscriptions.subscription import Endpoint, Order


def _check(endpoint: Endpoint) -> None:
    if endpoint.channel and not endpoint.token:
        raise InvalidSubscription("channel requires token", field="channel")
    if endpoint.token and not endpoint.channel:
        raise InvalidSubscription("token requires channel", field="channel")
    if not endpoint.token and not endpoint.url:
        raise InvalidSubscription("url is required", field="url")


def _describe(endpoint: Endpoint) -> str:
    return f"slack #{endpoint.channel.lstrip('#')}" if endpoint.channel else ""


def _default_order(endpoint: Endpoint) -> Order:
    """Per deployment for a bot, which keeps one message for each."""
    return "per_deployment" if endpoint.token else "strict"


def _default_types(endpoint: Endpoint) -> tuple[str, ...]:
    """One message a deployment: a bot edits it, a webhook posts it at the end."""
    return () if endpoint.token else tuple(DEPLOYMENT_ENDS)


def _open_senders(parts: SenderParts) -> Callable[[Endpoint], Sender]:
    webhook = SlackWebhookSender(parts)
    bot = SlackBotSender(
        parts.transport,
        parts.slack_api_url,
        parts.find_deployment,
        parts.find_message,
        parts.type_names,
        parts.deployment_url,
    )
    return lambda endpoint: bot if endpoint.token else webhook


SLACK = EndpointKind(
    name="slack",
    title="Messages in Slack",
    optional=("username", "icon"),
    alternatives=(("url",), ("token", "channel")),
    check=_check,
    describe=_describe,
    default_order=_default_order,
    default_types=_default_types,
    open_senders=_open_senders,
)
