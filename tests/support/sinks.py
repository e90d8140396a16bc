"""The parts of senders under test: an owner's deployments, and what was posted for them."""

import re
from typing import Any

from msgspec import json

from deploylog.api.native.catalog.wire import render_deployment
from deploylog.api.native.wire import render_one
from deploylog.deployments.catalog import Counts, Deployment
from deploylog.deployments.details import Commit, Details
from deploylog.events.event import Event
from deploylog.events.scope import Scope, deployment_scope
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.kinds.kind import SenderParts
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.sender import OutgoingBatch
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint, Message, Subscription
from support.factories import deployment, event, now, subscription

#: Where people see every deployment.
PAGE = "https://log.example/deployments"


class Owner:
    """The owner of a subscription: the deployments that it may see, and what was posted for it."""

    def __init__(self, *deployments: Deployment) -> None:
        self.deployments = {each.scopes[0]: each for each in deployments}
        self.stored: dict[Scope, Message] = {}

    async def deployment(self, subscription: Subscription, scope: Scope) -> Deployment | None:
        return self.deployments.get(scope)

    async def message(self, subscription: str, scope: Scope) -> Message | None:
        return self.stored.get(scope)

    def store(self, outcome: Outcome) -> None:
        """Store what was posted."""
        self.stored |= {message.deployment: message for message in outcome.messages}


async def no_templates(template: str, values: dict[str, Any]) -> str:
    raise AssertionError(template)


def sender_parts(
    transport: WebhookTransport, owner: Owner | None = None, **fields: Any
) -> SenderParts:
    """The parts of senders for subscriptions of ``owner``."""
    owner = owner or Owner()

    def render(event: Event) -> tuple[str, bytes]:
        return "application/cloudevents+json", render_one(event)

    defaults: dict[str, Any] = {
        "formats": {"cloudevents": render},
        "type_names": {},
        "events_url": lambda subscription, event: "",
        "find_deployment": owner.deployment,
        "find_message": owner.message,
        "deployment_url": lambda deployment: f"{PAGE}/{deployment.id}",
        "render_deployment": lambda deployment: json.encode(render_deployment(deployment)),
        "render_template": no_templates,
        "slack_api_url": "",
    }
    return SenderParts(transport=transport, **(defaults | fields))


def outgoing(kind: str, endpoint: Endpoint, *events: Event, **fields: Any) -> OutgoingBatch:
    """What a sender of the kind sends for the same subscription each time."""
    same = subscription(id="subscription-1", kind=kind)
    defaults: dict[str, Any] = {"subscription": same, "now": now()}
    return OutgoingBatch(endpoint=endpoint, events=events, **(defaults | fields))


#: A deployment of every name, and when it started and ended.
ID = "5c5ecbb0-6d2c-4f1f-9d0c-0d6f5f6d3c11"
STACK_ID = "0c9a1f0f-7c5b-4f5c-9a53-8e0c9f0e6a52"
SCOPE = deployment_scope("acme", STACK_ID, ID)
STARTED = 1_795_000_000 * SECOND
ENDED = STARTED + 42 * SECOND


def ended_deployment(**fields: Any) -> Deployment:
    """A completed deployment with everything that messages show."""
    defaults: dict[str, Any] = {
        "id": ID, "stack_id": STACK_ID, "scopes": (SCOPE,), "status": "completed",
        "started": STARTED, "ended": ENDED, "environment": "prod", "actor": "ann",
        "tool": "terraform", "operation": "apply", "counts": Counts(added=3, changed=1),
        "details": Details(
            version="1.4.2",
            commits=(Commit(sha="4f2a9c1e7b3d5a6f8c0e"),),
            approvers=("bob", "cleo"),
            url="https://ci.example/run/7",
            change_request="https://git.example/pull/12",
        ),
    }  # fmt: skip
    return deployment(**(defaults | fields))


def lifecycle_event(type: str = "deployment.completed", position: int = 1, **fields: Any) -> Event:
    """An event that starts or ends the deployment."""
    return event(position, type=type, scopes=(SCOPE,), subject="web", **fields)


def ids_in(text: str) -> list[str]:
    """The UUIDs that a text shows."""
    return re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", text)
