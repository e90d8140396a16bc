"""Targets: what one must hold, and what may be shown of it."""

from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.subscription import Endpoint, EndpointPatch, Kind, Order

#: Gives the address as it will be used; raises InvalidSubscription for one that will not be.
CheckUrl = Callable[[str], str]

MAX_URL_LENGTH = 2048
MAX_TOKEN_LENGTH = 512
#: Slack's bounds for a channel's name; a sender's name and picture have ours.
MAX_CHANNEL_LENGTH = 80
MAX_DISPLAY_LENGTH = 255

_SLACK_ONLY = ("token", "channel", "username", "icon")


def apply_patch(
    kind: Kind, before: Endpoint, patch: EndpointPatch, *, check_url: CheckUrl
) -> Endpoint:
    """The target that ``before`` becomes; raises InvalidSubscription, naming the field."""
    said = {name: text for name, text in msgspec.structs.asdict(patch).items() if text is not None}
    if said.get("url") and said.get("token"):
        raise InvalidSubscription("give either url, or token and channel", field="token")
    if said.get("url"):
        said = {"token": "", "channel": "", **said}
    elif said.get("token"):
        said = {"url": "", **said}
    target = msgspec.structs.replace(before, **said)
    if kind == "webhook":
        return _webhook(target, check_url)
    return _slack(target, check_url)


def default_order(target: Endpoint) -> Order:
    """By lane for a Slack bot, which has a message for each deployment; else strict."""
    return "per_deployment" if target.token else "strict"


def redact(kind: Kind, target: Endpoint) -> str:
    """What anybody who sees the subscription may know of its target."""
    if kind == "slack" and target.channel:
        return f"slack #{target.channel.lstrip('#')}"
    return redact_url(target.url)


def redact_url(url: str) -> str:
    """The address up to its path: what follows may be a secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{place}{port}/…"


def _webhook(target: Endpoint, check_url: CheckUrl) -> Endpoint:
    for field in _SLACK_ONLY:
        if getattr(target, field):
            raise InvalidSubscription(f"only Slack has a {field}", field=field)
    return Endpoint(url=_checked_url(target.url, check_url))


def _slack(target: Endpoint, check_url: CheckUrl) -> Endpoint:
    _check_icon(target.icon)
    _check_text("username", target.username, MAX_DISPLAY_LENGTH)
    _check_text("channel", target.channel, MAX_CHANNEL_LENGTH)
    if not target.token:
        if target.channel:
            raise InvalidSubscription("a channel needs a token", field="channel")
        return msgspec.structs.replace(target, url=_checked_url(target.url, check_url))
    _check_token(target.token)
    if not target.channel:
        raise InvalidSubscription("a token needs a channel", field="channel")
    return target


def _checked_url(url: str, check_url: CheckUrl) -> str:
    if not url:
        raise InvalidSubscription("url is missing", field="url")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidSubscription(f"url has at most {MAX_URL_LENGTH} characters", field="url")
    return check_url(url)


def _check_token(token: str) -> None:
    """It stands in a header."""
    if len(token) > MAX_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        raise InvalidSubscription("token is too long, or holds other than ASCII", field="token")
    if " " in token:
        raise InvalidSubscription("token holds blanks", field="token")


def _check_icon(icon: str) -> None:
    _check_text("icon", icon, MAX_URL_LENGTH)
    is_emoji = len(icon) > 2 and icon.startswith(":") and icon.endswith(":")
    if icon and not is_emoji and not icon.startswith(("http://", "https://")):
        message = "icon is an emoji, such as :rocket:, or the address of a picture"
        raise InvalidSubscription(message, field="icon")


def _check_text(field: str, text: str, most: int) -> None:
    if len(text) > most or not text.isprintable() or text != text.strip():
        message = f"{field} has at most {most} characters, no control characters, and no blanks"
        raise InvalidSubscription(f"{message} at its ends", field=field)
