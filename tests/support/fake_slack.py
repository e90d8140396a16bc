"""A Slack server: its limits, its errors, its rate limit, and the requests that it got."""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

TOKEN = "xoxb-good"
CHANNEL = "C024BE91L"
WEBHOOK = "/services/T000/B000/secret"

_EMOJI = re.compile(r":[^:\s]+:(?::skin-tone-\d:)?")

#: Escapes, links and dates; anything else with one of the three characters is not escaped.
_ESCAPED = re.compile(r"&(?:amp|lt|gt);|<(?:https?://|!date\^)[^<>|]+(?:\|[^<>]*)?>")

#: More units than this in all blocks are msg_blocks_too_long. Slack does not document it.
_MAX_BLOCK_UNITS = 13_000


def problem_of(payload: Any) -> str | None:
    """Slack's error code for a message, or ``None`` if Slack accepts it."""
    if not isinstance(payload, dict):
        return "invalid_payload"
    text, blocks = payload.get("text"), payload.get("blocks", [])
    if not isinstance(text, str) or not text:
        return "no_text"
    if _units(text) > 40_000:
        return "msg_too_long"
    if not isinstance(blocks, list) or len(blocks) > 50:
        return "invalid_blocks"
    if any(not _is_good_block(block) for block in blocks):
        return "invalid_blocks"
    if sum(_units(each) for block in blocks for each in _texts(block)) > _MAX_BLOCK_UNITS:
        return "msg_blocks_too_long"
    return None if _has_good_sender(payload) else "invalid_arguments"


def unescaped(payload: dict[str, Any]) -> list[str]:
    """The texts that could contain a mention or a link."""
    texts = [payload["text"], *(t for block in payload["blocks"] for t in _texts(block))]
    return [text for text in texts if re.search("[&<>]", _ESCAPED.sub("", text))]


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _texts(block: dict[str, Any]) -> list[str]:
    objects = block["elements"] if block["type"] == "context" else [block["text"]]
    return [each["text"] for each in objects]


def _is_good_block(block: Any) -> bool:
    match block:
        case {"type": "section", "text": {"type": "mrkdwn" | "plain_text", "text": str(text)}}:
            return 1 <= _units(text) <= 3000
        case {"type": "header", "text": {"type": "plain_text", "text": str(text)}}:
            return 1 <= _units(text) <= 150
        case {"type": "context", "elements": [*elements]}:
            return 1 <= len(elements) <= 10 and all(map(_is_good_element, elements))
    return False


def _is_good_element(element: Any) -> bool:
    match element:
        case {"type": "mrkdwn" | "plain_text", "text": str(text)}:
            return 1 <= _units(text) <= 3000
    return False


def _has_good_sender(payload: dict[str, Any]) -> bool:
    emoji, url = payload.get("icon_emoji"), payload.get("icon_url")
    return (
        (emoji is None or bool(_EMOJI.fullmatch(emoji)))
        and (url is None or url.startswith(("http://", "https://")))
        and not (emoji and url)
        and ("username" not in payload or 1 <= _units(payload["username"]) <= 80)
    )


class FakeSlack:
    """The messages of one channel, and scripted errors."""

    def __init__(self, *, clock: Callable[[], float], is_strict: bool) -> None:
        self.url = ""
        #: Every message by its ts, in its current version.
        self.messages: dict[str, dict[str, Any]] = {}
        #: The method, or ``webhook``, and the payload of each request.
        self.requests: list[tuple[str, dict[str, Any]]] = []
        #: Error codes or HTTP statuses for the next requests; an empty code is a success.
        self.errors: list[str | int] = []
        self._clock = clock
        self._is_strict = is_strict
        self._posted: dict[str, float] = {}
        self._number = 0

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def webhook_url(self) -> str:
        return f"{self.url}{WEBHOOK}"

    @property
    def roots(self) -> list[dict[str, Any]]:
        """The messages in the channel, without those in threads."""
        return [each for each in self.messages.values() if "thread_ts" not in each]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [each for each in self.messages.values() if "thread_ts" in each]

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post(WEBHOOK, self._webhook)
        application.router.add_post("/api/chat.postMessage", self._post_message)
        application.router.add_post("/api/chat.update", self._update)
        return application

    async def _webhook(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.requests.append(("webhook", payload))
        if self._is_too_soon(WEBHOOK):
            return web.Response(status=429, text="ratelimited", headers={"Retry-After": "1"})
        if self.errors:
            error = self.errors.pop(0)
            statuses = {"no_service": 404, "channel_is_archived": 410, "action_prohibited": 403}
            status = error if isinstance(error, int) else statuses.get(error, 400)
            return web.Response(status=status, text=str(error))
        if problem := problem_of(payload):
            return web.Response(status=400, text=problem)
        self._store(payload)
        return web.Response(text="ok")

    async def _post_message(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.requests.append(("chat.postMessage", payload))
        channel = payload.get("channel")
        if refusal := self._refusal(request, payload, is_post=True):
            return refusal
        if "thread_ts" in payload and payload["thread_ts"] not in self.messages:
            return _error("thread_not_found")
        ts = self._store(payload)
        # The longest part of the response comes first, as it may.
        body = {"message": payload, "ok": True, "channel": channel, "ts": ts}
        return web.json_response(body)

    async def _update(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.requests.append(("chat.update", payload))
        if refusal := self._refusal(request, payload, is_post=False):
            return refusal
        ts = payload.get("ts")
        if ts not in self.messages:
            return _error("message_not_found")
        self.messages[ts] |= payload
        return web.json_response({"ok": True, "channel": CHANNEL, "ts": ts})

    def _refusal(
        self, request: web.Request, payload: dict[str, Any], *, is_post: bool
    ) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error("invalid_auth")
        if payload.get("channel") != CHANNEL:
            return _error("channel_not_found")
        if is_post and self._is_too_soon(CHANNEL):
            body = {"ok": False, "error": "ratelimited"}
            return web.json_response(body, status=429, headers={"Retry-After": "1"})
        if self.errors:
            error = self.errors.pop(0)
            if isinstance(error, int):
                return web.Response(status=error)
            return None if error == "" else _error(error)
        problem = problem_of(payload)
        return _error(problem) if problem else None

    def _is_too_soon(self, channel: str) -> bool:
        """Whether a strict channel got a message less than a second ago."""
        now = self._clock()
        if self._is_strict and now - self._posted.get(channel, -1.0) < 1.0:
            return True
        self._posted[channel] = now
        return False

    def _store(self, payload: dict[str, Any]) -> str:
        self._number += 1
        ts = f"1763700000.{self._number:06}"
        self.messages[ts] = payload
        return ts


def _error(code: str) -> web.Response:
    return web.json_response({"ok": False, "error": code})


@asynccontextmanager
async def fake_slack(
    *, clock: Callable[[], float] = time.monotonic, is_strict: bool = False
) -> AsyncIterator[FakeSlack]:
    """Run a Slack server; ``is_strict`` limits a channel to one message per second."""
    slack = FakeSlack(clock=clock, is_strict=is_strict)
    runner = web.AppRunner(slack.application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        slack.url = f"http://{host}:{port}"
        yield slack
    finally:
        await runner.cleanup()
