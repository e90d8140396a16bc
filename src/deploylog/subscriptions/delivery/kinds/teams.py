"""Microsoft Teams: an adaptive card, posted to the webhook of a workflow."""

from typing import Any

import msgspec

from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, Notice
from deploylog.subscriptions.delivery.kinds.notice_sender import notice_senders
from deploylog.subscriptions.delivery.kinds.wording import facts, headline, links
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response, classify_status
from deploylog.subscriptions.delivery.sender import JSON_HEADERS
from deploylog.subscriptions.subscription import Endpoint

#: Teams accepts messages of about 28 KB, and shows cards up to this version everywhere.
_MAX_TEXT = 4000
_CARD_VERSION = "1.4"

_CARD = "application/vnd.microsoft.card.adaptive"

_COLORS = {"completed": "Good", "failed": "Attention"}

#: The workflow is switched off or deleted, or its URL was replaced.
_GONE = frozenset({401, 403, 404, 410})
_REFUSED = frozenset({400, 413, 422})


def render(endpoint: Endpoint, notice: Notice) -> list[Request]:
    """The message about an event: one card."""
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": _CARD_VERSION,
        "body": _body(notice),
        "actions": [
            {"type": "Action.OpenUrl", "title": title, "url": url} for title, url in links(notice)
        ],
    }
    attachment = {"contentType": _CARD, "contentUrl": None, "content": card}
    message = {"type": "message", "attachments": [attachment]}
    return [Request(url=endpoint.url, headers=JSON_HEADERS, body=msgspec.json.encode(message))]


def _body(notice: Notice) -> list[dict[str, Any]]:
    color = _COLORS.get(notice.deployment.status) if notice.deployment is not None else None
    title = _text(headline(notice), weight="Bolder", size="Medium")
    if color is not None:
        title["color"] = color
    rows = [{"title": name, "value": _escaped(text[:256])} for name, text in facts(notice)]
    message = (notice.deployment or notice.event).message
    return [
        title,
        {"type": "FactSet", "facts": rows},
        *([_text(message, fontType="Monospace")] if message else []),
    ]


def _text(text: str, **style: str) -> dict[str, Any]:
    shortened = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
    return {"type": "TextBlock", "text": _escaped(shortened), "wrap": True, **style}


def _escaped(text: str) -> str:
    """Text that Teams shows as it is: cards have a subset of Markdown, with links."""
    return "".join(f"\\{each}" if each in r"\*_[]" else each for each in text)


def classify(response: Response) -> Outcome:
    """Classify the response of a workflow, which is 202 when it accepts the card."""
    return classify_status(response, "Teams", disabling=_GONE, refusing=_REFUSED)


TEAMS = EndpointKind(
    name="teams",
    title="Cards in Microsoft Teams",
    required=("url",),
    default_types=lambda endpoint: tuple(DEPLOYMENT_ENDS),
    open_senders=notice_senders(render, classify),
)
