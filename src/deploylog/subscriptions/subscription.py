"""Subscriptions: who is told of events, by which way, and how that went."""

from typing import Literal

import msgspec

from deploylog.events.filters import AnyOf, Filter
from deploylog.events.scope import Scope

#: ``webhook`` posts each event to a URL; ``slack`` posts to a Slack incoming webhook, or, with a
#: bot's token, one message a deployment to a channel.
Kind = Literal["webhook", "slack"]

#: What a webhook's body is: a CloudEvent, or an event as EscapeKit's service shows it.
Format = Literal["cloudevents", "escape"]

#: ``strict`` delivers one event after the other; ``per_deployment`` does so within each deployment.
Order = Literal["strict", "per_deployment"]

#: ``paused`` waits for whoever paused it; ``failing`` was paused because nothing arrives, and goes
#: on by itself once something does; ``disabled`` waits for somebody to resume it.
State = Literal["active", "paused", "failing", "disabled"]

#: How an attempt ended: ``failed`` will be tried again, ``dead_lettered`` will not.
Result = Literal["delivered", "failed", "dead_lettered"]

#: The lane of what somebody asked to be sent again. No scope begins so, and a lane that is named
#: for a scope cannot be taken for it.
REDELIVERED = "/"

#: The most of an answer's body that is kept, in bytes.
MAX_RESPONSE_BYTES = 1024


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose subscription it is: it delivers what that principal may see."""

    #: As in ``Principal``.
    kind: str
    id: str
    name: str
    #: Those that it is in; none when it is in all.
    groups: tuple[str, ...] = ()


class SigningSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs, sealed, and how long it does."""

    sealed: bytes
    #: ns since 1970.
    created: int
    #: ns since 1970; ``None`` for the one that is not replaced.
    expires: int | None = None


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as it is kept. Its target and its secrets are sealed."""

    #: UUID.
    id: str
    name: str
    kind: Kind
    format: Format
    filter: Filter
    order: Order
    state: State
    #: Why it is in this state, in words.
    reason: str | None
    owner: Owner
    #: What a target holds is a secret, such as a Slack address: JSON of ``Endpoint``, encrypted.
    target: bytes
    #: What may be shown of the target.
    shown: str
    #: The newest first.
    secrets: tuple[SigningSecret, ...]
    #: ns since 1970.
    created: int
    #: The set that it is one of, such as EscapeKit's of a project; empty when it is by itself.
    collection: str = ""
    #: Rises with every change that its courier must know of.
    version: int = 1
    #: Everything at or below this position is delivered, dead_lettered, or pending.
    checkpoint: int
    #: Since when nothing arrived, in ns since 1970; ``None`` while things do.
    failing_since: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subscription delivers to. Never shown, never logged."""

    #: The address that is posted to; empty with a Slack bot's token.
    url: str = ""
    #: A Slack bot's token, and the channel that it posts to.
    token: str = ""
    channel: str = ""
    #: What Slack shows as the sender; only old incoming webhooks heed them.
    username: str = ""
    #: ``:name:`` of an emoji, or an address of a picture.
    icon: str = ""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """An event at or below the checkpoint, or the next one, that did not arrive yet."""

    position: int
    #: Which events wait for one another.
    lane: str
    #: Attempts so far.
    tries: int = 0
    #: When it was first tried, and when it is tried next, in ns since 1970.
    first: int | None = None
    due: int = 0
    #: Whether it is given up, until somebody asks for it to be sent again.
    dead_lettered: bool = False
    error: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver one event."""

    position: int
    event: str
    #: ns since 1970.
    started: int
    #: ns.
    latency: int
    result: Result
    #: HTTP status; ``None`` when there was no answer.
    status: int | None
    error: str | None
    #: The answer's first bytes.
    response: str
    #: When it is tried next, in ns since 1970.
    due: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A Slack message that stands for a deployment, and is edited as it proceeds."""

    deployment: Scope
    channel: str
    #: Slack's name of the message.
    ts: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request: recorded whole, with the checkpoint, or not at all."""

    subscription: str
    attempts: tuple[Attempt, ...]
    checkpoint: int
    #: Positions that are pending no more, and what is pending now.
    delivered_positions: tuple[int, ...] = ()
    pending: tuple[Pending, ...] = ()
    messages: tuple[Message, ...] = ()
    #: The state that the subscription is in from now on, and why.
    state: State | None = None
    reason: str | None = None
    #: Since when nothing arrives.
    failing_since: int | None = None


class EndpointPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a target; ``None`` is not said. The fields are those of ``Endpoint``."""

    url: str | None = None
    token: str | None = None
    channel: str | None = None
    username: str | None = None
    icon: str | None = None


class NewSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that somebody wants."""

    name: str
    kind: Kind
    endpoint: EndpointPatch
    format: Format = "cloudevents"
    filter: Filter
    #: ``None``: what is usual for the target.
    order: Order | None = None
    #: What signs; drawn when it is not given.
    secret: str | None = None
    #: ``now``, ``start``, or the id of the last event that is not to be delivered.
    start: str = "now"


class SubscriptionPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; ``None`` stays as it is."""

    name: str | None = None
    endpoint: EndpointPatch = EndpointPatch()
    format: Format | None = None
    scopes: tuple[Scope, ...] | None = None
    conditions: tuple[AnyOf, ...] | None = None
    order: Order | None = None
