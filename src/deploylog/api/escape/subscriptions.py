"""EscapeKit's subscriptions: those of a project, put and read as a whole."""

from collections.abc import Iterator, Sequence

import msgspec

from deploylog.api.escape.errors import INVALID_JSON
from deploylog.api.escape.wire import SHOWN, is_project
from deploylog.errors import InvalidInput
from deploylog.events.scope import scope
from deploylog.subscriptions.reconcile import DesiredSubscription, GroupMember, SubscriptionGroup
from deploylog.subscriptions.subscription import EndpointPatch, Kind

#: The most characters of what is not known that an answer repeats.
_SHOWN = 64

_KINDS: dict[str, Kind] = {"webhook": "webhook", "slack": "slack"}


class EscapeSubscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription, as EscapeKit has it."""

    id: str
    type: str
    url: str
    slack_icon: str = ""
    slack_username: str = ""


_KEYS = ("id", "type", "url", "slack_icon", "slack_username")


def parse_collection(project: str) -> SubscriptionGroup | None:
    """The set of a project; ``None`` when there can be no project of this name."""
    if not is_project(project):
        return None
    places = (scope("inventory", project), scope("state", project))
    return SubscriptionGroup(
        name=f"escape:{project}",
        filter=msgspec.structs.replace(SHOWN, scopes=places),
        format="escape",
        order="strict",
    )


def parse_subscriptions(body: bytes) -> list[DesiredSubscription]:
    """What the set is to hold, of an array or of an object by id; raises InvalidInput."""
    document = _decoded(body)
    if isinstance(document, list):
        return [_wanted(entry, None) for entry in document]
    return [_wanted(entry, id) for id, entry in document.items()]


def render_subscriptions(members: Sequence[GroupMember]) -> bytes:
    """The set, by id."""
    rendered = {member.name: _rendered(member) for member in members}
    return msgspec.json.encode(rendered) + b"\n"


def _decoded(body: bytes) -> list[object] | dict[str, object]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(INVALID_JSON) from error
    if not isinstance(document, list | dict):
        raise InvalidInput(INVALID_JSON)
    return document


def _wanted(entry: object, key: str | None) -> DesiredSubscription:
    texts = dict(_texts(entry))
    # EscapeKit's page writes SLACK as well as "slack".
    kind = _KINDS.get(texts.get("type", "").lower())
    if kind is None:
        said = texts.get("type", "")[:_SHOWN]
        raise InvalidInput(f"Unknown hook type '{said}'", field="type")
    id = texts.get("id", "")
    if key and id and key != id:
        raise InvalidInput(f"'{key[:_SHOWN]}' has another id", field="id")
    return DesiredSubscription(name=key or id or None, kind=kind, endpoint=_endpoint(kind, texts))


def _texts(entry: object) -> Iterator[tuple[str, str]]:
    """The entry's keys and values; raises InvalidInput."""
    if not isinstance(entry, dict):
        raise InvalidInput("A subscription is an object")
    for name, value in entry.items():
        if name not in _KEYS:
            # Two blanks, as EscapeKit writes it.
            raise InvalidInput(f"Unknown  hook configuration key '{name[:_SHOWN]}'", field="key")
        if name == "id" and isinstance(value, list) and len(value) == 1:
            [value] = value
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidInput(f"'{name}' is not a string", field=name)
        yield name, value


def _endpoint(kind: Kind, texts: dict[str, str]) -> EndpointPatch:
    """Where to; what is for Slack only means nothing to a webhook."""
    url = texts.get("url", "")
    if not url:
        raise InvalidInput("Missing 'url'", field="url")
    if not url.startswith(("http://", "https://")):
        raise InvalidInput("'url' is not an http or https address", field="url")
    if kind == "webhook":
        return EndpointPatch(url=url)
    return EndpointPatch(
        url=url, username=texts.get("slack_username", ""), icon=texts.get("slack_icon", "")
    )


def _rendered(member: GroupMember) -> EscapeSubscription:
    return EscapeSubscription(
        id=member.name or "",
        type=member.kind,
        url=member.endpoint.url,
        slack_icon=member.endpoint.icon,
        slack_username=member.endpoint.username,
    )
