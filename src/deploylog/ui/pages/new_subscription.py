"""*New subscription*: a form for each kind of endpoint, made from the table of kinds."""

from collections.abc import Mapping
from typing import Literal, get_args
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters, parse_filter, parse_names
from deploylog.deployments.catalog import Status
from deploylog.errors import (
    Conflict,
    DeploylogError,
    Forbidden,
    InvalidInput,
    InvalidSubscription,
    NotFound,
)
from deploylog.events.filters import Filter
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind
from deploylog.subscriptions.places import EVERYWHERE, Places, places_of
from deploylog.subscriptions.subscription import (
    EndpointPatch,
    NewSubscription,
    Order,
    Subscription,
)
from deploylog.subscriptions.targets import kind_of
from deploylog.ui.page import Again, Page, View
from deploylog.ui.pages.events import read_filter
from deploylog.ui.search_text import NAMES, Pairs, parse_search

Input = Literal["url", "text", "password", "lines"]

_ORDERS: tuple[Order, ...] = get_args(Order)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """How the form asks for a field of an endpoint."""

    label: str
    input: Input = "text"
    help: str = ""


#: Every field of an endpoint; a test holds that none is missing.
FIELDS: dict[str, Field] = {
    "url": Field(label="URL", input="url", help="What it posts to."),
    "token": Field(
        label="Token",
        input="password",
        help="Of a Slack bot or a Grafana service account, or PagerDuty's integration key.",
    ),
    "channel": Field(label="Channel", help="With a bot's token: the channel that it posts to."),
    "username": Field(label="Sender", help="Shown by legacy incoming webhooks only."),
    "icon": Field(label="Icon", help="An emoji, such as :rocket:, or the URL of an image."),
    "dashboard": Field(label="Dashboard", help="The UID of one; empty: every dashboard."),
    "template": Field(label="Template", input="lines", help="The body, as a Jinja template."),
    "headers": Field(label="Headers", input="lines", help="One a line, such as X-Team: web."),
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the form, with what was typed."""

    name: str
    field: Field
    is_required: bool
    value: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    kinds: tuple[EndpointKind, ...]
    #: The kind that was chosen.
    kind: EndpointKind | None = None
    asked: tuple[Asked, ...] = ()
    form: dict[str, str] = {}
    problem: str | None = None
    #: The field that the problem is about.
    wrong: str | None = None
    #: The subscription that was made, and its secret: this once.
    created: Subscription | None = None
    secret: str | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events the form asks for."""

    filter: Filter
    places: Places = EVERYWHERE
    statuses: tuple[Status, ...] = ()


async def load(view: View) -> Shown:
    """The form of the kind in the query, or the choice of one."""
    parameters = Parameters(view.query)
    kind, events = parameters.one("kind"), parameters.one("events")
    parameters.done()
    form = {"events": events} if events else {}
    return _form(kind_of(kind), form) if kind is not None else _choice(form)


def _choice(form: dict[str, str]) -> Shown:
    return Shown(kinds=tuple(KINDS.values()), form=form)


def _form(kind: EndpointKind, form: dict[str, str]) -> Shown:
    return Shown(
        kinds=tuple(KINDS.values()),
        kind=kind,
        asked=tuple(
            Asked(
                name=name,
                field=field,
                is_required=name in kind.required,
                # What was typed into a password is not sent back.
                value=form.get(input_of(name), "") if field.input != "password" else "",
            )
            for name, field in FIELDS.items()
            if name in kind.fields
        ),
        form={name: form[name] for name in ("name", "events", "from", "order") if name in form},
    )


async def create(view: View) -> str | Again:
    """Make the subscription that the form describes."""
    kind, form = kind_of(view.form.get("kind", "")), dict(view.form)
    try:
        new = await _read(view, kind)
        created, secret = await view.services.subscriptions.create(view.principal, new)
    except (InvalidInput, NotFound, Forbidden, Conflict) as error:
        return Again(_refused(_form(kind, form), error), error)
    if secret is None:
        return f"subscriptions/{created.id}"
    return Again(msgspec.structs.replace(_form(kind, {}), created=created, secret=secret))


def _refused(form: Shown, error: DeploylogError) -> Shown:
    field = error.field if isinstance(error, InvalidInput) else None
    if field in NAMES:
        field = "events"
    return msgspec.structs.replace(form, problem=error.message, wrong=field)


async def _read(view: View, kind: EndpointKind) -> NewSubscription:
    form = view.form
    wanted = await _wanted(view, parse_search(form.get("events", "")))
    return NewSubscription(
        name=form.get("name", "").strip(),
        kind=kind.name,
        endpoint=read_endpoint(form, kind),
        filter=wanted.filter,
        places=wanted.places,
        statuses=wanted.statuses,
        order=_order(form.get("order", "")),
        secret=form.get("secret") or None,
        start=form.get("from") or "now",
    )


def input_of(name: str) -> str:
    """The name of a field's input: ``token`` alone is the form's own."""
    return f"endpoint.{name}"


def read_endpoint(form: Mapping[str, str], kind: EndpointKind) -> EndpointPatch:
    """The fields of an endpoint that are filled in."""
    texts = {name: form.get(input_of(name), "").strip() for name in FIELDS if name in kind.fields}
    given = {name: text for name, text in texts.items() if text}
    headers = given.pop("headers", None)
    return EndpointPatch(**given, headers=_headers(headers) if headers else None)


def _headers(text: str) -> dict[str, str]:
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    for name, colon, _ in pairs:
        if not colon or not name.strip():
            raise InvalidSubscription("headers: write Name: value on each line", field="headers")
    return {name.strip(): value.strip() for name, _, value in pairs}


async def _wanted(view: View, pairs: Pairs) -> Wanted:
    """Which events a query asks for. Its names also stand for what is named so later."""
    parameters = Parameters(urlencode(pairs))
    filter, names = parse_filter(parameters, now=view.now), parse_names(parameters)
    parameters.done()
    if filter.since is not None or filter.until is not None:
        raise InvalidSubscription("events: a subscription has no since or until", field="events")
    if names.deployments:
        return Wanted(filter=await read_filter(view, pairs))
    places = places_of(names)
    if places and filter.scopes:
        raise InvalidSubscription("events: name a scope, or a project and so on", field="events")
    return Wanted(filter=filter, places=places, statuses=names.statuses)


def _order(text: str) -> Order | None:
    for order in _ORDERS:
        if order == text:
            return order
    return None


PAGE = Page(
    path="subscriptions/new",
    template="new-subscription.html",
    load=load,
    actions={"subscriptions/new": create},
)
