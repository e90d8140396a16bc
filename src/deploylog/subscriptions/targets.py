"""The fields of endpoints: validation and redaction."""

from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.subscription import Endpoint, EndpointPatch, Kind, Order

#: Returns the canonical URL; raises InvalidSubscription for one that may not be called.
CheckUrl = Callable[[str], str]

MAX_URL_LENGTH = 2048
MAX_TOKEN_LENGTH = 512
#: Slack's limit for the name of a channel. The limit for a sender's name is ours.
MAX_CHANNEL_LENGTH = 80
MAX_DISPLAY_LENGTH = 255

_SLACK_ONLY = ("token", "channel", "username", "icon")


def apply_patch(
    kind: Kind, before: Endpoint, patch: EndpointPatch, *, check_url: CheckUrl
) -> Endpoint:
    """Return ``before`` with the changes; raises InvalidSubscription, naming the field."""
    given = {name: text for name, text in msgspec.structs.asdict(patch).items() if text is not None}
    if given.get("url") and given.get("token"):
        raise InvalidSubscription("set either url, or token and channel", field="token")
    if given.get("url"):
        given = {"token": "", "channel": "", **given}
    elif given.get("token"):
        given = {"url": "", **given}
    endpoint = msgspec.structs.replace(before, **given)
    if kind == "webhook":
        return _webhook(endpoint, check_url)
    return _slack(endpoint, check_url)


def default_order(endpoint: Endpoint) -> Order:
    """Per deployment for a Slack bot, which keeps one message for each; otherwise strict."""
    return "per_deployment" if endpoint.token else "strict"


def redact(kind: Kind, endpoint: Endpoint) -> str:
    """What every reader of the subscription may know of its endpoint."""
    if kind == "slack" and endpoint.channel:
        return f"slack #{endpoint.channel.lstrip('#')}"
    return redact_url(endpoint.url)


def redact_url(url: str) -> str:
    """Scheme, host and port: the rest may be a secret."""
    parts = urlsplit(url)
    hostname = parts.hostname or ""
    host = f"[{hostname}]" if ":" in hostname else hostname
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}/…"


def _webhook(endpoint: Endpoint, check_url: CheckUrl) -> Endpoint:
    for field in _SLACK_ONLY:
        if getattr(endpoint, field):
            raise InvalidSubscription(f"{field} is for Slack subscriptions only", field=field)
    return Endpoint(url=_checked_url(endpoint.url, check_url))


def _slack(endpoint: Endpoint, check_url: CheckUrl) -> Endpoint:
    _check_icon(endpoint.icon)
    _check_text("username", endpoint.username, MAX_DISPLAY_LENGTH)
    _check_text("channel", endpoint.channel, MAX_CHANNEL_LENGTH)
    if not endpoint.token:
        if endpoint.channel:
            raise InvalidSubscription("channel requires token", field="channel")
        return msgspec.structs.replace(endpoint, url=_checked_url(endpoint.url, check_url))
    _check_token(endpoint.token)
    if not endpoint.channel:
        raise InvalidSubscription("token requires channel", field="channel")
    return endpoint


def _checked_url(url: str, check_url: CheckUrl) -> str:
    if not url:
        raise InvalidSubscription("url is required", field="url")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidSubscription(f"url exceeds {MAX_URL_LENGTH} characters", field="url")
    return check_url(url)


def _check_token(token: str) -> None:
    # It is sent in a header.
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidSubscription(f"token exceeds {MAX_TOKEN_LENGTH} characters", field="token")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidSubscription("token must be printable ASCII without spaces", field="token")


def _check_icon(icon: str) -> None:
    _check_text("icon", icon, MAX_URL_LENGTH)
    is_emoji = len(icon) > 2 and icon.startswith(":") and icon.endswith(":")
    if icon and not is_emoji and not icon.startswith(("http://", "https://")):
        message = "icon must be an emoji, such as :rocket:, or the URL of an image"
        raise InvalidSubscription(message, field="icon")


def _check_text(field: str, text: str, max_length: int) -> None:
    if len(text) > max_length or not text.isprintable() or text != text.strip():
        message = f"{field} must be at most {max_length} printable characters, without spaces"
        raise InvalidSubscription(f"{message} at either end", field=field)
