"""The fields of endpoints: validation and redaction."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from msgspec import structs

from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind
from deploylog.subscriptions.subscription import Endpoint, EndpointPatch

#: Returns the canonical URL; raises InvalidSubscription for one that may not be called.
CheckUrl = Callable[[str], str]

MAX_URL_LENGTH = 2048
MAX_TOKEN_LENGTH = 512
#: Slack's limit for the name of a channel. The limit for a sender's name is ours.
MAX_CHANNEL_LENGTH = 80
MAX_DISPLAY_LENGTH = 255

#: Headers of a template: how many, and the characters of all.
MAX_HEADERS = 20
MAX_HEADER_CHARACTERS = 4096
#: Grafana's limit.
MAX_DASHBOARD_LENGTH = 40

_DASHBOARD = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")

#: The headers of a request, and those that a signature and the transport set.
_RESERVED_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive",
        "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "webhook-id",
        "webhook-signature", "webhook-timestamp",
    }
)  # fmt: skip


def kind_of(name: str) -> EndpointKind:
    """The kind with this name; raises InvalidSubscription."""
    if name not in KINDS:
        raise InvalidSubscription(f"kind must be one of {', '.join(KINDS)}", field="kind")
    return KINDS[name]


def apply_patch(
    kind: EndpointKind, before: Endpoint, patch: EndpointPatch, *, check_url: CheckUrl
) -> Endpoint:
    """Return ``before`` with the changes; raises InvalidSubscription, naming the field."""
    given = {name: value for name, value in structs.asdict(patch).items() if value is not None}
    endpoint = structs.replace(before, **_replaced_alternatives(kind, given), **given)
    if not endpoint.url:
        endpoint = structs.replace(endpoint, url=kind.default_url)
    _check_fields(kind, endpoint)
    kind.check(endpoint)
    return structs.replace(endpoint, url=check_url(endpoint.url)) if endpoint.url else endpoint


def _replaced_alternatives(kind: EndpointKind, given: dict[str, Any]) -> dict[str, str]:
    """The fields to clear, since others of ``given`` replace them."""
    chosen = [group for group in kind.alternatives if given.get(group[0])]
    if len(chosen) > 1:
        either = ", or ".join(" and ".join(group) for group in kind.alternatives)
        raise InvalidSubscription(f"set either {either}", field=chosen[-1][0])
    others = [name for group in kind.alternatives for name in group if group not in chosen]
    return {name: "" for name in others if chosen and name not in given}


def _check_fields(kind: EndpointKind, endpoint: Endpoint) -> None:
    for name, value in structs.asdict(endpoint).items():
        if value and name not in kind.fields:
            message = f"{name} does not apply to subscriptions of the kind {kind.name}"
            raise InvalidSubscription(message, field=name)
        if not value and name in kind.required:
            raise InvalidSubscription(f"{name} is required", field=name)
        if value and name in _CHECKS:
            _CHECKS[name](value)


def redact(kind: str, endpoint: Endpoint) -> str:
    """What every reader of the subscription may know of its endpoint."""
    return kind_of(kind).describe(endpoint) or redact_url(endpoint.url)


def redact_url(url: str) -> str:
    """Scheme, host and port: the rest may be a secret."""
    parts = urlsplit(url)
    hostname = parts.hostname or ""
    host = f"[{hostname}]" if ":" in hostname else hostname
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}/…"


def _check_length_of_url(url: str) -> None:
    if len(url) > MAX_URL_LENGTH:
        raise InvalidSubscription(f"url exceeds {MAX_URL_LENGTH} characters", field="url")


def _check_token(token: str) -> None:
    # It is sent in a header.
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidSubscription(f"token exceeds {MAX_TOKEN_LENGTH} characters", field="token")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidSubscription("token must be printable ASCII without spaces", field="token")


def _check_icon(icon: str) -> None:
    _check_text("icon", icon, max_length=MAX_URL_LENGTH)
    is_emoji = len(icon) > 2 and icon.startswith(":") and icon.endswith(":")
    if icon and not is_emoji and not icon.startswith(("http://", "https://")):
        message = "icon must be an emoji, such as :rocket:, or the URL of an image"
        raise InvalidSubscription(message, field="icon")


def _check_text(field: str, text: str, *, max_length: int) -> None:
    if len(text) > max_length or not text.isprintable() or text != text.strip():
        message = f"{field} must be at most {max_length} printable characters, without spaces"
        raise InvalidSubscription(f"{message} at either end", field=field)


def _check_headers(headers: dict[str, str]) -> None:
    """They are sent in a request: no value may end its line."""
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_CHARACTERS:
        message = f"headers exceed {MAX_HEADERS} or {MAX_HEADER_CHARACTERS} characters"
        raise InvalidSubscription(message, field="headers")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidSubscription(f"headers: {name[:80]!r} is not a name", field="headers")
        if name.lower() in _RESERVED_HEADERS:
            raise InvalidSubscription(f"headers: {name} cannot be set", field="headers")
        if not (value.isascii() and value.isprintable()):
            message = f"headers: the value of {name} must be printable ASCII"
            raise InvalidSubscription(message, field="headers")


def _check_dashboard(uid: str) -> None:
    if len(uid) > MAX_DASHBOARD_LENGTH or not _DASHBOARD.fullmatch(uid):
        message = f"dashboard must be a UID of at most {MAX_DASHBOARD_LENGTH} characters"
        raise InvalidSubscription(message, field="dashboard")


#: The check of each field by itself.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "url": _check_length_of_url,
    "token": _check_token,
    "channel": partial(_check_text, "channel", max_length=MAX_CHANNEL_LENGTH),
    "username": partial(_check_text, "username", max_length=MAX_DISPLAY_LENGTH),
    "icon": _check_icon,
    "dashboard": _check_dashboard,
    "headers": _check_headers,
}
