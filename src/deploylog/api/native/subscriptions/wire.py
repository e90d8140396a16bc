"""The JSON of subscriptions and their deliveries; pure."""

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from deploylog.api.native.query_string import (
    check_filter_values,
    parse_conditions,
    render_conditions,
)
from deploylog.deployments.catalog import Status
from deploylog.errors import InvalidFilter, InvalidInput, InvalidSubscription
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope, parse_scope
from deploylog.events.text import parse_text, render_text
from deploylog.events.times import MILLISECOND, SECOND, Time, parse_time_or_ago, render_time
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.history import DeadLetter
from deploylog.subscriptions.places import EVERYWHERE, Places
from deploylog.subscriptions.service import Standing
from deploylog.subscriptions.store import RecordedAttempt
from deploylog.subscriptions.subscription import (
    Attempt,
    EndpointPatch,
    Format,
    NewSubscription,
    Order,
    Result,
    SigningSecret,
    State,
    SubscriptionPatch,
)

#: Seconds for which a replaced secret still signs: the default, and the maximum.
OVERLAP_SECONDS = 86_400
MAX_OVERLAP_SECONDS = 30 * 86_400

#: The path, and the unknown or missing field, in msgspec's messages.
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(.*?)`")

#: The fields of ``NamesBody`` that stand for scopes.
_NAMES = ("project", "stack", "environment", "version", "commit", "label")

_T = TypeVar("_T")


class FieldValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values by field. ``prefix.*`` stands for all below it."""

    type: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    resourcetype: tuple[str, ...] = ()
    resourcename: tuple[str, ...] = ()
    resourcekey: tuple[str, ...] = ()
    resourceaddress: tuple[str, ...] = ()
    resourceid: tuple[str, ...] = ()


class FilterBody(FieldValues, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values of a field are ORed, fields are ANDed."""

    #: Addresses and ids.
    resource: tuple[str, ...] = ()
    #: Full text.
    q: str | None = None
    #: Values that no field may have.
    excluded: FieldValues | None = msgspec.field(name="not", default=None)


#: The names of kinds, which the service checks.
KindName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(KINDS)})]


class NamesBody(EndpointPatch, frozen=True, kw_only=True):
    """What a subscription is about by names, instead of scopes."""

    project: str | None = None
    stack: tuple[str, ...] | None = None
    environment: tuple[str, ...] | None = None
    #: Only events of deployments that carry one of the versions, a commit that starts with one of
    #: these digits, and all of the labels.
    version: tuple[str, ...] | None = None
    commit: tuple[str, ...] | None = None
    label: dict[str, str] | None = None
    #: Told of when a deployment enters one of these: restricts the types of events.
    status: tuple[Status, ...] = ()
    #: Whether names need not exist yet.
    allow_missing: bool = False


class NewBody(NamesBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to create a subscription. Which fields an endpoint has depends on its kind."""

    name: str
    kind: KindName
    secret: str | None = None
    format: Format = "cloudevents"
    scopes: tuple[str, ...] = ()
    filter: FilterBody = FilterBody()
    #: ``per_deployment`` where one message stands for a deployment, else ``strict``.
    order: Order | None = None
    start: str = msgspec.field(name="from", default="now")


class ChangeBody(NamesBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to change a subscription. Scopes, names, filter and headers are replaced whole."""

    name: str | None = None
    format: Format | None = None
    scopes: tuple[str, ...] | None = None
    filter: FilterBody | None = None
    order: Order | None = None


class RotateBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to rotate the signing secret; without ``secret``, a random one is generated."""

    secret: str | None = None
    #: Seconds for which the previous secrets still sign.
    overlap: int = OVERLAP_SECONDS


class RedeliverBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to redeliver one event, or all dead letters first tried since a time."""

    event: str | None = None
    since: str | None = None


class SecretBody(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret, without its value."""

    created: Time
    expires: Time | None


class SubscriptionBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription and the state of its deliveries."""

    id: str
    name: str
    kind: KindName
    format: Format
    #: Redacted.
    target: str
    scopes: tuple[str, ...]
    #: Instead of scopes.
    project: str | None
    stack: tuple[str, ...]
    environment: tuple[str, ...]
    #: What the deployments carry.
    version: tuple[str, ...]
    commit: tuple[str, ...]
    label: dict[str, str]
    filter: FilterBody
    order: Order
    state: State
    reason: str | None
    #: The owner's name.
    owner: str
    created: Time
    #: A position: everything at or below it is delivered, dead-lettered or pending.
    checkpoint: str
    #: Events of the log after the checkpoint.
    lag: int
    failing_since: Time | None
    pending: int
    dead_lettered: int
    next_try: Time | None
    secrets: list[SecretBody]
    #: Only in the response to the request that generated it.
    secret: str | None = None


class SubscriptionList(msgspec.Struct, frozen=True):
    """Subscriptions, oldest first."""

    subscriptions: list[SubscriptionBody]


class AttemptBody(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver one event."""

    event: str
    position: str
    started: Time
    latency_ms: int
    result: Result
    status: int | None
    error: str | None
    #: The first bytes of the request, without secrets; empty when it is the event itself.
    request: str
    #: The first bytes of the response.
    response: str
    next_try: Time | None


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of attempts, newest first."""

    attempts: list[AttemptBody]
    next: str | None = None


class DeadLetterBody(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose delivery was given up."""

    #: The event's id; ``None`` when it is no longer retained.
    event: str | None
    position: str
    tries: int
    first_try: Time | None
    error: str | None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of dead letters, in the order of the log."""

    dead_letters: list[DeadLetterBody]
    next: str | None = None


class Redelivered(msgspec.Struct, frozen=True, kw_only=True):
    """The number of events to redeliver."""

    events: int


# Requests


def parse_new(body: bytes) -> NewSubscription:
    """Parse a request to create; raises InvalidSubscription, which names the field."""
    new = _decode(body, NewBody)
    return NewSubscription(
        name=new.name,
        kind=new.kind,
        endpoint=_endpoint_patch(new),
        format=new.format,
        filter=msgspec.structs.replace(_filter(new.filter), scopes=_scopes(new.scopes)),
        places=_places(new, new.scopes) or EVERYWHERE,
        statuses=new.status,
        allow_missing=new.allow_missing,
        order=new.order,
        secret=new.secret,
        start=new.start,
    )


def parse_change(body: bytes) -> SubscriptionPatch:
    """Parse a request to change; raises InvalidSubscription, which names the field."""
    change = _decode(body, ChangeBody)
    return SubscriptionPatch(
        name=change.name,
        endpoint=_endpoint_patch(change),
        format=change.format,
        scopes=_scopes(change.scopes) if change.scopes is not None else None,
        filter=_filter(change.filter) if change.filter is not None else None,
        places=_places(change, change.scopes),
        statuses=change.status,
        allow_missing=change.allow_missing,
        order=change.order,
    )


def parse_rotate(body: bytes) -> tuple[str | None, int]:
    """The new secret, if any, and the ns for which the previous ones still sign."""
    rotate = _decode(body or b"{}", RotateBody)
    if not 0 <= rotate.overlap <= MAX_OVERLAP_SECONDS:
        message = f"overlap must be an integer from 0 to {MAX_OVERLAP_SECONDS} (seconds)"
        raise InvalidSubscription(message, field="overlap")
    return rotate.secret, rotate.overlap * SECOND


def parse_redeliver(body: bytes, *, now: int) -> str | int:
    """The id of the event to redeliver, or the time (ns) of the first dead letter's first try."""
    redeliver = _decode(body, RedeliverBody)
    if redeliver.event is not None and redeliver.since is not None:
        raise InvalidSubscription("give either event or since, not both", field="since")
    if redeliver.event is not None:
        return redeliver.event
    if redeliver.since is None:
        raise InvalidSubscription("event or since is missing", field="event")
    try:
        return parse_time_or_ago(redeliver.since, now=now)
    except InvalidInput as error:
        raise InvalidSubscription(f"since: {error.message}", field="since") from error


def _decode(body: bytes, type: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidSubscription(f"the body is not JSON: {error}") from error


def _invalid(message: str) -> InvalidSubscription:
    """The error for msgspec's ``message``, which contains no values of the request."""
    path, name, problem = _PATH.search(message), _FIELD.search(message), _PATH.sub("", message)
    parts = [path[1].partition("[")[0] if path else "", name[1] if name else ""]
    field = ".".join(part for part in parts if part)[:64]
    return InvalidSubscription(f"{field}: {problem}" if field else problem, field=field or None)


def _endpoint_patch(body: NewBody | ChangeBody) -> EndpointPatch:
    return EndpointPatch(**{name: getattr(body, name) for name in EndpointPatch.__struct_fields__})


def _places(body: NamesBody, scopes: Sequence[str] | None) -> Places | None:
    """The names in a request, or ``None`` without any; raises InvalidSubscription."""
    if all(getattr(body, name) is None for name in _NAMES):
        return None
    if scopes:
        raise InvalidSubscription(f"use scopes, or {', '.join(_NAMES)}", field="scopes")
    return Places(
        project=body.project,
        stacks=body.stack or (),
        environments=body.environment or (),
        versions=body.version or (),
        commits=tuple(digits.lower() for digits in body.commit or ()),
        labels=tuple(sorted((body.label or {}).items())),
    )


def _scopes(texts: Sequence[str]) -> tuple[Scope, ...]:
    try:
        return tuple(parse_scope(text) for text in texts)
    except InvalidInput as error:
        raise InvalidSubscription(error.message, field="scopes") from error


def _filter(body: FilterBody) -> Filter:
    excluded = body.excluded or FieldValues()
    try:
        return Filter(
            all_of=parse_conditions(lambda name: getattr(body, name)),
            none_of=parse_conditions(lambda name: getattr(excluded, name), label="not.{}"),
            phrases=parse_text(body.q or ""),
            resources=check_filter_values("resource", body.resource),
        )
    except InvalidFilter as error:
        raise InvalidSubscription(error.message, field=f"filter.{error.field}") from error


# Responses


def render_subscription(standing: Standing, *, secret: str | None = None) -> SubscriptionBody:
    """A subscription's JSON; ``secret`` only where it must be shown."""
    subscription, backlog = standing.subscription, standing.backlog
    return SubscriptionBody(
        id=subscription.id,
        name=subscription.name,
        kind=subscription.kind,
        format=subscription.format,
        target=subscription.shown,
        scopes=subscription.filter.scopes if not subscription.places else (),
        project=subscription.places.project,
        stack=subscription.places.stacks,
        environment=subscription.places.environments,
        version=subscription.places.versions,
        commit=subscription.places.commits,
        label=dict(subscription.places.labels),
        filter=_render_filter(subscription.filter),
        order=subscription.order,
        state=subscription.state,
        reason=subscription.reason,
        owner=subscription.owner.name,
        created=render_time(subscription.created),
        checkpoint=str(subscription.checkpoint),
        lag=standing.lag,
        failing_since=_time(subscription.failing_since),
        pending=backlog.pending,
        dead_lettered=backlog.dead_lettered,
        next_try=_time(backlog.due),
        secrets=[_secret(each) for each in subscription.secrets],
        secret=secret,
    )


def render_attempts(attempts: Sequence[RecordedAttempt], *, limit: int) -> AttemptPage:
    """A page of attempts."""
    return AttemptPage(
        attempts=[render_attempt(attempt) for attempt in attempts],
        next=str(attempts[-1].number) if len(attempts) == limit else None,
    )


def render_attempt(attempt: Attempt) -> AttemptBody:
    """An attempt's JSON."""
    return AttemptBody(
        event=attempt.event,
        position=str(attempt.position),
        started=render_time(attempt.started),
        latency_ms=attempt.latency // MILLISECOND,
        result=attempt.result,
        status=attempt.status,
        error=attempt.error,
        request=attempt.request,
        response=attempt.response,
        next_try=_time(attempt.due),
    )


def render_dead_letters(dead_letters: Sequence[DeadLetter], *, limit: int) -> DeadLetterPage:
    """A page of dead letters."""
    return DeadLetterPage(
        dead_letters=[_dead_letter(each) for each in dead_letters],
        next=str(dead_letters[-1].pending.position) if len(dead_letters) == limit else None,
    )


def _dead_letter(dead_letter: DeadLetter) -> DeadLetterBody:
    return DeadLetterBody(
        event=dead_letter.event,
        position=str(dead_letter.pending.position),
        tries=dead_letter.pending.tries,
        first_try=_time(dead_letter.pending.first),
        error=dead_letter.pending.error,
    )


def _render_filter(filter: Filter) -> FilterBody:
    excluded = render_conditions(filter.none_of)
    return FilterBody(
        **render_conditions(filter.all_of),
        resource=filter.resources,
        q=render_text(filter.phrases) or None,
        excluded=FieldValues(**excluded) if excluded else None,
    )


def _secret(secret: SigningSecret) -> SecretBody:
    return SecretBody(created=render_time(secret.created), expires=_time(secret.expires))


def _time(ns: int | None) -> str | None:
    return render_time(ns) if ns is not None else None
