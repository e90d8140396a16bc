"""A transport that may call this machine, and deployments to tell of."""

from collections.abc import AsyncIterator

import pytest

from deploylog.subscriptions.delivery.egress import parse_networks
from deploylog.subscriptions.delivery.transport import (
    Limits,
    WebhookTransport,
    open_webhook_transport,
)


@pytest.fixture
async def transport() -> AsyncIterator[WebhookTransport]:
    async with open_webhook_transport(parse_networks("127.0.0.0/8"), Limits()) as transport:
        yield transport
