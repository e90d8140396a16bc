"""The senders: what webhooks and Slack get, and the outcome."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from msgspec import structs
from standardwebhooks import Webhook

import deploylog
from deploylog.auth.standard_webhooks import make_secret, parse_secret
from deploylog.deployments.catalog import Counts, Deployment
from deploylog.errors import InvalidEvent
from deploylog.events.event import Event
from deploylog.events.scope import Scope, deployment_scope
from deploylog.subscriptions.delivery.egress import parse_networks
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.slack.bot import SlackBotSender, bot_batch_size
from deploylog.subscriptions.delivery.kinds.slack.webhook import (
    SlackWebhookSender,
    webhook_batch_size,
)
from deploylog.subscriptions.delivery.kinds.webhook import WebhookSender
from deploylog.subscriptions.delivery.lanes import EventRef
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.transport import (
    Limits,
    WebhookTransport,
    open_webhook_transport,
)
from deploylog.subscriptions.subscription import Endpoint, Message, Subscription
from support.clocks import Clock, WallClock
from support.factories import deployment, event, now, subscription
from support.fake_slack import CHANNEL, TOKEN, FakeSlack, fake_slack, problem_of
from support.receivers import hang, receiving, status
from support.sinks import Owner, ended_deployment, ids_in, lifecycle_event, outgoing, sender_parts
from support.subscribers import headers_of
from support.waiting import until

SCOPE = deployment_scope("acme", "stack-1", "deployment-1")
OTHER = deployment_scope("acme", "stack-1", "deployment-2")


@pytest.fixture
async def transport() -> AsyncIterator[WebhookTransport]:
    async with open_webhook_transport(parse_networks("127.0.0.0/8"), Limits()) as transport:
        yield transport


# Webhooks


def webhook_sender(transport: WebhookTransport, clock: Callable[[], int] = now) -> WebhookSender:
    parts = sender_parts(
        transport,
        formats={
            "cloudevents": lambda event: ("application/cloudevents+json", b'{"id": 1}'),
            "escape": lambda event: ("application/json", b'{"escape": 1}'),
        },
        events_url=lambda subscription, event: f"https://log.example/{subscription.id}/{event.id}",
        clock=clock,
    )
    return WebhookSender(parts)


async def test_an_event_without_the_format_is_dead_lettered(transport: WebhookTransport):
    def render(event: Event) -> tuple[str, bytes]:
        raise InvalidEvent("it has no escape format")

    sender = WebhookSender(sender_parts(transport, formats={"escape": render}))

    outcome = await sender.send(
        outgoing("webhook", Endpoint(), event(), subscription=subscription(format="escape"))
    )

    assert (outcome.result, outcome.error) == ("dead_letter", "it has no escape format")


async def test_a_webhook_is_signed_and_has_the_place_of_its_event(transport: WebhookTransport):
    secret = make_secret()
    sent = event(7)
    async with receiving() as receiver:
        outcome = await webhook_sender(transport).send(
            outgoing(
                "webhook",
                Endpoint(url=f"{receiver.url}/hook"),
                sent,
                secrets=(parse_secret(secret),),
                previous=EventRef(5, "id-5"),
                gap=(2, 4),
            )
        )

    [(head, body)] = receiver.requests
    headers = headers_of(head)
    assert outcome.result == "delivered"
    assert Webhook(secret).verify(body, headers) == {"id": 1}
    assert {name: headers[name] for name in headers if name.startswith("deploylog")} == {
        "deploylog-subscription": "subscription-1",
        "deploylog-events-url": f"https://log.example/subscription-1/{sent.id}",
        "deploylog-position": "7",
        "deploylog-previous-position": "5",
        "deploylog-previous-id": "id-5",
        "deploylog-gap": "3-4",
    }
    assert headers["webhook-id"] == sent.id
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["user-agent"] == f"deploylog/{deploylog.__version__}"


async def test_the_first_event_of_a_lane_has_no_previous_one(transport: WebhookTransport):
    async with receiving() as receiver:
        endpoint = Endpoint(url=receiver.url)
        await webhook_sender(transport).send(
            outgoing("webhook", endpoint, event(), subscription=subscription(format="escape"))
        )

    [(head, body)] = receiver.requests
    headers = headers_of(head)
    assert body == b'{"escape": 1}'
    assert not headers.keys() & {
        "deploylog-previous-id", "deploylog-previous-position", "deploylog-gap",
        "webhook-signature",
    }  # fmt: skip


async def test_an_event_is_rendered_once_for_all_subscriptions_of_a_format(
    transport: WebhookTransport,
):
    rendered: list[Event] = []

    def render(event: Event) -> tuple[str, bytes]:
        rendered.append(event)
        return "text/plain", (event.message or "").encode()

    formats = {"cloudevents": render, "escape": render}
    sender = WebhookSender(sender_parts(transport, formats=formats))
    first = event(7, message="a")
    again, other = structs.replace(first), structs.replace(first, message="b")
    async with receiving() as receiver:
        for format, sent in (
            ("cloudevents", first), ("cloudevents", again), ("escape", first),
            # An id alone does not say which event it is.
            ("cloudevents", other),
        ):  # fmt: skip
            endpoint, of_format = Endpoint(url=receiver.url), subscription(format=format)
            await sender.send(outgoing("webhook", endpoint, sent, subscription=of_format))

    assert [body for _, body in receiver.requests] == [b"a", b"a", b"a", b"b"]
    assert rendered == [first, first, other]


async def test_a_request_is_signed_after_its_wait():
    secret, clock = make_secret(), WallClock(int(time.time()) - 3600)
    async with (
        receiving(hang) as receiver,
        open_webhook_transport(parse_networks("127.0.0.0/8"), Limits(concurrency=1)) as transport,
    ):
        sender = webhook_sender(transport, clock=clock)
        secrets = (parse_secret(secret),)
        batch = outgoing("webhook", Endpoint(url=receiver.url), event(), secrets=secrets)
        first = asyncio.create_task(sender.send(batch))
        second = asyncio.create_task(sender.send(batch))
        await until(lambda: receiver.requests)
        clock.ns += 3600 * 10**9
        first.cancel()
        await second

    head, body = receiver.requests[1]
    assert Webhook(secret).verify(body, headers_of(head))


async def test_a_410_disables_and_other_errors_are_retried(transport: WebhookTransport):
    async with receiving(status(410), status(500, body=b"broken"), status(302)) as receiver:
        outcomes = [
            await webhook_sender(transport).send(
                outgoing("webhook", Endpoint(url=receiver.url), event())
            )
            for _ in range(3)
        ]

    assert [outcome.result for outcome in outcomes] == ["disable", "retry", "retry"]
    assert outcomes[1].response.body == b"broken"


def test_a_webhook_has_one_event_per_request(transport: WebhookTransport):
    sender = KINDS["webhook"].open_senders(sender_parts(transport))(Endpoint())

    assert [sender.batch_size(waiting) for waiting in (1, 11, 5000)] == [1, 1, 1]


# Slack's incoming webhooks


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as slack:
        yield slack


async def incoming(
    transport: WebhookTransport, slack: FakeSlack, *events: Event, **fields: Any
) -> Outcome:
    endpoint = Endpoint(url=slack.webhook_url, **fields)
    sender = SlackWebhookSender(sender_parts(transport))
    return await sender.send(outgoing("slack", endpoint, *events))


async def test_a_slack_webhook_gets_one_message_per_event(
    transport: WebhookTransport, slack: FakeSlack
):
    outcome = await incoming(
        transport, slack, event(message="😀 <!here>"), username="Deploys", icon=":rocket:"
    )

    [message] = slack.roots
    assert outcome.result == "delivered"
    assert message["username"] == "Deploys"
    assert message["icon_emoji"] == ":rocket:"
    assert "icon_url" not in message


async def test_the_end_of_a_deployment_is_one_message_with_names_and_no_ids(
    transport: WebhookTransport, slack: FakeSlack
):
    sender = SlackWebhookSender(sender_parts(transport, Owner(ended_deployment())))

    await sender.send(outgoing("slack", Endpoint(url=slack.webhook_url), lifecycle_event()))

    [message] = slack.roots
    shown = f"{message['text']} {message['blocks']}"
    for fact in ("web", "1.4.2", "prod", "completed after 42 s", "4f2a9c1e7b3d", "3 added", "ann"):
        assert fact in shown
    assert "https://ci.example/run/7|run" in shown
    assert ids_in(re.sub(r"<http[^|]*", "", shown)) == []


async def test_an_event_of_a_deployment_names_its_stack_and_no_ids(
    transport: WebhookTransport, slack: FakeSlack
):
    sender = SlackWebhookSender(sender_parts(transport, Owner(ended_deployment())))

    failed = lifecycle_event("resource.create.failed")
    await sender.send(outgoing("slack", Endpoint(url=slack.webhook_url), failed))

    [message] = slack.roots
    shown = str(message["blocks"])
    assert "deployment of `web` to `prod`" in shown
    assert ids_in(shown) == []


async def test_a_storm_becomes_one_message(transport: WebhookTransport, slack: FakeSlack):
    waiting = [event(number) for number in range(1, 40)]
    size = webhook_batch_size(len(waiting))

    outcome = await incoming(transport, slack, *waiting[:size])

    [message] = slack.roots
    assert outcome.result == "delivered"
    assert message["text"] == "39 events, 0 failed"


def test_a_digest_has_eleven_to_five_hundred_events():
    sizes = [webhook_batch_size(waiting) for waiting in (1, 10, 11, 500, 9999)]

    assert sizes == [1, 1, 11, 500, 500]


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("no_service", "disable"),
        ("channel_is_archived", "disable"),
        ("no_text", "dead_letter"),
        (503, "retry"),
    ],
)
async def test_the_error_code_of_a_slack_webhook_decides(
    transport: WebhookTransport, slack: FakeSlack, code: str | int, result: str
):
    slack.errors = [code]

    outcome = await incoming(transport, slack, event())

    assert outcome.result == result
    assert str(code) in (outcome.error or "")


async def test_the_retry_after_of_slack_is_reported(transport: WebhookTransport):
    clock = Clock(5)
    async with fake_slack(clock=clock, is_strict=True) as slack:
        first = await incoming(transport, slack, event())
        second = await incoming(transport, slack, event())
        clock.advance(1)
        third = await incoming(transport, slack, event())

    assert [v.result for v in (first, second, third)] == ["delivered", "retry", "delivered"]
    assert second.response.retry_after == 1.0


# The bot


class Bot:
    """A bot, the deployments that its owner may see, and the stored messages."""

    def __init__(self, transport: WebhookTransport, slack: FakeSlack) -> None:
        self.deployments: dict[Scope, Deployment] = {SCOPE: deployment(), OTHER: deployment()}
        self.stored: dict[Scope, Message] = {}
        self.transport, self.slack = transport, slack
        self.token = TOKEN
        self.channel = CHANNEL
        self.restart()

    def restart(self) -> None:
        """Lose what is remembered, as another process would."""
        self.sender = SlackBotSender(
            sender_parts(
                self.transport,
                find_deployment=self._deployment,
                find_message=self._message,
                deployment_url=lambda deployment: "",
                slack_api_url=self.slack.api_url,
            )
        )

    async def _deployment(self, subscription: Subscription, scope: Scope) -> Deployment | None:
        return self.deployments.get(scope)

    async def _message(self, subscription: str, scope: Scope) -> Message | None:
        return self.stored.get(scope)

    async def send(self, *events: Event) -> Outcome:
        endpoint = Endpoint(token=self.token, channel=self.channel)
        return await self.sender.send(outgoing("slack", endpoint, *events))

    def store(self, outcome: Outcome) -> None:
        """Store what was posted."""
        self.stored |= {message.deployment: message for message in outcome.messages}


@pytest.fixture
def bot(transport: WebhookTransport, slack: FakeSlack) -> Bot:
    return Bot(transport, slack)


def inside(position: int, type: str, scope: Scope = SCOPE, **fields: Any) -> Event:
    return event(position, type=type, scopes=(scope,), **fields)


def failure(position: int, name: str = "web", **fields: Any) -> Event:
    return inside(position, "resource.create.failed", resource=name, message="no", **fields)


def methods(slack: FakeSlack) -> list[str]:
    return [method for method, _ in slack.requests]


async def test_a_deployment_is_one_message_that_is_edited(bot: Bot, slack: FakeSlack):
    first = await bot.send(inside(1, "deployment.started"))
    bot.store(first)
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


async def test_the_message_is_edited_before_it_is_stored(bot: Bot, slack: FakeSlack):
    await bot.send(inside(1, "deployment.started"))
    await bot.send(inside(2, "resource.create.completed"))

    assert len(slack.roots) == 1


async def test_a_message_in_a_former_channel_is_reposted(bot: Bot, slack: FakeSlack):
    await bot.send(inside(1, "deployment.started"))
    slack.errors.append("channel_not_found")

    outcome = await bot.send(inside(2, "resource.create.completed"))

    assert outcome.result == "delivered"
    assert methods(slack)[-2:] == ["chat.update", "chat.postMessage"]


async def test_another_process_edits_the_same_message(bot: Bot, slack: FakeSlack):
    bot.store(await bot.send(inside(1, "deployment.started")))
    bot.restart()

    await bot.send(inside(2, "resource.create.completed"))

    assert len(slack.roots) == 1


async def test_failures_are_replies_in_the_thread(bot: Bot, slack: FakeSlack):
    outcome = await bot.send(inside(1, "deployment.started"), failure(2), failure(3, "db"))
    await bot.send(failure(4, "cache"))

    [message] = outcome.messages
    first, second = slack.replies
    assert {first["thread_ts"], second["thread_ts"]} == {message.id}
    assert first["text"] == "2 events, 2 failed"
    assert "cache" in second["text"]
    assert len(slack.roots) == 1


async def test_each_deployment_has_its_own_message(bot: Bot, slack: FakeSlack):
    outcome = await bot.send(
        inside(1, "deployment.started"),
        inside(2, "deployment.started", OTHER),
        inside(3, "resource.create.completed"),
    )

    assert {message.deployment for message in outcome.messages} == {SCOPE, OTHER}
    assert methods(slack) == ["chat.postMessage"] * 2


async def test_an_event_outside_a_deployment_is_a_plain_message(bot: Bot, slack: FakeSlack):
    outcome = await bot.send(event(1, type="build.finished"))

    [message] = slack.roots
    assert outcome.messages == ()
    assert message["text"].startswith("build.finished")


async def test_a_few_events_outside_a_deployment_are_one_message(bot: Bot, slack: FakeSlack):
    await bot.send(event(1, message="first"), event(2, message="second"))

    [message] = slack.roots
    assert "first" in str(message["blocks"])
    assert "second" in str(message["blocks"])


async def test_events_of_a_hidden_deployment_are_plain_messages(bot: Bot, slack: FakeSlack):
    del bot.deployments[SCOPE]

    outcome = await bot.send(failure(1))

    assert outcome.messages == ()
    assert "thread_ts" not in slack.roots[0]


async def test_a_deleted_message_is_reposted(bot: Bot, slack: FakeSlack):
    bot.store(await bot.send(inside(1, "deployment.started")))
    slack.messages.clear()

    outcome = await bot.send(failure(2))
    bot.store(outcome)
    await bot.send(inside(3, "deployment.failed"))

    [root], [reply] = slack.roots, slack.replies
    assert outcome.result == "delivered"
    assert reply["thread_ts"] == outcome.messages[0].id
    assert methods(slack)[-1] == "chat.update"
    assert root is not None


async def test_a_failure_is_posted_without_its_thread(bot: Bot, slack: FakeSlack):
    slack.errors = ["", "thread_not_found"]

    outcome = await bot.send(failure(1))

    assert outcome.result == "delivered"
    assert len(slack.roots) == 2


async def test_events_posted_before_a_failure_are_not_reposted(bot: Bot, slack: FakeSlack):
    del bot.deployments[OTHER]
    events = (event(1), failure(2), failure(3, scope=OTHER))
    slack.errors = ["", "", "", "ratelimited"]
    first = await bot.send(*events)

    second = await bot.send(*events)
    bot.store(first)

    assert (first.result, first.error) == ("retry", "Slack error: ratelimited")
    assert [message.deployment for message in first.messages] == [SCOPE]
    assert second.result == "delivered"
    assert len(slack.roots) == 3
    assert len(slack.replies) == 1


async def test_a_delivered_event_can_be_redelivered(bot: Bot, slack: FakeSlack):
    await bot.send(event(1))
    await bot.send(event(1))

    assert len(slack.roots) == 2


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (lambda bot: setattr(bot, "token", "xoxb-old"), "disable"),
        (lambda bot: setattr(bot, "channel", "C0"), "disable"),
        (lambda bot: bot.slack.errors.append("is_archived"), "disable"),
        (lambda bot: bot.slack.errors.append("msg_too_long"), "dead_letter"),
        (lambda bot: bot.slack.errors.append("message_not_found"), "retry"),
        (lambda bot: bot.slack.errors.append(500), "retry"),
    ],
)
async def test_the_error_code_of_slack_decides(
    bot: Bot, change: Callable[[Bot], None], result: str
):
    change(bot)

    outcome = await bot.send(inside(1, "deployment.started"))

    assert outcome.result == result
    assert outcome.error
    assert TOKEN not in outcome.error


async def test_the_bot_reports_the_retry_after_of_slack(transport: WebhookTransport):
    clock = Clock(5)
    async with fake_slack(clock=clock, is_strict=True) as slack:
        bot = Bot(transport, slack)
        first = await bot.send(failure(1))
        clock.advance(1)
        second = await bot.send(failure(1))

    assert (first.result, first.response.retry_after) == ("retry", 1.0)
    assert len(first.messages) == 1
    assert second.result == "delivered"
    assert len(slack.roots) == len(slack.replies) == 1


async def test_a_long_response_is_parsed_and_recorded_truncated(bot: Bot, slack: FakeSlack):
    outcome = await bot.send(event(1, message="x" * 50_000))

    assert outcome.result == "delivered"
    assert len(outcome.response.body) == 1024


def test_a_bot_sends_up_to_five_hundred_events_at_once():
    assert [bot_batch_size(waiting) for waiting in (0, 1, 77, 5000)] == [1, 1, 77, 500]


async def test_the_fake_enforces_the_limits_of_slack(bot: Bot):
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
