"""A kind of endpoint as one value, from which validation, senders and documentation follow."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from deploylog.deployments.catalog import Counts, Deployment, deployment_ref
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE, DEPLOYMENT_STARTED
from deploylog.events.event import Event
from deploylog.events.scope import Scope, deployment_scope
from deploylog.subscriptions.delivery.outcome import Outcome, Transport
from deploylog.subscriptions.delivery.sender import OutgoingBatch, Sender, TypeNames
from deploylog.subscriptions.subscription import Endpoint, Format, Message, Order, Subscription

#: Returns an event's media type and body; raises InvalidEvent when the format lacks its type.
Render = Callable[[Event], tuple[str, bytes]]

#: Returns the deployment of a scope, if the subscription's owner may see it.
FindDeployment = Callable[[Subscription, Scope], Awaitable[Deployment | None]]

#: Returns a subscription's message for a deployment: ``Deliveries.message``.
FindMessage = Callable[[str, Scope], Awaitable[Message | None]]

#: Renders a template of a user's with its values; raises TemplateFailed.
RenderTemplate = Callable[[str, dict[str, Any]], Awaitable[str]]


class TemplateFailed(Exception):
    """A template could not be rendered. The message is for users."""


class SenderParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the senders of all kinds are made of."""

    transport: Transport
    #: The bodies of webhooks, and the names of event types, by format.
    formats: Mapping[Format, Render]
    type_names: TypeNames
    #: Where a receiver reads the events that it missed.
    events_url: Callable[[Subscription, Event], str]
    find_deployment: FindDeployment
    find_message: FindMessage
    #: Where people see a deployment; empty when the service has no public URL.
    deployment_url: Callable[[Deployment], str]
    #: A deployment in the JSON of the native API.
    render_deployment: Callable[[Deployment], bytes]
    render_template: RenderTemplate
    slack_api_url: str
    #: ns since 1970, for signatures: receivers compare it with their clock.
    clock: Callable[[], int] = time.time_ns


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and what a message says of its deployment."""

    event: Event
    #: ``None`` outside of a deployment, or if the subscription's owner may not see it.
    deployment: Deployment | None = None
    #: Where people see the deployment; empty when there is no such page.
    url: str = ""

    @property
    def lifecycle(self) -> Deployment | None:
        """The deployment, if the event starts or ends it."""
        return self.deployment if self.event.type in DEPLOYMENT_LIFECYCLE else None


async def notice_of(parts: SenderParts, subscription: Subscription, event: Event) -> Notice:
    """The notice of an event, with what the subscription's owner may see of its deployment."""
    scope = deployment_of(event)
    deployment = await parts.find_deployment(subscription, scope) if scope is not None else None
    if deployment is None:
        return Notice(event=event)
    if event.type == DEPLOYMENT_STARTED:
        deployment = _as_started(deployment)
    return Notice(event=event, deployment=deployment, url=parts.deployment_url(deployment))


def _as_started(deployment: Deployment) -> Deployment:
    """The deployment when it started: a late start must not look like another end."""
    return msgspec.structs.replace(
        deployment, status="running", ended=None, message=None, counts=Counts()
    )


def deployment_of(event: Event) -> Scope | None:
    """The scope of the deployment that an event belongs to."""
    ref = deployment_ref(event.scopes)
    if ref is None or ref.deployment_id is None:
        return None
    return deployment_scope(ref.project, ref.stack_id, ref.deployment_id)


def _accept(endpoint: Endpoint) -> None:
    """For a kind whose fields are valid in any combination."""


def _url(endpoint: Endpoint) -> str:
    return ""


def _strict(endpoint: Endpoint) -> Order:
    return "strict"


def _no_types(endpoint: Endpoint) -> tuple[str, ...]:
    return ()


#: Makes the senders of a kind; the result chooses one for an endpoint.
OpenSenders = Callable[[SenderParts], Callable[[Endpoint], Sender]]


def one_sender(
    make: Callable[[SenderParts], Callable[[OutgoingBatch], Awaitable[Outcome]]],
) -> OpenSenders:
    """Make one sender for all endpoints of a kind, which sends one event at a time."""

    def open_senders(parts: SenderParts) -> Callable[[Endpoint], Sender]:
        sender = Sender(send=make(parts))
        return lambda endpoint: sender

    return open_senders


class EndpointKind(msgspec.Struct, frozen=True, kw_only=True):
    """What a module of this folder exports, and ``KINDS`` lists."""

    name: str
    #: What it sends, for users.
    title: str
    #: The fields that an endpoint must have, and those that it may have.
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    #: Groups of fields of which an endpoint has one; setting the first of another replaces it.
    alternatives: tuple[tuple[str, ...], ...] = ()
    default_url: str = ""
    #: Whether requests are signed by Standard Webhooks.
    is_signed: bool = False
    #: Checks the fields together; raises InvalidSubscription.
    check: Callable[[Endpoint], None] = _accept
    #: What every reader may know of an endpoint; empty: scheme and host of its URL.
    describe: Callable[[Endpoint], str] = _url
    default_order: Callable[[Endpoint], Order] = _strict
    #: The event types of a subscription whose filter has none; none: all.
    default_types: Callable[[Endpoint], tuple[str, ...]] = _no_types
    #: The only event types that can be sent; none: all.
    only_types: tuple[str, ...] = ()
    open_senders: OpenSenders

    @property
    def fields(self) -> frozenset[str]:
        """The fields that an endpoint may have."""
        return frozenset((*self.required, *self.optional, *sum(self.alternatives, ())))
