"""Slack's responses, and what each means for the events of a request."""

from typing import Literal

import msgspec

from deploylog.subscriptions.delivery.outcome import Outcome, Response, classify_common

#: Characters of Slack's error code that are shown.
_MAX_CODE_LENGTH = 80

#: Error codes for a token or a channel that no longer works.
_DISABLING = frozenset(
    {
        "access_denied", "account_inactive", "channel_not_found", "channel_is_archived",
        "ekm_access_denied", "invalid_auth", "is_archived", "is_inactive", "missing_scope",
        "no_permission", "not_allowed_token_type", "not_authed", "not_in_channel",
        "org_login_required", "restricted_action", "restricted_action_read_only_channel",
        "team_access_not_granted", "token_expired", "token_revoked",
    }
)  # fmt: skip

#: Error codes for a message that is gone, or can no longer be edited.
_GONE = frozenset(
    {
        "cant_update_message", "edit_window_closed", "message_not_found",
        "message_not_owned_by_app", "thread_not_found", "cannot_reply_to_message",
    }
)  # fmt: skip

#: Error codes for a message that Slack will never accept.
_DEAD_LETTERING = frozenset(
    {
        "invalid_arguments", "invalid_attachments", "invalid_blocks", "invalid_blocks_format",
        "markdown_text_conflict", "msg_blocks_too_long", "msg_too_long", "no_text",
    }
)  # fmt: skip


class SlackOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one call of a Slack method."""

    #: ``repost``: the message to edit, or its thread, is gone; post a new one.
    result: Literal["delivered", "retry", "dead_letter", "disable", "repost"]
    error: str | None = None
    #: Slack's ids of the channel and of the message.
    channel: str = ""
    ts: str = ""


class _Body(msgspec.Struct):
    ok: bool
    error: str = ""
    channel: str = ""
    ts: str = ""


def classify_webhook_response(response: Response) -> Outcome:
    """Classify the response of an incoming webhook, which has an error code as plain text."""
    if outcome := classify_common(response):
        return outcome
    status = response.status or 0
    error = f"Slack responded with {status}{_suffix(response.body)}"
    if status in (404, 410):
        return Outcome(result="disable", response=response, error=error)
    if 400 <= status < 500 and status not in (408, 429):
        return Outcome(result="dead_letter", response=response, error=error)
    return Outcome(result="retry", response=response, error=error, is_paced=True)


def classify_api_response(response: Response) -> SlackOutcome:
    """Classify the response of ``chat.postMessage`` or ``chat.update``.

    An unknown error code means to retry.
    """
    if response.status is None:
        return SlackOutcome(result="retry", error=response.error)
    if response.status != 200:
        return SlackOutcome(result="retry", error=f"Slack responded with {response.status}")
    try:
        body = msgspec.json.decode(response.body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return SlackOutcome(result="retry", error="Slack's response is not valid")
    if body.ok:
        return SlackOutcome(result="delivered", channel=body.channel, ts=body.ts)
    return SlackOutcome(
        result=_result_of(body.error), error=f"Slack error: {_printable(body.error) or 'unknown'}"
    )


def _result_of(code: str) -> Literal["retry", "dead_letter", "disable", "repost"]:
    if code in _DISABLING:
        return "disable"
    if code in _GONE:
        return "repost"
    return "dead_letter" if code in _DEAD_LETTERING else "retry"


def _suffix(body: bytes) -> str:
    code = _printable(body.decode(errors="replace"))
    return f": {code}" if code else ""


def _printable(text: str) -> str:
    one_line = " ".join(text.split())
    return "".join(each if each.isprintable() else "?" for each in one_line[:_MAX_CODE_LENGTH])
