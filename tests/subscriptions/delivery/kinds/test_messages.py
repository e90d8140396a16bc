"""Teams, PagerDuty and CDEvents: what each receiver gets, and what it would check."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from deploylog.auth.standard_webhooks import make_secret, parse_secret
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.pagerduty import MAX_SUMMARY
from deploylog.subscriptions.delivery.kinds.wording import place
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint
from support.factories import event
from support.receivers import receiving, status
from support.sinks import (
    SCOPE,
    Owner,
    ended_deployment,
    ids_in,
    lifecycle_event,
    outgoing,
    sender_parts,
)
from support.subscribers import headers_of

KEY = "R0UT1NGKEY0123456789abcdefABCDEF"
HEADLINE = "Deployment of web 1.4.2 to prod completed after 42 s"


async def send(
    transport: WebhookTransport,
    kind: str,
    sent: Event,
    *steps: Any,
    secrets: Sequence[bytes] = (),
    **deployed: Any,
) -> tuple[Outcome, list[tuple[dict[str, str], Any]]]:
    """Send an event about a deployment; the outcome, and headers and JSON of each request."""
    parts = sender_parts(transport, Owner(ended_deployment(**deployed)))
    async with receiving(*steps) as receiver:
        endpoint = Endpoint(url=receiver.url, token=KEY if kind == "pagerduty" else "")
        sender = KINDS[kind].open_senders(parts)(endpoint)
        outcome = await sender.send(outgoing(kind, endpoint, sent, secrets=tuple(secrets)))
    requests = [(headers_of(head), msgspec.json.decode(body)) for head, body in receiver.requests]
    return outcome, requests


ACCEPTED = status(202)


# Teams


def card_of(body: Any) -> Any:
    """The card of a message; fails unless Teams would show it."""
    assert body["type"] == "message"
    [attachment] = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    card = attachment["content"]
    assert card["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    for element in card["body"]:
        assert element["type"] in ("TextBlock", "FactSet")
    for action in card["actions"]:
        assert action["type"] == "Action.OpenUrl"
        assert action["url"].startswith("https://")
    assert len(msgspec.json.encode(body)) < 28 * 1024
    return card


async def test_a_card_names_stack_environment_version_commit_and_people(
    transport: WebhookTransport,
):
    outcome, [(_, body)] = await send(transport, "teams", lifecycle_event(), ACCEPTED)

    card = card_of(body)
    title, facts = card["body"]
    assert outcome.result == "delivered"
    assert (title["text"], title["color"]) == (HEADLINE, "Good")
    assert {fact["title"]: fact["value"] for fact in facts["facts"]} == {
        "Project": "acme", "Stack": "web", "Environment": "prod", "Version": "1.4.2",
        "Commit": "4f2a9c1e7b3d", "Status": "completed", "Duration": "42 s",
        "Changes": "3 added, 1 changed, 0 destroyed, 0 failed",
        "Operation": "apply with terraform", "Actor": "ann", "Approved by": "bob, cleo",
    }  # fmt: skip
    assert [action["title"] for action in card["actions"]] == [
        "Deployment", "Run", "Change request",
    ]  # fmt: skip
    assert ids_in(str(card["body"])) == []


async def test_text_of_others_cannot_format_a_card(transport: WebhookTransport):
    _, [(_, body)] = await send(
        transport,
        "teams",
        lifecycle_event("deployment.failed"),
        ACCEPTED,
        status="failed",
        stack="[click](https://evil.example)",
        message="x" * 50_000,
    )

    card = card_of(body)
    assert "\\[click\\]" in card["body"][0]["text"]
    assert card["body"][0]["color"] == "Attention"
    assert len(card["body"][2]["text"]) == 4000


@pytest.mark.parametrize(
    ("code", "result"),
    [(200, "delivered"), (400, "dead_letter"), (404, "disable"), (401, "disable"), (429, "retry")],
)
async def test_the_answer_of_a_workflow_decides(
    transport: WebhookTransport, code: int, result: str
):
    outcome, _ = await send(transport, "teams", lifecycle_event(), status(code))

    assert outcome.result == result


# PagerDuty


async def test_a_change_event_has_what_pagerduty_requires(transport: WebhookTransport):
    outcome, [(headers, body)] = await send(transport, "pagerduty", lifecycle_event(), ACCEPTED)

    payload = body["payload"]
    assert outcome.result == "delivered"
    assert headers["content-type"].startswith("application/json")
    assert body["routing_key"] == KEY
    assert payload["summary"] == HEADLINE
    assert payload["source"] == "acme/web/prod"
    assert payload["timestamp"].endswith("Z")
    assert payload["custom_details"]["changes"] == "3 added, 1 changed, 0 destroyed, 0 failed"
    assert {"href": "https://ci.example/run/7", "text": "Run"} in body["links"]
    assert ids_in(str(payload)) == []


async def test_a_long_summary_is_cut(transport: WebhookTransport):
    _, [(_, body)] = await send(transport, "pagerduty", event(message="x" * 2000), ACCEPTED)

    assert len(body["payload"]["summary"]) == MAX_SUMMARY


async def test_the_integration_key_is_not_recorded(transport: WebhookTransport):
    outcome, _ = await send(transport, "pagerduty", lifecycle_event(), ACCEPTED)

    assert b"routing_key" in outcome.request
    assert KEY.encode() not in outcome.request


@pytest.mark.parametrize(("code", "result"), [(400, "dead_letter"), (429, "retry"), (500, "retry")])
async def test_the_status_of_pagerduty_decides(transport: WebhookTransport, code: int, result: str):
    outcome, _ = await send(transport, "pagerduty", lifecycle_event(), status(code))

    assert outcome.result == result


# CDEvents


def check_cdevent(headers: dict[str, str], body: Any) -> Any:
    """Return the CDEvent in a CloudEvent; fails unless it has what CDEvents 0.5 requires."""
    assert headers["content-type"] == "application/cloudevents+json"
    context, subject = body["data"]["context"], body["data"]["subject"]
    assert body["specversion"] == "1.0"
    assert context.keys() == {"specversion", "id", "source", "type", "timestamp"}
    assert context["specversion"] == "0.5.0"
    assert subject.keys() == {"id", "source", "content"}
    for mine, theirs in (
        ("id", "id"),
        ("source", "source"),
        ("type", "type"),
        ("time", "timestamp"),
    ):
        assert body[mine] == context[theirs]
    assert body["subject"] == subject["id"]
    content, (_, _, noun, predicate, *_) = subject["content"], context["type"].split(".")
    _REQUIRED[f"{noun}.{predicate}"](content)
    return body["data"]


def _requires(*names: str) -> Callable[[dict[str, Any]], None]:
    def check(content: dict[str, Any]) -> None:
        assert set(names) <= content.keys()

    return check


_REQUIRED = {
    "pipelinerun.started": _requires("pipelineName", "uri"),
    "pipelinerun.finished": _requires(),
    "service.deployed": _requires("environment", "artifactId"),
    "service.rolledback": _requires("environment", "artifactId"),
    "service.removed": _requires("environment"),
    "deploylog-subscription.tested": _requires(),
}


@pytest.mark.parametrize(
    ("type", "deployed", "types"),
    [
        ("deployment.started", {}, ["pipelinerun.started"]),
        ("deployment.completed", {}, ["pipelinerun.finished", "service.deployed"]),
        (
            "deployment.completed",
            {"operation": "destroy"},
            ["pipelinerun.finished", "service.removed"],
        ),
        (
            "deployment.completed",
            {"operation": "rollback"},
            ["pipelinerun.finished", "service.rolledback"],
        ),
        ("deployment.completed", {"operation": "plan"}, ["pipelinerun.finished"]),
        ("deployment.completed", {"environment": None}, ["pipelinerun.finished"]),
        ("deployment.failed", {"status": "failed"}, ["pipelinerun.finished"]),
    ],
)
async def test_a_deployment_is_told_as_cdevents(
    transport: WebhookTransport, type: str, deployed: dict[str, Any], types: list[str]
):
    secret = make_secret()

    outcome, requests = await send(
        transport, "cdevents", lifecycle_event(type), secrets=[parse_secret(secret)], **deployed
    )

    sent = [check_cdevent(*request) for request in requests]
    assert outcome.result == "delivered"
    assert [each["context"]["type"] for each in sent] == [f"dev.cdevents.{t}.0.3.0" for t in types]
    assert len({headers["webhook-id"] for headers, _ in requests}) == len(types)


async def test_cdevents_are_signed(transport: WebhookTransport):
    secret = make_secret()
    parts = sender_parts(transport, Owner(ended_deployment()))
    async with receiving() as receiver:
        endpoint = Endpoint(url=receiver.url)
        sender = KINDS["cdevents"].open_senders(parts)(endpoint)
        secrets = (parse_secret(secret),)
        await sender.send(outgoing("cdevents", endpoint, lifecycle_event(), secrets=secrets))

    for head, body in receiver.requests:
        assert Webhook(secret).verify(body, headers_of(head))


async def test_the_service_is_the_stack_and_the_artifact_names_its_version(
    transport: WebhookTransport,
):
    _, [_, (headers, body)] = await send(transport, "cdevents", lifecycle_event())

    service = check_cdevent(headers, body)["subject"]
    assert service["id"] == "acme/web"
    assert service["content"] == {
        "environment": {"id": "prod"}, "artifactId": "pkg:generic/acme/web@1.4.2",
    }  # fmt: skip


async def test_a_failed_run_says_why(transport: WebhookTransport):
    _, [(_, body)] = await send(
        transport,
        "cdevents",
        lifecycle_event("deployment.failed"),
        status="failed",
        message="access denied",
    )

    content = body["data"]["subject"]["content"]
    assert (content["outcome"], content["errors"]) == ("failure", "access denied")


async def test_a_test_event_is_a_cdevent_of_our_own(transport: WebhookTransport):
    _, [(headers, body)] = await send(
        transport, "cdevents", event(type="subscription.test", subject="ops")
    )

    assert check_cdevent(headers, body)["context"]["type"].startswith("dev.cdeventsx.deploylog-")


async def test_an_event_without_a_cdevent_is_given_up(transport: WebhookTransport):
    outcome, requests = await send(transport, "cdevents", event(type="build.finished"))

    assert (outcome.result, requests) == ("dead_letter", [])


# Words


def test_a_place_has_no_ids():
    assert place(SCOPE) == "project/acme"
