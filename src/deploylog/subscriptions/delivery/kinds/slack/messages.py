"""Slack messages about events and deployments: blocks within Slack's limits."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.details import Details
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds.slack.mrkdwn import (
    code,
    code_blocks,
    escape,
    link,
    timestamp,
)
from deploylog.subscriptions.delivery.kinds.wording import (
    COMMIT_DIGITS,
    counts,
    duration,
    place,
    subject,
)
from deploylog.subscriptions.subscription import Endpoint

#: Slack accepts 3,000 units in a section, 150 in a header, and 50 blocks. It truncates ``text`` at
#: 40,000 and recommends 4,000. It also rejects blocks of about 13,000 units in total, which is
#: undocumented.
MAX_SECTION = 3000
MAX_HEADER = 150
MAX_BLOCKS = 50
MAX_TEXT = 4000

#: More events than this become a digest: Slack accepts one message per second.
STORM = 10

#: Sections with the message of one event; three have 9,000 units.
_MAX_SECTIONS = 3

#: Types, and failures, that a digest lists.
_MAX_LISTED = 15

_MAX_SENDER_LENGTH = 80

_EMOJI = re.compile(r":[a-z0-9_+'-]{1,100}(?:::skin-tone-[2-6])?:")

_ICONS = {
    "running": ":hourglass_flowing_sand:",
    "completed": ":white_check_mark:",
    "failed": ":x:",
    "started": ":arrow_forward:",
}
_OTHER_ICON = ":small_blue_diamond:"

Payload = dict[str, Any]
Block = dict[str, Any]


def event_payload(event: Event, deployment: Deployment | None = None) -> Payload:
    """The message about one event, which may be of a deployment."""
    return _payload(
        ": ".join(filter(None, (f"{event.type} {subject(event)}", _first_line(event)))),
        [
            _section(_title(event, limit=200)),
            *_message_sections(event.message),
            _context(timestamp(event.time), *_place_of(event, deployment)),
        ],
    )


def events_payload(events: Sequence[Event]) -> Payload:
    """The message about events: one in full, a few with excerpts, many as a digest."""
    if len(events) == 1:
        return event_payload(events[0])
    return _excerpts_payload(events) if len(events) <= STORM else digest_payload(events)


def _excerpts_payload(events: Sequence[Event]) -> Payload:
    blocks: list[Block] = []
    for event in events:
        blocks.append(_section(_title(event, limit=120)))
        blocks += map(_section, code_blocks(event.message or "", limit=450, max_blocks=1))
    blocks.append(_context(f"{timestamp(events[0].time)} to {timestamp(events[-1].time)}"))
    return _payload(_summary(events), blocks)


def digest_payload(events: Sequence[Event]) -> Payload:
    """A digest: how many events of each type, when, and which failed."""
    first, last = events[0], events[-1]
    types = Counter(event.type for event in events).most_common()
    lines = [f"{number} x {code(type, limit=150)}" for type, number in types[:_MAX_LISTED]]
    lines += _more(len(types) - _MAX_LISTED, "types")
    summary = _summary(events)
    return _payload(
        summary,
        [
            _header(summary),
            _section("\n".join(lines)),
            *_failures(_failed(events)),
            _context(f"{timestamp(first.time)} to {timestamp(last.time)}"),
        ],
    )


def deployment_payload(deployment: Deployment, *, now: int, url: str = "") -> Payload:
    """The state of a deployment at ``now`` (ns since 1970); ``url`` is its page, if it has one."""
    version = f" {code(deployment.details.version)}" if deployment.details.version else ""
    target = f" to {code(deployment.environment)}" if deployment.environment else ""
    elapsed = duration((deployment.ended or now) - deployment.started)
    state = {
        "running": f"running for {elapsed}",
        "completed": f"completed after {elapsed}",
        "failed": f"failed after {elapsed}",
    }[deployment.status]
    what = f"{code(deployment.stack)}{version}{target}"
    title = f"{_icon(deployment.status)} *Deployment of* {what}: {state}"
    named = " ".join(filter(None, (deployment.stack, deployment.details.version)))
    return _payload(
        f"Deployment of {named}: {state}, {counts(deployment.counts)}",
        [
            _section(f"{title}\n{counts(deployment.counts)}"),
            *_message_sections(deployment.message),
            _context(*_details(deployment, url)),
        ],
    )


def with_sender(payload: Payload, endpoint: Endpoint) -> Payload:
    """The payload with the username and the icon of the endpoint."""
    sender: Payload = {}
    if name := endpoint.username.strip():
        sender["username"] = escape(name, limit=_MAX_SENDER_LENGTH)
    if _EMOJI.fullmatch(endpoint.icon):
        sender["icon_emoji"] = endpoint.icon
    elif endpoint.icon.startswith(("https://", "http://")):
        sender["icon_url"] = endpoint.icon
    return {**payload, **sender}


def _place_of(event: Event, deployment: Deployment | None) -> list[str]:
    """Where an event happened, by names."""
    if deployment is None:
        return [code(place(event.scopes[0]), limit=1500)]
    target = f" to {code(deployment.environment)}" if deployment.environment else ""
    return [
        f"deployment of {code(deployment.stack)}{target}",
        f"project {code(deployment.project)}",
    ]


def _details(deployment: Deployment, url: str) -> list[str]:
    ran = " with ".join(filter(None, (deployment.operation, deployment.tool)))
    by = f"by {code(deployment.actor)}" if deployment.actor else ""
    project = f"project {code(deployment.project)}"
    parts = (code(ran) if ran else "", by, project, timestamp(deployment.started))
    carried = (*_carried(deployment.details), link(url, "deployment"))
    return [each for each in (*parts, *carried) if each]


def _carried(details: Details) -> list[str]:
    """Within the ten elements of a context, with those before."""
    approvers = ", ".join(details.approvers)
    return [
        f"commit {code(details.commits[0].sha[:COMMIT_DIGITS])}" if details.commits else "",
        f"approved by {code(approvers)}" if approvers else "",
        link(details.change_request, "change request"),
        link(details.url, "run"),
    ]


def _title(event: Event, *, limit: int) -> str:
    by = f" by {code(event.actor, limit=limit)}" if event.actor else ""
    took = f" after {duration(event.elapsed)}" if event.elapsed is not None else ""
    what = f"{code(event.type, limit=limit)} {code(subject(event), limit=limit)}"
    return f"{_icon(event.phase)} {what}{by}{took}"


def _summary(events: Sequence[Event]) -> str:
    return f"{len(events)} events, {len(_failed(events))} failed"


def _failed(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.phase == "failed"]


def _failures(events: Sequence[Event]) -> list[Block]:
    """List failures, each with the first line of its message."""
    lines = [_failure(event) for event in events[:_MAX_LISTED]]
    lines += _more(len(events) - _MAX_LISTED, "failures")
    # One line is far below the limit of a section; all lines together may exceed it.
    return [_section(line) for line in lines]


def _failure(event: Event) -> str:
    line = _first_line(event)
    return " ".join((":x:", code(subject(event)), *([code(line, limit=300)] if line else [])))


def _more(number: int, noun: str) -> list[str]:
    return [f"and {number} more {noun}"] if number > 0 else []


def _first_line(event: Event) -> str:
    return (event.message or "").strip().partition("\n")[0]


def _icon(phase: str) -> str:
    return _ICONS.get(phase, _OTHER_ICON)


def _payload(text: str, blocks: list[Block]) -> Payload:
    return {
        "text": escape(" ".join(text.split()), limit=MAX_TEXT),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _message_sections(message: str | None) -> list[Block]:
    blocks = code_blocks(message or "", limit=MAX_SECTION, max_blocks=_MAX_SECTIONS)
    return [_section(block) for block in blocks]


def _header(text: str) -> Block:
    """A header with our own text only: nothing in it is escaped."""
    return {"type": "header", "text": {"type": "plain_text", "text": text}}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _context(*texts: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text} for text in texts]}
