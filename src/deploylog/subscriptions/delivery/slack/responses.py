"""Slack's answers: what each means for the events of a request."""

from typing import Literal

import msgspec

from deploylog.subscriptions.delivery.outcome import Outcome, Response

#: Units of Slack's word for what is wrong that are shown.
_WORD_LENGTH = 80

#: What Slack's methods say of a token or a channel that will not do again.
_DISABLING = frozenset(
    {
        "access_denied", "account_inactive", "channel_not_found", "channel_is_archived",
        "ekm_access_denied", "invalid_auth", "is_archived", "is_inactive", "missing_scope",
        "no_permission", "not_allowed_token_type", "not_authed", "not_in_channel",
        "org_login_required", "restricted_action", "restricted_action_read_only_channel",
        "team_access_not_granted", "token_expired", "token_revoked",
    }
)  # fmt: skip

#: Of a message that is not there any more, or may not be edited.
_GONE = frozenset(
    {
        "cant_update_message", "edit_window_closed", "message_not_found",
        "message_not_owned_by_app", "thread_not_found", "cannot_reply_to_message",
    }
)  # fmt: skip

#: Of what was posted: it will not be taken another time, either.
_DEAD_LETTERING = frozenset(
    {
        "invalid_arguments", "invalid_attachments", "invalid_blocks", "invalid_blocks_format",
        "markdown_text_conflict", "msg_blocks_too_long", "msg_too_long", "no_text",
    }
)  # fmt: skip


class SlackOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one of Slack's methods said."""

    #: ``anew``: the message that was to be edited, or the thread, is not there; post another.
    result: Literal["delivered", "retry", "dead_letter", "disable", "anew"]
    error: str | None = None
    #: Slack's names of the channel and of the message.
    channel: str = ""
    ts: str = ""


class _Body(msgspec.Struct):
    ok: bool
    error: str = ""
    channel: str = ""
    ts: str = ""


def classify_webhook_response(answer: Response) -> Outcome:
    """Of a Slack incoming webhook, which says in a word of plain text what is wrong."""
    status = answer.status
    if status is None:
        return Outcome(result="retry", answer=answer, error=answer.error)
    if 200 <= status < 300:
        return Outcome(result="delivered", answer=answer)
    error = f"Slack answers {status}{_word(answer.body)}"
    if status in (404, 410):
        return Outcome(result="disable", answer=answer, error=error)
    if 400 <= status < 500 and status not in (408, 429):
        return Outcome(result="dead_letter", answer=answer, error=error)
    return Outcome(result="retry", answer=answer, error=error)


def classify_api_response(answer: Response) -> SlackOutcome:
    """Of ``chat.postMessage`` or ``chat.update``. A word that is not known here is one to retry."""
    if answer.status is None:
        return SlackOutcome(result="retry", error=answer.error)
    if answer.status != 200:
        return SlackOutcome(result="retry", error=f"Slack answers {answer.status}")
    try:
        body = msgspec.json.decode(answer.body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return SlackOutcome(result="retry", error="Slack's answer is not one of its API")
    if body.ok:
        return SlackOutcome(result="delivered", channel=body.channel, ts=body.ts)
    return SlackOutcome(
        result=_meaning(body.error), error=f"Slack says {_shown(body.error) or 'no'}"
    )


def _meaning(word: str) -> Literal["retry", "dead_letter", "disable", "anew"]:
    if word in _DISABLING:
        return "disable"
    if word in _GONE:
        return "anew"
    return "dead_letter" if word in _DEAD_LETTERING else "retry"


def _word(body: bytes) -> str:
    word = _shown(body.decode(errors="replace"))
    return f": {word}" if word else ""


def _shown(word: str) -> str:
    one_line = " ".join(word.split())
    return "".join(each if each.isprintable() else "?" for each in one_line[:_WORD_LENGTH])
