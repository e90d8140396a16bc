"""Senders: what reaches a webhook and Slack, and what becomes of the events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from standardwebhooks import Webhook

import deploylog
from deploylog.deployments.catalog import Counts, Deployment
from deploylog.errors import InvalidEvent
from deploylog.events.event import Event
from deploylog.events.filters import EVERYTHING
from deploylog.events.scope import Scope, deployment_scope
from deploylog.subscriptions.delivery.egress import parse_networks
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.sender import Context
from deploylog.subscriptions.delivery.signing import make_secret, parse_secret
from deploylog.subscriptions.delivery.slack.bot import SlackBotSender
from deploylog.subscriptions.delivery.slack.webhook import SlackWebhookSender
from deploylog.subscriptions.delivery.transport import Limits, WebhookTransport, open_transport
from deploylog.subscriptions.delivery.webhook import WebhookSender
from deploylog.subscriptions.subscription import Endpoint, Message, Owner, Subscription
from support.clocks import Clock, WallClock
from support.factories import event, now
from support.fake_slack import CHANNEL, TOKEN, FakeSlack, fake_slack, problem_of
from support.receivers import hang, receiving, status
from support.waiting import until

SCOPE = deployment_scope("acme", "stack-1", "deployment-1")
OTHER = deployment_scope("acme", "stack-1", "deployment-2")


def subscription(**fields: Any) -> Subscription:
    made: dict[str, Any] = {
        "id": "subscription-1", "name": "ops", "kind": "webhook", "format": "cloudevents",
        "filter": EVERYTHING, "order": "strict", "state": "active", "reason": None,
        "owner": Owner(kind="key", id="key-1", name="alice"), "target": b"", "shown": "",
        "secrets": (), "created": 0, "checkpoint": 0,
    }  # fmt: skip
    return Subscription(**(made | fields))


def context(**fields: Any) -> Context:
    return Context(now=now(), **fields)


@pytest.fixture
async def poster() -> AsyncIterator[WebhookTransport]:
    async with open_transport(parse_networks("127.0.0.0/8"), Limits()) as poster:
        yield poster


# Webhooks


def webhook_sender(poster: WebhookTransport, clock: Callable[[], int] = now) -> WebhookSender:
    return WebhookSender(
        poster,
        {
            "cloudevents": lambda event: ("application/cloudevents+json", b'{"id": 1}'),
            "escape": lambda event: ("application/json", b'{"escape": 1}'),
        },
        lambda subscription, event: f"https://log.example/{subscription.id}/{event.id}",
        clock=clock,
    )


async def test_an_event_that_has_no_such_format_is_parked(poster: WebhookTransport):
    def render(event: Event) -> tuple[str, bytes]:
        raise InvalidEvent("it has no escape format")

    sender = WebhookSender(poster, {"escape": render}, lambda subscription, event: "")

    verdict = await sender.send(
        subscription(format="escape"), Endpoint(), (), [event()], context=context()
    )

    assert (verdict.result, verdict.error) == ("dead_letter", "it has no escape format")


async def test_a_webhook_is_signed_and_says_where_its_event_stands(poster: WebhookTransport):
    secret = make_secret()
    told = event(7)
    async with receiving() as receiver:
        verdict = await webhook_sender(poster).send(
            subscription(),
            Endpoint(url=f"{receiver.url}/hook"),
            [parse_secret(secret)],
            [told],
            context=context(previous="id-5", previous_position=5, gap=(2, 4)),
        )

    [(head, body)] = receiver.requests
    headers = headers_of(head)
    assert verdict.result == "delivered"
    assert Webhook(secret).verify(body, headers) == {"id": 1}
    assert {name: headers[name] for name in headers if name.startswith("deploylog")} == {
        "deploylog-subscription": "subscription-1",
        "deploylog-events-url": f"https://log.example/subscription-1/{told.id}",
        "deploylog-position": "7",
        "deploylog-previous-position": "5",
        "deploylog-previous-id": "id-5",
        "deploylog-gap": "3-4",
    }
    assert headers["webhook-id"] == told.id
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["user-agent"] == f"deploylog/{deploylog.__version__}"


async def test_the_first_event_of_a_lane_names_none_before_it(poster: WebhookTransport):
    async with receiving() as receiver:
        await webhook_sender(poster).send(
            subscription(format="escape"),
            Endpoint(url=receiver.url),
            [],
            [event()],
            context=context(),
        )

    [(head, body)] = receiver.requests
    headers = headers_of(head)
    assert body == b'{"escape": 1}'
    assert not headers.keys() & {
        "deploylog-previous-id", "deploylog-previous-position", "deploylog-gap",
        "webhook-signature",
    }  # fmt: skip


async def test_a_request_that_had_to_wait_is_signed_when_it_is_sent():
    secret, clock = make_secret(), WallClock(int(time.time()) - 3600)
    async with (
        receiving(hang) as receiver,
        open_transport(parse_networks("127.0.0.0/8"), Limits(concurrency=1)) as poster,
    ):
        sender = webhook_sender(poster, clock=clock)
        send = partial(
            sender.send,
            subscription(),
            Endpoint(url=receiver.url),
            [parse_secret(secret)],
            [event()],
        )
        first = asyncio.create_task(send(context=context()))
        second = asyncio.create_task(send(context=context()))
        await until(lambda: receiver.requests)
        clock.ns += 3600 * 10**9
        first.cancel()
        await second

    head, body = receiver.requests[1]
    assert Webhook(secret).verify(body, headers_of(head))


async def test_a_receiver_that_wants_no_more_is_told_apart(poster: WebhookTransport):
    async with receiving(status(410), status(500, body=b"broken"), status(302)) as receiver:
        verdicts = [
            await webhook_sender(poster).send(
                subscription(), Endpoint(url=receiver.url), [], [event()], context=context()
            )
            for _ in range(3)
        ]

    assert [verdict.result for verdict in verdicts] == ["disable", "retry", "retry"]
    assert verdicts[1].answer.body == b"broken"


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name
    }


def test_a_webhook_has_one_event_a_request(poster: WebhookTransport):
    sender = webhook_sender(poster)

    assert [sender.fold(waiting) for waiting in (1, 11, 5000)] == [1, 1, 1]


# Slack's incoming webhooks


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as slack:
        yield slack


async def incoming(
    poster: WebhookTransport, slack: FakeSlack, *events: Event, **fields: Any
) -> Outcome:
    target = Endpoint(url=slack.webhook_url, **fields)
    sender = SlackWebhookSender(poster)
    return await sender.send(subscription(kind="slack"), target, [], events, context=context())


async def test_a_slack_webhook_is_sent_a_message_an_event(
    poster: WebhookTransport, slack: FakeSlack
):
    verdict = await incoming(
        poster, slack, event(message="😀 <!here>"), username="Deploys", icon=":rocket:"
    )

    [message] = slack.roots
    assert verdict.result == "delivered"
    assert message["username"] == "Deploys"
    assert message["icon_emoji"] == ":rocket:"
    assert "icon_url" not in message


async def test_a_storm_is_one_message(poster: WebhookTransport, slack: FakeSlack):
    waiting = [event(number) for number in range(1, 40)]
    taken = SlackWebhookSender(poster).fold(len(waiting))

    verdict = await incoming(poster, slack, *waiting[:taken])

    [message] = slack.roots
    assert verdict.result == "delivered"
    assert message["text"] == "39 events, 0 failed"


def test_a_storm_begins_with_the_eleventh_event_and_has_an_end(poster: WebhookTransport):
    fold = SlackWebhookSender(poster).fold

    assert [fold(waiting) for waiting in (1, 10, 11, 500, 9999)] == [1, 1, 11, 500, 500]


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ("no_service", "disable"),
        ("channel_is_archived", "disable"),
        ("no_text", "dead_letter"),
        (503, "retry"),
    ],
)
async def test_what_a_slack_webhook_says_decides(
    poster: WebhookTransport, slack: FakeSlack, said: str | int, result: str
):
    slack.says = [said]

    verdict = await incoming(poster, slack, event())

    assert verdict.result == result
    assert str(said) in (verdict.error or "")


async def test_slack_is_left_alone_as_long_as_it_asks(poster: WebhookTransport):
    clock = Clock(5)
    async with fake_slack(clock=clock, is_strict=True) as slack:
        first = await incoming(poster, slack, event())
        second = await incoming(poster, slack, event())
        clock.go_on(1)
        third = await incoming(poster, slack, event())

    assert [v.result for v in (first, second, third)] == ["delivered", "retry", "delivered"]
    assert second.answer.retry_after == 1.0


# The bot


class Bot:
    """A bot, what the owner may see, and what the store keeps."""

    def __init__(self, poster: WebhookTransport, slack: FakeSlack) -> None:
        self.deployments: dict[Scope, Deployment] = {SCOPE: deployment(), OTHER: deployment()}
        self.stored: dict[Scope, Message] = {}
        self.poster, self.slack = poster, slack
        self.token = TOKEN
        self.channel = CHANNEL
        self.forget()

    def forget(self) -> None:
        """Begin anew, as another process would."""
        self.sender = SlackBotSender(
            self.poster, self.slack.api_url, self._deployment, self._message
        )

    async def _deployment(self, subscription: Subscription, scope: Scope) -> Deployment | None:
        return self.deployments.get(scope)

    async def _message(self, subscription: str, scope: Scope) -> Message | None:
        return self.stored.get(scope)

    async def send(self, *events: Event) -> Outcome:
        target = Endpoint(token=self.token, channel=self.channel)
        return await self.sender.send(
            subscription(kind="slack"), target, [], events, context=context()
        )

    def keep(self, verdict: Outcome) -> None:
        """As the store does, later."""
        self.stored |= {message.deployment: message for message in verdict.messages}


@pytest.fixture
def bot(poster: WebhookTransport, slack: FakeSlack) -> Bot:
    return Bot(poster, slack)


def deployment(**fields: Any) -> Deployment:
    begun: dict[str, Any] = {
        "id": "deployment-1", "project": "acme", "stack_id": "stack-1", "stack": "web",
        "status": "running", "started": now(), "ended": None, "tool": None, "operation": None,
        "environment": None, "actor": None, "message": None, "counts": Counts(), "scopes": (),
        "groups": (),
    }  # fmt: skip
    return Deployment(**(begun | fields))


def inside(position: int, type: str, scope: Scope = SCOPE, **fields: Any) -> Event:
    return event(position, type=type, scopes=(scope,), **fields)


def failure(position: int, name: str = "web", **fields: Any) -> Event:
    return inside(position, "resource.create.failed", resource=name, message="no", **fields)


def methods(slack: FakeSlack) -> list[str]:
    return [method for method, _ in slack.requests]


async def test_a_deployment_is_one_message_that_is_edited(bot: Bot, slack: FakeSlack):
    first = await bot.send(inside(1, "deployment.started"))
    bot.keep(first)
    bot.deployments[SCOPE] = deployment(status="completed", ended=now(), counts=Counts(added=3))

    second = await bot.send(
        inside(2, "resource.create.completed"), inside(3, "deployment.completed")
    )

    [message] = slack.roots
    [posted] = first.messages
    assert (posted.deployment, posted.channel) == (SCOPE, CHANNEL)
    assert (first.result, second.result, second.messages) == ("delivered", "delivered", ())
    assert "3 added" in message["text"]
    assert "completed" in message["text"]
    assert methods(slack) == ["chat.postMessage", "chat.update"]
    assert slack.replies == []


async def test_the_message_is_edited_before_the_store_knows_of_it(bot: Bot, slack: FakeSlack):
    await bot.send(inside(1, "deployment.started"))
    await bot.send(inside(2, "resource.create.completed"))

    assert len(slack.roots) == 1


async def test_a_message_in_a_channel_that_was_left_is_posted_anew(bot: Bot, slack: FakeSlack):
    await bot.send(inside(1, "deployment.started"))
    slack.says.append("channel_not_found")

    verdict = await bot.send(inside(2, "resource.create.completed"))

    assert verdict.result == "delivered"
    assert methods(slack)[-2:] == ["chat.update", "chat.postMessage"]


async def test_another_process_edits_the_same_message(bot: Bot, slack: FakeSlack):
    bot.keep(await bot.send(inside(1, "deployment.started")))
    bot.forget()

    await bot.send(inside(2, "resource.create.completed"))

    assert len(slack.roots) == 1


async def test_failures_are_replies_in_the_thread(bot: Bot, slack: FakeSlack):
    verdict = await bot.send(inside(1, "deployment.started"), failure(2), failure(3, "db"))
    await bot.send(failure(4, "cache"))

    [message] = verdict.messages
    first, second = slack.replies
    assert {first["thread_ts"], second["thread_ts"]} == {message.ts}
    assert first["text"] == "2 events, 2 failed"
    assert "cache" in second["text"]
    assert len(slack.roots) == 1


async def test_each_deployment_has_its_own_message(bot: Bot, slack: FakeSlack):
    verdict = await bot.send(
        inside(1, "deployment.started"),
        inside(2, "deployment.started", OTHER),
        inside(3, "resource.create.completed"),
    )

    assert {message.deployment for message in verdict.messages} == {SCOPE, OTHER}
    assert methods(slack) == ["chat.postMessage"] * 2


async def test_an_event_outside_a_deployment_is_a_plain_message(bot: Bot, slack: FakeSlack):
    verdict = await bot.send(event(1, type="build.finished"))

    [message] = slack.roots
    assert verdict.messages == ()
    assert message["text"].startswith("build.finished")


async def test_a_few_events_outside_a_deployment_are_one_message(bot: Bot, slack: FakeSlack):
    await bot.send(event(1, message="first"), event(2, message="second"))

    [message] = slack.roots
    assert "first" in str(message["blocks"])
    assert "second" in str(message["blocks"])


async def test_of_a_deployment_that_may_not_be_seen_the_events_are_plain(
    bot: Bot, slack: FakeSlack
):
    del bot.deployments[SCOPE]

    verdict = await bot.send(failure(1))

    assert verdict.messages == ()
    assert "thread_ts" not in slack.roots[0]


async def test_a_message_that_is_gone_is_posted_anew(bot: Bot, slack: FakeSlack):
    bot.keep(await bot.send(inside(1, "deployment.started")))
    slack.messages.clear()

    verdict = await bot.send(failure(2))
    bot.keep(verdict)
    await bot.send(inside(3, "deployment.failed"))

    [root], [reply] = slack.roots, slack.replies
    assert verdict.result == "delivered"
    assert reply["thread_ts"] == verdict.messages[0].ts
    assert methods(slack)[-1] == "chat.update"
    assert root is not None


async def test_a_thread_that_is_gone_is_no_reason_to_keep_quiet(bot: Bot, slack: FakeSlack):
    slack.says = ["", "thread_not_found"]

    verdict = await bot.send(failure(1))

    assert verdict.result == "delivered"
    assert len(slack.roots) == 2


async def test_what_was_posted_before_it_went_wrong_is_not_posted_again(bot: Bot, slack: FakeSlack):
    del bot.deployments[OTHER]
    events = (event(1), failure(2), failure(3, scope=OTHER))
    slack.says = ["", "", "", "ratelimited"]
    first = await bot.send(*events)

    second = await bot.send(*events)
    bot.keep(first)

    assert (first.result, first.error) == ("retry", "Slack says ratelimited")
    assert [message.deployment for message in first.messages] == [SCOPE]
    assert second.result == "delivered"
    assert len(slack.roots) == 3
    assert len(slack.replies) == 1


async def test_what_is_delivered_can_be_sent_again(bot: Bot, slack: FakeSlack):
    await bot.send(event(1))
    await bot.send(event(1))

    assert len(slack.roots) == 2


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (lambda bot: setattr(bot, "token", "xoxb-old"), "disable"),
        (lambda bot: setattr(bot, "channel", "C0"), "disable"),
        (lambda bot: bot.slack.says.append("is_archived"), "disable"),
        (lambda bot: bot.slack.says.append("msg_too_long"), "dead_letter"),
        (lambda bot: bot.slack.says.append("message_not_found"), "retry"),
        (lambda bot: bot.slack.says.append(500), "retry"),
    ],
)
async def test_what_slack_says_decides(bot: Bot, change: Callable[[Bot], None], result: str):
    change(bot)

    verdict = await bot.send(inside(1, "deployment.started"))

    assert verdict.result == result
    assert verdict.error
    assert TOKEN not in verdict.error


async def test_the_bot_waits_as_long_as_slack_asks(poster: WebhookTransport):
    clock = Clock(5)
    async with fake_slack(clock=clock, is_strict=True) as slack:
        bot = Bot(poster, slack)
        first = await bot.send(failure(1))
        clock.go_on(1)
        second = await bot.send(failure(1))

    assert (first.result, first.answer.retry_after) == ("retry", 1.0)
    assert len(first.messages) == 1
    assert second.result == "delivered"
    assert len(slack.roots) == len(slack.replies) == 1


async def test_a_long_answer_is_understood_and_kept_short(bot: Bot, slack: FakeSlack):
    verdict = await bot.send(event(1, message="x" * 50_000))

    assert verdict.result == "delivered"
    assert len(verdict.answer.body) == 1024


async def test_a_lane_of_any_length_is_one_request(bot: Bot):
    assert [bot.sender.fold(waiting) for waiting in (0, 1, 77, 5000)] == [1, 1, 77, 500]


async def test_the_fake_holds_to_the_limits(bot: Bot):
    def sections(*texts: str) -> list[dict[str, Any]]:
        return [{"type": "section", "text": {"type": "mrkdwn", "text": each}} for each in texts]

    long: Sequence[tuple[dict[str, Any], str]] = [
        ({}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "blocks": sections(*"x" * 51)}, "invalid_blocks"),
        ({"text": "x", "blocks": sections("x" * 3001)}, "invalid_blocks"),
        ({"text": "x", "blocks": sections("😀" * 1501)}, "invalid_blocks"),
        ({"text": "x", "blocks": sections("")}, "invalid_blocks"),
        ({"text": "x", "blocks": sections(*["x" * 3000] * 5)}, "msg_blocks_too_long"),
        ({"text": "x", "icon_emoji": "rocket"}, "invalid_arguments"),
        ({"text": "x", "icon_url": ":rocket:"}, "invalid_arguments"),
    ]

    assert [problem_of(payload) for payload, _ in long] == [word for _, word in long]
    assert problem_of({"text": "x", "blocks": sections("x" * 3000)}) is None
