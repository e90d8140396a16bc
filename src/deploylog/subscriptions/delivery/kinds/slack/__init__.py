"""Slack: messages of an incoming webhook, or of a bot."""

from collections.abc import Callable

from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, SenderParts
from deploylog.subscriptions.delivery.kinds.slack.bot import SlackBotSender, bot_batch_size
from deploylog.subscriptions.delivery.kinds.slack.webhook import (
    SlackWebhookSender,
    webhook_batch_size,
)
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
    webhook = Sender(send=SlackWebhookSender(parts).send, batch_size=webhook_batch_size)
    bot = Sender(send=SlackBotSender(parts).send, batch_size=bot_batch_size)
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
