"""The JSON of subscriptions, and of what became of their deliveries; pure."""

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from deploylog.api.native.wire import FILTERS, check_filter_values
from deploylog.errors import InvalidFilter, InvalidInput, InvalidSubscription
from deploylog.events.filters import AnyOf, Filter, any_of
from deploylog.events.scope import Scope, parse_scope
from deploylog.events.times import MILLISECOND, SECOND, parse_time_or_ago, render_time
from deploylog.subscriptions.history import DeadLetter
from deploylog.subscriptions.service import Standing
from deploylog.subscriptions.store import RecordedAttempt
from deploylog.subscriptions.subscription import (
    Attempt,
    EndpointPatch,
    Format,
    Kind,
    NewSubscription,
    Order,
    Result,
    SigningSecret,
    State,
    Subscription,
    SubscriptionPatch,
)

#: Seconds that a secret goes on signing once it is replaced, and the most that may be asked for.
OVERLAP_SECONDS = 86_400
MAX_OVERLAP_SECONDS = 30 * 86_400

#: What msgspec says of where it found something, and of what is there too much or too little.
_AT = re.compile(r" - at `\$\.?(.*?)`$")
_NAMED = re.compile(r"(?:unknown|required) field `(.*?)`")

_T = TypeVar("_T")


class FilterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values of each field, ORed; fields are ANDed. ``prefix.*`` is all below it."""

    type: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    resourcetype: tuple[str, ...] = ()
    resourcename: tuple[str, ...] = ()
    resourcekey: tuple[str, ...] = ()


class NewBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription that is asked for."""

    name: str
    kind: Kind
    url: str | None = None
    token: str | None = None
    channel: str | None = None
    username: str | None = None
    icon: str | None = None
    secret: str | None = None
    format: Format = "cloudevents"
    scopes: tuple[str, ...] = ()
    filter: FilterBody = FilterBody()
    #: ``per_deployment`` with a bot's token, else ``strict``.
    order: Order | None = None
    start: str = msgspec.field(name="from", default="now")


class ChangeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different. Scopes and filter are given whole."""

    name: str | None = None
    url: str | None = None
    token: str | None = None
    channel: str | None = None
    username: str | None = None
    icon: str | None = None
    format: Format | None = None
    scopes: tuple[str, ...] | None = None
    filter: FilterBody | None = None
    order: Order | None = None


class RotateBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which secret signs from now on; drawn when it is left out."""

    secret: str | None = None
    #: Seconds that the former ones sign, too.
    overlap: int = OVERLAP_SECONDS


class RedeliverBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event, or all dead letters that were first tried since a time."""

    event: str | None = None
    since: str | None = None


class SecretBody(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs, without its value."""

    created: str
    expires: str | None


class SubscriptionBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription, and how its deliveries are going."""

    id: str
    name: str
    kind: Kind
    format: Format
    #: As far as it is shown.
    target: str
    scopes: tuple[str, ...]
    filter: FilterBody
    order: Order
    state: State
    reason: str | None
    #: The owner's name.
    owner: str
    created: str
    #: A position: everything at or below it is delivered, dead-lettered or pending.
    checkpoint: str
    #: Events of the log after the checkpoint.
    lag: int
    failing_since: str | None
    pending: int
    dead_lettered: int
    next_try: str | None
    secrets: list[SecretBody]
    #: Once: in the answer to the request that had it drawn.
    secret: str | None = None


class SubscriptionList(msgspec.Struct, frozen=True):
    """Subscriptions, oldest first."""

    subscriptions: list[SubscriptionBody]


class AttemptBody(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver one event."""

    event: str
    position: str
    started: str
    latency_ms: int
    result: Result
    status: int | None
    error: str | None
    #: The answer's first bytes.
    response: str
    next_try: str | None


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of attempts, newest first."""

    attempts: list[AttemptBody]
    next: str | None = None


class DeadLetterBody(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up."""

    #: Its id; nothing when it is no longer retained.
    event: str | None
    position: str
    tries: int
    first_try: str | None
    error: str | None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of dead letters, in the order of the log."""

    dead_letters: list[DeadLetterBody]
    next: str | None = None


class Redelivered(msgspec.Struct, frozen=True, kw_only=True):
    """How many events are sent again."""

    events: int


# In


def parse_new(body: bytes) -> NewSubscription:
    """The subscription that is asked for; raises InvalidSubscription, naming the field."""
    asked = _decoded(body, NewBody)
    return NewSubscription(
        name=asked.name,
        kind=asked.kind,
        endpoint=_endpoint(asked),
        format=asked.format,
        filter=Filter(all_of=_conditions(asked.filter), scopes=_scopes(asked.scopes)),
        order=asked.order,
        secret=asked.secret,
        start=asked.start,
    )


def parse_change(body: bytes) -> SubscriptionPatch:
    """What is to be different; raises likewise."""
    asked = _decoded(body, ChangeBody)
    return SubscriptionPatch(
        name=asked.name,
        endpoint=_endpoint(asked),
        format=asked.format,
        scopes=_scopes(asked.scopes) if asked.scopes is not None else None,
        conditions=_conditions(asked.filter) if asked.filter is not None else None,
        order=asked.order,
    )


def parse_rotate(body: bytes) -> tuple[str | None, int]:
    """The secret if one is given, and for how many ns the former ones sign."""
    asked = _decoded(body or b"{}", RotateBody)
    if not 0 <= asked.overlap <= MAX_OVERLAP_SECONDS:
        message = f"overlap is a whole number of seconds from 0 to {MAX_OVERLAP_SECONDS}"
        raise InvalidSubscription(message, field="overlap")
    return asked.secret, asked.overlap * SECOND


def parse_redeliver(body: bytes, *, now: int) -> str | int:
    """The id of one event, or the time (ns) since which all are meant."""
    asked = _decoded(body, RedeliverBody)
    if asked.event is not None and asked.since is not None:
        raise InvalidSubscription("give either event or since", field="since")
    if asked.event is not None:
        return asked.event
    if asked.since is None:
        raise InvalidSubscription("event or since is missing", field="event")
    try:
        return parse_time_or_ago(asked.since, now=now)
    except InvalidInput as error:
        raise InvalidSubscription(f"since: {error.message}", field="since") from error


def _decoded(body: bytes, type: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidSubscription(f"the body is not JSON: {error}") from error


def _wrong(message: str) -> InvalidSubscription:
    """What is wrong where, in the decoder's words, which hold no values."""
    place, named, what = _AT.search(message), _NAMED.search(message), _AT.sub("", message)
    parts = [place[1].partition("[")[0] if place else "", named[1] if named else ""]
    field = ".".join(part for part in parts if part)[:64]
    return InvalidSubscription(f"{field}: {what}" if field else what, field=field or None)


def _endpoint(asked: NewBody | ChangeBody) -> EndpointPatch:
    return EndpointPatch(
        url=asked.url,
        token=asked.token,
        channel=asked.channel,
        username=asked.username,
        icon=asked.icon,
    )


def _scopes(texts: Sequence[str]) -> tuple[Scope, ...]:
    try:
        return tuple(parse_scope(text) for text in texts)
    except InvalidInput as error:
        raise InvalidSubscription(error.message, field="scopes") from error


def _conditions(asked: FilterBody) -> tuple[AnyOf, ...]:
    try:
        return tuple(
            any_of(field, check_filter_values(name, values))
            for name, field in FILTERS.items()
            if (values := getattr(asked, name))
        )
    except InvalidFilter as error:
        raise InvalidSubscription(error.message, field=f"filter.{error.field}") from error


# Out


def render_subscription(standing: Standing, *, secret: str | None = None) -> SubscriptionBody:
    """A subscription's JSON; ``secret`` when it is to be told."""
    subscription, backlog = standing.subscription, standing.backlog
    return SubscriptionBody(
        id=subscription.id,
        name=subscription.name,
        kind=subscription.kind,
        format=subscription.format,
        target=subscription.shown,
        scopes=subscription.filter.scopes,
        filter=_filter(subscription),
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
        secrets=[_secret(term) for term in subscription.secrets],
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
        response=attempt.response,
        next_try=_time(attempt.due),
    )


def render_dead_letters(dead_letters: Sequence[DeadLetter], *, limit: int) -> DeadLetterPage:
    """A page of what was given up."""
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


def _filter(subscription: Subscription) -> FilterBody:
    names = {field: name for name, field in FILTERS.items()}
    return FilterBody(
        **{
            names[condition.field]: (
                *condition.values,
                *(f"{prefix}*" for prefix in condition.prefixes),
            )
            for condition in subscription.filter.all_of
        }
    )


def _secret(term: SigningSecret) -> SecretBody:
    return SecretBody(created=render_time(term.created), expires=_time(term.expires))


def _time(ns: int | None) -> str | None:
    return render_time(ns) if ns is not None else None
