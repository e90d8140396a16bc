"""Events from EventBridge and SNS over a real server."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.auth.sns import parse_topics
from deploylog.errors import InvalidSettings
from deploylog.events.access import parse_grant
from deploylog.ingest.cloudformation.stack_event import StackEvent
from deploylog.store.contract import Store
from support.cloudformation import arn_of, stack_event
from support.factories import now
from support.servers import Answer, Local, running
from support.sns import (
    CERTIFICATE,
    SUBSCRIBE,
    TOPIC,
    PlayedSns,
    envelope,
    message_text,
    sns_message,
)

EVENTBRIDGE = "/log/v1/ingest/eventbridge?project=acme"
SNS = "/log/v1/ingest/sns"
ARN = arn_of("web")


@pytest.fixture(scope="module")
def played() -> PlayedSns:
    return PlayedSns()


@pytest.fixture
def sns(played: PlayedSns) -> PlayedSns:
    played.fetched, played.is_down = [], False
    played.certificate = played.certify(days=30)
    return played


@pytest.fixture
def options(sns: PlayedSns) -> dict[str, Any]:
    return {"fetch": sns.fetch, "sns_topics": f"{TOPIC}=acme"}


async def post_envelope(server: Local, expected: dict[str, Any], **how: Any) -> Answer:
    return await server.post(expected, "application/json", EVENTBRIDGE, **how)


async def deliver(server: Local, body: bytes, query: str = "") -> Answer:
    return await server.post(body, "text/plain; charset=UTF-8", f"{SNS}{query}")


async def notify(server: Local, sns: PlayedSns, event: StackEvent) -> Answer:
    return await deliver(server, sns.sign(sns_message(message_text(event))))


async def recorded_events(server: Local, query: str = "") -> list[Any]:
    page = await server.get(f"/log/v1/events?source=cloudformation&order=oldest{query}")
    return list(page.json["events"])


async def deployments(server: Local) -> list[Any]:
    return list((await server.get("/log/v1/deployments?project=acme")).json["deployments"])


# EventBridge


async def test_eventbridge_events_of_a_stack_are_a_deployment(server: Local):
    for number, (logical, status) in enumerate(
        [(None, "CREATE_IN_PROGRESS"), ("Bucket", "CREATE_COMPLETE"), (None, "CREATE_COMPLETE")]
    ):
        result = envelope(ARN, status, logical=logical, id=f"e-{number}")
        assert (await post_envelope(server, result)).status == 201

    [deployment] = await deployments(server)
    assert (deployment["status"], deployment["operation"]) == ("completed", "create")
    assert (deployment["stack"], deployment["counts"]["added"]) == ("web", 1)
    assert [event["via"] for event in await recorded_events(server)] == ["eventbridge"] * 4


async def test_a_success_restores_the_failure_before_it(server: Local, sns: PlayedSns):
    statuses = ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
    statuses += ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"] * 2
    for n, status in enumerate(statuses):
        sent = envelope(ARN, status, id=f"e-{n}", time=f"2026-03-01T12:{n:02}:00Z")
        assert (await post_envelope(server, sent)).status == 201

    later, mended, failed = await deployments(server)
    assert [each["status"] for each in (failed, mended, later)] == ["failed", *["completed"] * 2]
    assert [each["restores"] for each in (failed, mended, later)] == [None, failed["id"], None]


async def test_an_end_from_sns_restores_what_eventbridge_saw_fail(server: Local, sns: PlayedSns):
    for n, status in enumerate(["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]):
        sent = envelope(ARN, status, id=f"e-{n}", time=f"2026-03-01T12:{n:02}:00Z")
        assert (await post_envelope(server, sent)).status == 201
    for n, status in enumerate(["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]):
        event = stack_event(ARN, "web", status, 3600 + 60 * n)
        assert (await notify(server, sns, event)).status == 201

    mended, failed = await deployments(server)
    assert (failed["status"], mended["restores"]) == ("failed", failed["id"])


@pytest.mark.parametrize("place", ["status-details", "detail"])
async def test_a_repeated_start_with_a_detailed_status_is_recorded(server: Local, place: str):
    again = envelope(ARN, "UPDATE_IN_PROGRESS", id="e-2", time="2026-03-01T12:01:00Z")
    detail = again["detail"] if place == "detail" else again["detail"]["status-details"]
    detail["detailed-status"] = "CONFIGURATION_COMPLETE"
    ended = envelope(ARN, "UPDATE_COMPLETE", id="e-3", time="2026-03-01T12:02:00Z")

    for sent in (envelope(ARN, "UPDATE_IN_PROGRESS"), again, ended):
        assert (await post_envelope(server, sent)).status == 201

    [deployment] = await deployments(server)
    assert (deployment["operation"], deployment["status"]) == ("update", "completed")
    result = [
        event["data"].get("DetailedStatus")
        for event in await recorded_events(server, "&type=deployment.log")
    ]
    assert result == ["CONFIGURATION_COMPLETE"]


async def test_a_failed_update_from_eventbridge_has_a_reason(server: Local):
    steps = [
        (None, "UPDATE_IN_PROGRESS", ""),
        ("Bucket", "UPDATE_FAILED", "web-bucket already exists"),
        (
            None,
            "UPDATE_ROLLBACK_IN_PROGRESS",
            "The following resource(s) failed to update: [Bucket].",
        ),
        (None, "UPDATE_ROLLBACK_COMPLETE", ""),
    ]
    for n, (logical, status, reason) in enumerate(steps):
        time = f"2026-03-01T12:0{n}:00Z"
        result = envelope(ARN, status, logical=logical, id=f"e-{n}", reason=reason, time=time)
        assert (await post_envelope(server, result)).status == 201

    [deployment] = await deployments(server)
    assert (deployment["status"], deployment["message"]) == ("failed", "web-bucket already exists")


async def test_a_repeated_envelope_has_the_same_response(server: Local):
    result = envelope(ARN, "CREATE_IN_PROGRESS")

    first, again = [await post_envelope(server, result) for _ in range(2)]

    assert first.status == again.status == 201
    assert first.json == again.json


async def test_an_invalid_envelope_is_a_problem_with_the_field(server: Local):
    response = await post_envelope(server, envelope("web", "CREATE_COMPLETE"))

    assert (response.status, response.json["field"]) == (400, "StackId")
    assert response.json["type"] == "urn:deploylog:problem:invalid-event"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"{}", b"null"])
async def test_no_body_causes_a_server_error(server: Local, body: bytes):
    for path in (EVENTBRIDGE, SNS):
        assert (await server.post(body, "application/json", path)).status == 400


@pytest.mark.parametrize(
    ("time", "status"),
    [
        ("0001-01-01T00:00:00+23:59", 400),
        ("1969-12-31T23:59:59Z", 400),
        ("1970-01-01T00:00:00Z", 201),
        ("2262-04-11T23:47:16Z", 201),
        ("2262-04-11T23:47:17Z", 400),
        ("9999-12-31T23:59:59-23:59", 400),
    ],
)
async def test_an_impossible_time_is_refused(server: Local, time: str, status: int):
    response = await post_envelope(server, envelope(ARN, "CREATE_IN_PROGRESS", time=time))

    assert response.status == status
    assert status == 201 or response.json["field"] == "Timestamp"


async def test_a_project_is_required_and_others_are_refused(server: Local, store: Store):
    stored, key = make_key(name="eb", groups=(), grants=[parse_grant("write:project/acme")],
                           now=now())  # fmt: skip
    await store.credentials.add(stored)
    headers = {"x-api-key": key}
    result = envelope(ARN, "CREATE_IN_PROGRESS")

    responses = [
        await server.post(result, "application/json", f"/log/v1/ingest/eventbridge{query}",
                          headers=headers)
        for query in ("", "?project=other", "?project=acme", "?project=acme&cluster=hpc")
    ]  # fmt: skip

    assert [response.status for response in responses] == [400, 403, 201, 201]


async def test_an_unauthenticated_notification_is_refused(server: Local, store: Store):
    stored, _ = make_key(name="x", groups=(), grants=[parse_grant("admin:/")], now=now())
    await store.credentials.add(stored)

    response = await post_envelope(server, envelope(ARN, "CREATE_IN_PROGRESS"))

    assert response.status == 401


# SNS


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_topics_notification_is_recorded(server: Local, sns: PlayedSns, version: str):
    result = stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0)

    response = await deliver(
        server, sns.sign(sns_message(message_text(result), SignatureVersion=version))
    )

    _, event = await recorded_events(server)
    assert response.status == 201
    assert (event["producerid"], event["via"]) == (result.event_id, "sns")
    assert event["time"] == "2026-03-01T12:00:00.000000Z"


async def test_a_repeated_message_is_recorded_once(server: Local, sns: PlayedSns):
    result = stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0)

    first, again = [await notify(server, sns, result) for _ in range(2)]

    assert first.json == again.json
    assert sns.fetched == [CERTIFICATE]


async def test_an_event_from_eventbridge_and_sns_is_recorded_once(server: Local, sns: PlayedSns):
    result = stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0.7, client_request_token="token-1")

    by_eventbridge = await post_envelope(server, envelope(ARN, "CREATE_IN_PROGRESS"))
    by_sns = await notify(server, sns, result)

    assert by_eventbridge.json == by_sns.json
    assert len(await deployments(server)) == 1


async def test_eventbridge_events_may_arrive_through_a_topic(server: Local, sns: PlayedSns):
    result = json.dumps(envelope(ARN, "CREATE_IN_PROGRESS"))

    response = await deliver(server, sns.sign(sns_message(result)))

    assert response.status == 201
    assert (await recorded_events(server))[1]["via"] == "eventbridge"


async def test_notifications_out_of_order_are_one_deployment(server: Local, sns: PlayedSns):
    result = [
        stack_event(ARN, "web", "UPDATE_COMPLETE", 3),
        stack_event(ARN, "Bucket", "UPDATE_COMPLETE", 2),
        stack_event(ARN, "Bucket", "UPDATE_IN_PROGRESS", 1),
        stack_event(ARN, "web", "UPDATE_IN_PROGRESS", 0),
    ]

    for event in result:
        await notify(server, sns, event)

    [deployment] = await deployments(server)
    assert (deployment["status"], deployment["counts"]["changed"]) == ("completed", 1)


async def test_a_stack_whose_name_is_taken_gets_a_longer_one(server: Local, sns: PlayedSns):
    other = arn_of("web", region="us-east-1", number=7)

    for arn in (ARN, other):
        await notify(server, sns, stack_event(arn, "web", "CREATE_IN_PROGRESS", 0))

    assert sorted(each["stack"] for each in await deployments(server)) == [
        "web", f"web/{other.rpartition('/')[2]}",
    ]  # fmt: skip


async def test_a_recorded_deletion_frees_the_name(server: Local, sns: PlayedSns):
    for status in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"):
        await notify(server, sns, stack_event(ARN, "web", status, 1))

    assert (await server.get("/log/v1/stacks?project=acme")).json["stacks"] == []


async def test_a_subscription_of_a_known_topic_is_confirmed(server: Local, sns: PlayedSns):
    request = sns_message(
        "x", Type="SubscriptionConfirmation", Token="token", SubscribeURL=SUBSCRIBE
    )

    response = await deliver(server, sns.sign(request))

    assert response.status == 204
    assert sns.fetched == [CERTIFICATE, SUBSCRIBE]


@pytest.mark.parametrize(
    ("url", "fetched"),
    [("https://evil.org/", [CERTIFICATE]), (f"{SUBSCRIBE}x", [CERTIFICATE, f"{SUBSCRIBE}x"])],
)
async def test_nothing_else_is_confirmed(
    server: Local, sns: PlayedSns, url: str, fetched: list[str]
):
    request = sns_message("x", Type="SubscriptionConfirmation", Token="token", SubscribeURL=url)

    response = await deliver(server, sns.sign(request))

    assert (response.status, response.json["field"]) == (400, "SubscribeURL")
    assert sns.fetched == fetched


async def test_the_end_of_a_subscription_is_acknowledged(server: Local, sns: PlayedSns):
    result = sns_message("x", Type="UnsubscribeConfirmation", Token="t", SubscribeURL=SUBSCRIBE)

    response = await deliver(server, sns.sign(result))

    assert (response.status, sns.fetched) == (204, [CERTIFICATE])


async def test_an_unknown_topic_is_refused_before_anything_is_fetched(
    server: Local, sns: PlayedSns
):
    result = sns_message("x", TopicArn=f"{TOPIC}2", Type="SubscriptionConfirmation",
                       Token="t", SubscribeURL=SUBSCRIBE)  # fmt: skip

    response = await deliver(server, sns.sign(result))

    assert (response.status, sns.fetched) == (403, [])


async def test_an_invalid_signature_is_refused(server: Local, sns: PlayedSns):
    result = json.loads(sns.sign(sns_message("x")))

    responses = [
        await deliver(server, json.dumps(result | change).encode())
        for change in (
            {"Message": "y"},
            {"MessageId": "m-2"},
            {"SignatureVersion": "2"},
            {"Signature": ""},
            {"SigningCertURL": "https://evil.org/a.pem"},
            {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/none.pem"},
            {"Subject": "added"},
        )
    ]

    assert [response.status for response in responses] == [401] * 7
    assert await recorded_events(server) == []


@pytest.mark.parametrize("hours", [-1.1, 0.2])
async def test_a_message_of_another_time_is_refused(server: Local, sns: PlayedSns, hours: float):
    time = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()

    response = await deliver(server, sns.sign(sns_message("x", Timestamp=time)))

    assert response.status == 403


async def test_an_expired_certificate_is_refused(server: Local, sns: PlayedSns):
    sns.certificate = sns.certify(days=-1)

    assert (await deliver(server, sns.sign(sns_message("x")))).status == 401


async def test_sns_is_asked_to_retry_while_its_certificate_is_unavailable(
    server: Local, sns: PlayedSns
):
    sns.is_down = True
    down = await notify(server, sns, stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0))
    sns.is_down = False

    up = await notify(server, sns, stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0))

    assert [down.status, up.status] == [503, 201]
    assert down.headers["retry-after"] == "1"


async def test_the_number_of_certificate_fetches_is_limited(server: Local, sns: PlayedSns):
    responses = [
        await deliver(
            server,
            sns.sign(sns_message("x", SigningCertURL=CERTIFICATE.replace("0a1b2c", str(number)))),
        )
        for number in range(15)
    ]

    assert {response.status for response in responses} == {401, 429}
    assert len(sns.fetched) < 15
    refused = sum(response.status == 401 for response in responses)
    metrics = (await server.get("/metrics")).body.decode()
    assert f"deploylog_failed_attempts_total {float(refused)}" in metrics


async def test_an_unauthenticated_body_is_limited(server: Local):
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(b" " * (1024 * 1024 + 1))

    assert (await server.post(body, "text/plain", SNS, headers=headers)).status == 413


async def test_a_topic_writes_its_own_project_only(store: Store, sns: PlayedSns):
    free = TOPIC.replace("stacks", "free")
    result = message_text(stack_event(ARN, "web", "CREATE_IN_PROGRESS", 0))
    async with running(store, fetch=sns.fetch, sns_topics=f"{TOPIC}=acme, {free}") as server:
        own = sns.sign(sns_message(result))
        any_ = sns.sign(sns_message(result, TopicArn=free))
        responses = [
            (await deliver(server, body, query)).status
            for body, query in (
                (own, "?project=other"),
                (own, "?project=acme"),
                (any_, ""),
                (any_, "?project=other"),
                (own, "?cluster=hpc"),
            )
        ]

    assert responses == [403, 201, 400, 201, 201]


async def test_a_notification_of_something_else_is_refused_by_field(server: Local, sns: PlayedSns):
    response = await deliver(server, sns.sign(sns_message("hello")))

    assert (response.status, response.json["field"]) == (400, "Message")


@pytest.mark.parametrize("topics", ["web", f"{TOPIC}=", f"{TOPIC}=acme,x"])
def test_invalid_topics_are_reported(topics: str):
    with pytest.raises(InvalidSettings):
        parse_topics(topics)
