"""Slack's messages: events and deployments in its blocks, within its published limits."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.slack.mrkdwn import (
    code,
    code_blocks,
    duration,
    escape,
    moment,
)
from deploylog.subscriptions.subscription import Endpoint

#: Slack takes 3,000 units in a section, 150 in a header, and 50 blocks; it cuts ``text`` at 40,000
#: and advises 4,000. All blocks together it refuses from some 13,000 on, which it does not say.
MAX_SECTION = 3000
MAX_HEADER = 150
MAX_BLOCKS = 50
MAX_TEXT = 4000

#: More events than this are a storm, which is told as a digest: Slack takes one message a second.
STORM = 10

#: Sections that a message of an event has at most: three are 9,000 units.
_PIECES = 3

#: Types and failures that a digest names.
_NAMED = 15

_NAME_LENGTH = 80

_EMOJI = re.compile(r":[a-z0-9_+'-]{1,100}(?:::skin-tone-[2-6])?:")

_SIGNS = {
    "running": ":hourglass_flowing_sand:",
    "completed": ":white_check_mark:",
    "failed": ":x:",
    "started": ":arrow_forward:",
}
_OTHER_SIGN = ":small_blue_diamond:"

Payload = dict[str, Any]
Block = dict[str, Any]


def event_payload(event: Event) -> Payload:
    """One event."""
    return _payload(
        ": ".join(filter(None, (f"{event.type} {_subject(event)}", _first_line(event)))),
        [
            _section(_title(event, most=200)),
            *_texts(event.message),
            _context(moment(event.time), code(event.scopes[0], most=1500)),
        ],
    )


def events_payload(events: Sequence[Event]) -> Payload:
    """One event whole, a few with the beginnings of what they say, many as a digest."""
    if len(events) == 1:
        return event_payload(events[0])
    return _few_payload(events) if len(events) <= STORM else digest_payload(events)


def _few_payload(events: Sequence[Event]) -> Payload:
    blocks: list[Block] = []
    for event in events:
        blocks.append(_section(_title(event, most=120)))
        blocks += map(_section, code_blocks(event.message or "", most=450, pieces=1))
    blocks.append(_context(f"{moment(events[0].time)} to {moment(events[-1].time)}"))
    return _payload(_summary(events), blocks)


def digest_payload(events: Sequence[Event]) -> Payload:
    """Many events in few words: how many of each type, when, and which failed."""
    first, last = events[0], events[-1]
    counts = Counter(event.type for event in events).most_common()
    lines = [f"{number} x {code(type, most=150)}" for type, number in counts[:_NAMED]]
    lines += _more(len(counts) - _NAMED, "types")
    summary = _summary(events)
    return _payload(
        summary,
        [
            _header(summary),
            _section("\n".join(lines)),
            *_failures(_failed(events)),
            _context(f"{moment(first.time)} to {moment(last.time)}"),
        ],
    )


def deployment_payload(deployment: Deployment, *, now: int) -> Payload:
    """A deployment as it stands ``now`` (ns since 1970)."""
    place = f" to {code(deployment.environment)}" if deployment.environment else ""
    elapsed = duration((deployment.ended or now) - deployment.started)
    state = {
        "running": f"running for {elapsed}",
        "completed": f"completed after {elapsed}",
        "failed": f"failed after {elapsed}",
    }[deployment.status]
    title = f"{_sign(deployment.status)} *Deployment of* {code(deployment.stack)}{place}: {state}"
    return _payload(
        f"Deployment of {deployment.stack}: {state}, {_counted(deployment.counts)}",
        [
            _section(f"{title}\n{_counted(deployment.counts)}"),
            *_texts(deployment.message),
            _context(*_about(deployment)),
        ],
    )


def with_sender(payload: Payload, target: Endpoint) -> Payload:
    """The payload as from the name and the icon that the target has."""
    sender: Payload = {}
    if name := target.username.strip():
        sender["username"] = escape(name, most=_NAME_LENGTH)
    if _EMOJI.fullmatch(target.icon):
        sender["icon_emoji"] = target.icon
    elif target.icon.startswith(("https://", "http://")):
        sender["icon_url"] = target.icon
    return {**payload, **sender}


def _about(deployment: Deployment) -> list[str]:
    ran = " with ".join(filter(None, (deployment.operation, deployment.tool)))
    by = f"by {code(deployment.actor)}" if deployment.actor else ""
    project = f"project {code(deployment.project)}"
    said = (code(ran) if ran else "", by, project, moment(deployment.started))
    return [each for each in said if each]


def _counted(counts: Counts) -> str:
    return (
        f"{counts.added} added, {counts.changed} changed, "
        f"{counts.destroyed} destroyed, {counts.failed} failed"
    )


def _title(event: Event, *, most: int) -> str:
    by = f" by {code(event.actor, most=most)}" if event.actor else ""
    took = f" after {duration(event.elapsed)}" if event.elapsed is not None else ""
    what = f"{code(event.type, most=most)} {code(_subject(event), most=most)}"
    return f"{_sign(event.phase)} {what}{by}{took}"


def _summary(events: Sequence[Event]) -> str:
    return f"{len(events)} events, {len(_failed(events))} failed"


def _failed(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.phase == "failed"]


def _failures(events: Sequence[Event]) -> list[Block]:
    """Names them; what each says is cut to a line."""
    lines = [_failure(event) for event in events[:_NAMED]]
    lines += _more(len(events) - _NAMED, "failures")
    # Each line is far below a section's limit; together they may not be.
    return [_section(line) for line in lines]


def _failure(event: Event) -> str:
    said = _first_line(event)
    return " ".join((":x:", code(_subject(event)), *([code(said, most=300)] if said else [])))


def _more(number: int, what: str) -> list[str]:
    return [f"and {number} more {what}"] if number > 0 else []


def _subject(event: Event) -> str:
    """What it happened to."""
    if event.resource is not None:
        return event.resource.address or f"{event.resource.type}.{event.resource.name}"
    return event.subject or event.scopes[0]


def _first_line(event: Event) -> str:
    return (event.message or "").strip().partition("\n")[0]


def _sign(phase: str) -> str:
    return _SIGNS.get(phase, _OTHER_SIGN)


def _payload(text: str, blocks: list[Block]) -> Payload:
    return {
        "text": escape(" ".join(text.split()), most=MAX_TEXT),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _texts(message: str | None) -> list[Block]:
    blocks = code_blocks(message or "", most=MAX_SECTION, pieces=_PIECES)
    return [_section(block) for block in blocks]


def _header(text: str) -> Block:
    """Of our own words only: nothing in it is escaped."""
    return {"type": "header", "text": {"type": "plain_text", "text": text}}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _context(*texts: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text} for text in texts]}
