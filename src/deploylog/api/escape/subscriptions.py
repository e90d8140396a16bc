"""EscapeKit's subscriptions, which clients read and replace by project."""

from collections.abc import Iterator, Sequence

import msgspec

from deploylog.api.escape.errors import INVALID_JSON
from deploylog.api.escape.wire import VISIBLE, is_project
from deploylog.errors import InvalidInput
from deploylog.events.scope import scope
from deploylog.subscriptions.reconcile import DesiredSubscription, GroupMember, SubscriptionGroup
from deploylog.subscriptions.subscription import EndpointPatch, Kind

#: Error messages repeat at most this many characters of unknown text.
_MAX_QUOTED = 64

_KINDS: dict[str, Kind] = {"webhook": "webhook", "slack": "slack"}


class EscapeSubscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """EscapeKit's form of a subscription."""

    id: str
    type: str
    url: str
    slack_icon: str = ""
    slack_username: str = ""


_KEYS = ("id", "type", "url", "slack_icon", "slack_username")


def parse_collection(project: str) -> SubscriptionGroup | None:
    """The project's subscription group; ``None`` when no project can have this name."""
    if not is_project(project):
        return None
    scopes = (scope("inventory", project), scope("state", project))
    return SubscriptionGroup(
        name=f"escape:{project}",
        filter=msgspec.structs.replace(VISIBLE, scopes=scopes),
        format="escape",
        order="strict",
    )


def parse_subscriptions(body: bytes) -> list[DesiredSubscription]:
    """The group's desired subscriptions: an array, or an object by id; raises InvalidInput."""
    document = _decode(body)
    if isinstance(document, list):
        return [_parse_entry(entry, None) for entry in document]
    return [_parse_entry(entry, id) for id, entry in document.items()]


def render_subscriptions(members: Sequence[GroupMember]) -> bytes:
    """The group's subscriptions by id."""
    rendered = {member.name: _render_member(member) for member in members}
    return msgspec.json.encode(rendered) + b"\n"


def _decode(body: bytes) -> list[object] | dict[str, object]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(INVALID_JSON) from error
    if not isinstance(document, list | dict):
        raise InvalidInput(INVALID_JSON)
    return document


def _parse_entry(entry: object, key: str | None) -> DesiredSubscription:
    texts = dict(_texts(entry))
    # EscapeKit's documentation has both "SLACK" and "slack".
    kind = _KINDS.get(texts.get("type", "").lower())
    if kind is None:
        given = texts.get("type", "")[:_MAX_QUOTED]
        raise InvalidInput(f"Unknown hook type '{given}'", field="type")
    id = texts.get("id", "")
    if key and id and key != id:
        raise InvalidInput(f"'{key[:_MAX_QUOTED]}' has another id", field="id")
    return DesiredSubscription(
        name=key or id or None, kind=kind, endpoint=_parse_endpoint(kind, texts)
    )


def _texts(entry: object) -> Iterator[tuple[str, str]]:
    """The entry's keys and text values; raises InvalidInput."""
    if not isinstance(entry, dict):
        raise InvalidInput("A subscription must be an object")
    for name, value in entry.items():
        if name not in _KEYS:
            # Two spaces, as in EscapeKit.
            raise InvalidInput(
                f"Unknown  hook configuration key '{name[:_MAX_QUOTED]}'", field="key"
            )
        if name == "id" and isinstance(value, list) and len(value) == 1:
            [value] = value
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidInput(f"'{name}' is not a string", field=name)
        yield name, value


def _parse_endpoint(kind: Kind, texts: dict[str, str]) -> EndpointPatch:
    """The endpoint; a webhook ignores the keys for Slack."""
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


def _render_member(member: GroupMember) -> EscapeSubscription:
    return EscapeSubscription(
        id=member.name or "",
        type=member.kind,
        url=member.endpoint.url,
        slack_icon=member.endpoint.icon,
        slack_username=member.endpoint.username,
    )
