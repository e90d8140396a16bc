"""What is asked for: a new subscription, and what is to change in one."""

import msgspec

from deploylog.filters import AnyOf, Filter
from deploylog.scope import Scope
from deploylog.subscriptions import Format, Kind, Order


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a target; ``None`` is not said. The fields are those of ``Target``."""

    url: str | None = None
    token: str | None = None
    channel: str | None = None
    username: str | None = None
    icon: str | None = None


class NewSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that somebody wants."""

    name: str
    kind: Kind
    aim: Aim
    format: Format = "cloudevents"
    filter: Filter
    #: ``None``: what is usual for the target.
    order: Order | None = None
    #: What signs; drawn when it is not given.
    secret: str | None = None
    #: ``now``, ``start``, or the id of the last event that is not to be delivered.
    start: str = "now"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; ``None`` stays as it is."""

    name: str | None = None
    aim: Aim = Aim()
    format: Format | None = None
    scopes: tuple[Scope, ...] | None = None
    conditions: tuple[AnyOf, ...] | None = None
    order: Order | None = None
