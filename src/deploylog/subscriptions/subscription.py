"""Subscriptions, their endpoints, and the records of their deliveries."""

from typing import Literal

import msgspec

from deploylog.deployments.catalog import Status
from deploylog.errors import InvalidSubscription
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope
from deploylog.subscriptions.places import EVERYWHERE, Places

#: The name of a kind of endpoint: a key of ``delivery.kinds.KINDS``.
Kind = str

#: The body of a webhook: a CloudEvent, or an event in EscapeKit's JSON.
Format = Literal["cloudevents", "escape"]

#: ``strict`` delivers all events one by one; ``per_deployment`` does so within each deployment.
Order = Literal["strict", "per_deployment"]

#: A ``paused`` subscription was paused by a user. A ``failing`` one is probed now and then, and
#: recovers with the first successful delivery. A ``disabled`` one stays so until a user resumes it.
State = Literal["active", "paused", "failing", "disabled"]

#: How an attempt ended: ``failed`` is retried, ``dead_lettered`` is not.
Result = Literal["delivered", "failed", "dead_lettered"]

#: The lane of events that a user redelivers. No scope starts with it, so that no other lane has the
#: same name.
REDELIVERED = "/"

#: Bytes of a request's and of a response's body that an attempt records.
MAX_REQUEST_BYTES = 1024
MAX_RESPONSE_BYTES = 1024


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The principal that a subscription delivers for: it delivers what this principal may read."""

    #: As in ``Principal``.
    kind: str
    id: str
    name: str
    #: Empty for a member of all groups.
    groups: tuple[str, ...] = ()


class SigningSecret(msgspec.Struct, frozen=True, kw_only=True):
    """An encrypted signing secret."""

    sealed: bytes
    #: ns since 1970.
    created: int
    #: ns since 1970; ``None`` until another secret replaces it.
    expires: int | None = None


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as it is stored: its endpoint and its secrets are encrypted."""

    #: UUID.
    id: str
    name: str
    kind: Kind
    format: Format
    filter: Filter
    #: What it is about by names; the scopes of the filter contain it.
    places: Places = EVERYWHERE
    order: Order
    state: State
    #: Why it is in this state, for users.
    reason: str | None
    owner: Owner
    #: JSON of ``Endpoint``, encrypted: it contains secrets, such as the URL of a Slack webhook.
    target: bytes
    #: The redacted endpoint.
    shown: str
    #: Newest first.
    secrets: tuple[SigningSecret, ...]
    #: ns since 1970.
    created: int
    #: The group that it belongs to, such as EscapeKit's subscriptions of a project; empty without.
    collection: str = ""
    #: Rises with every change that its worker must apply.
    version: int = 1
    #: Every event at or below this position is delivered, dead-lettered or pending.
    checkpoint: int
    #: When deliveries started to fail, in ns since 1970; ``None`` while they succeed.
    failing_since: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subscription delivers to. Never shown, never logged."""

    #: The URL to post to; empty with a Slack bot token.
    url: str = ""
    #: What the receiver authenticates: the token of a Slack bot or of a Grafana service account, or
    #: PagerDuty's integration key.
    token: str = ""
    #: The Slack channel to post to.
    channel: str = ""
    #: The sender that Slack shows; only legacy incoming webhooks support it.
    username: str = ""
    #: An emoji as ``:name:``, or the URL of an image.
    icon: str = ""
    #: The UID of the Grafana dashboard to annotate; empty: every dashboard may show it.
    dashboard: str = ""
    #: The Jinja template of a body.
    template: str = ""
    #: More headers of a request.
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """An undelivered event at or below the checkpoint, or the one right after it."""

    position: int
    #: Events of one lane wait for one another.
    lane: str
    #: Attempts so far.
    tries: int = 0
    #: The times of the first and of the next attempt, in ns since 1970.
    first: int | None = None
    due: int = 0
    #: Whether it is delivered only when a user redelivers it.
    dead_lettered: bool = False
    error: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver one event."""

    position: int
    event: str
    #: ns since 1970.
    started: int
    #: ns.
    latency: int
    result: Result
    #: HTTP status; ``None`` without a response.
    status: int | None
    error: str | None
    #: The first bytes of the response body.
    response: str
    #: The first bytes of the request body, without secrets; empty when it is the event itself.
    request: str = ""
    #: The time of the next attempt, in ns since 1970.
    due: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What was posted for a deployment, and is edited as the deployment proceeds."""

    deployment: Scope
    #: The Slack channel; empty elsewhere.
    channel: str
    #: The receiver's id of it. Later ones have greater ids.
    id: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The report of one request, recorded atomically with the checkpoint."""

    subscription: str
    attempts: tuple[Attempt, ...]
    checkpoint: int
    #: Stored positions that are no longer pending, and what is pending now.
    delivered_positions: tuple[int, ...] = ()
    pending: tuple[Pending, ...] = ()
    messages: tuple[Message, ...] = ()
    #: The new state of the subscription, and why.
    state: State | None = None
    reason: str | None = None
    #: As in ``Subscription``.
    failing_since: int | None = None


class EndpointPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to an ``Endpoint``, field by field; ``None`` leaves a field as it is."""

    url: str | None = None
    token: str | None = None
    channel: str | None = None
    username: str | None = None
    icon: str | None = None
    dashboard: str | None = None
    template: str | None = None
    headers: dict[str, str] | None = None


class NewSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription to create."""

    name: str
    kind: Kind
    endpoint: EndpointPatch
    format: Format = "cloudevents"
    filter: Filter
    #: Instead of scopes in the filter.
    places: Places = EVERYWHERE
    #: Statuses at which a deployment is told of; they select types of events.
    statuses: tuple[Status, ...] = ()
    #: Whether names in ``places`` need not exist yet.
    allow_missing: bool = False
    #: ``None``: the default for the endpoint.
    order: Order | None = None
    #: The signing secret; ``None`` to generate one.
    secret: str | None = None
    #: ``now``, ``start``, or the id of an event: delivery starts after it.
    start: str = "now"


class SubscriptionPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a subscription; ``None`` leaves a field as it is."""

    name: str | None = None
    endpoint: EndpointPatch = EndpointPatch()
    format: Format | None = None
    scopes: tuple[Scope, ...] | None = None
    #: Replaces the whole filter but for its scopes.
    filter: Filter | None = None
    #: Replaces the scopes too, as scopes replace the places.
    places: Places | None = None
    #: As in ``NewSubscription``.
    statuses: tuple[Status, ...] = ()
    allow_missing: bool = False
    order: Order | None = None


def check_name(name: str) -> None:
    """Raise InvalidSubscription unless a subscription may have this name."""
    if not 1 <= len(name) <= 128 or not name.isprintable() or name != name.strip():
        message = "name must be 1 to 128 printable characters, without spaces at either end"
        raise InvalidSubscription(message, field="name")


def with_endpoint(subscription: Subscription, encrypted: bytes, *, redacted: str) -> Subscription:
    """The subscription with another endpoint: the failures of the former one no longer count."""
    changed = msgspec.structs.replace(subscription, target=encrypted, shown=redacted)
    return resumed(changed) if changed.state in ("failing", "disabled") else changed


def paused(subscription: Subscription, *, by: str) -> Subscription:
    """The subscription as ``by`` paused it, unless it is paused already."""
    if subscription.state == "paused":
        return subscription
    return msgspec.structs.replace(subscription, state="paused", reason=f"paused by {by}")


def resumed(subscription: Subscription) -> Subscription:
    """The subscription, active whatever stopped it."""
    return msgspec.structs.replace(subscription, state="active", reason=None, failing_since=None)
