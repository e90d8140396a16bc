"""What EventBridge and SNS send: read field by field, and refused by field."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.ingest.cloudformation.notifications import parse_envelope, parse_message, parse_pairs
from deploylog.ingest.cloudformation.sns import (
    is_certificate_url,
    is_confirmation_url,
    is_topic,
    parse_sns_message,
)
from deploylog.ingest.cloudformation.stack_event import STACK_TYPE
from support.cloudformation import arn_of, stack_event
from support.sns import TOPIC, envelope, message_text, sns_message

ARN = arn_of("web")


def test_a_stack_status_is_an_event_of_the_stacks_own():
    event = parse_envelope(json.dumps(envelope(ARN, "CREATE_COMPLETE")))

    assert event.is_stack_itself
    assert (event.stack_name, event.resource_type) == ("web", STACK_TYPE)
    assert (event.event_id, event.timestamp) == ("eventbridge/e-1", "2026-03-01T12:00:00Z")
    assert event.client_request_token == "token-1"


def test_a_resource_status_says_what_became_of_it():
    told = envelope(ARN, "CREATE_FAILED", logical="Bucket", reason="exists")

    event = parse_envelope(json.dumps(told))

    assert (event.logical_resource_id, event.physical_resource_id) == ("Bucket", "bucket-1")
    assert (event.resource_status, event.resource_status_reason) == ("CREATE_FAILED", "exists")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("id",), "", "id"),
        (("source",), "aws.s3", "source"),
        (("detail-type",), "CloudFormation Drift Detection Status Change", "detail-type"),
        (("time",), "today", "Timestamp"),
        (("detail", "stack-id"), "web", "StackId"),
        (("detail", "status-details"), {}, "detail.status-details.status"),
        (("detail", "logical-resource-id"), None, "detail.logical-resource-id"),
        (("detail",), None, "detail"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused_by_field(path: Any, value: Any, field: str):
    told: Any = envelope(ARN, "CREATE_COMPLETE", logical="Bucket")
    within = told
    for name in path[:-1]:
        within = within[name]
    within[path[-1]] = value

    with pytest.raises(InvalidEvent) as raised:
        parse_envelope(json.dumps(told))

    assert raised.value.field == field


def test_a_notification_is_the_stack_event_that_it_tells():
    told = stack_event(
        ARN,
        "Bucket",
        "CREATE_COMPLETE",
        1.404,
        resource_properties='{"Name":"it\'s\'\nso"}\n',
        client_request_token="token-1",
    )

    assert parse_message(message_text(told)) == told


def test_what_is_null_in_a_notification_is_absent():
    told = stack_event(ARN, "web", "CREATE_COMPLETE", 1)

    event = parse_message(message_text(told) + "ResourceProperties='null\n'\n")

    assert event == told


@pytest.mark.parametrize("text", ["", "hello", "StackId='x'\n", "EventId='", "{}", "{"])
def test_what_is_no_notification_is_refused(text: str):
    with pytest.raises(InvalidEvent):
        parse_message(text)


@given(st.dictionaries(st.sampled_from("ABC"), st.text(alphabet="a'\n ")))
def test_pairs_are_read_back_as_they_were_written(values: dict[str, str]):
    text = "".join(f"{name}='{value}'\n" for name, value in values.items())

    assert parse_pairs(text) == values


@given(st.text() | st.binary())
def test_no_text_breaks_the_parsers(text: str | bytes):
    with pytest.raises(InvalidInput):
        parse_envelope(text)
    with pytest.raises(InvalidInput):
        parse_sns_message(text) if isinstance(text, bytes) else parse_message(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Type", "Else"),
        ("MessageId", 1),
        ("TopicArn", "arn:aws:s3:::bucket"),
        ("Timestamp", "now"),
        ("SignatureVersion", "3"),
        ("Signature", "%%"),
        ("SigningCertURL", None),
        ("Message", None),
    ],
)
def test_an_sns_message_that_is_wrong_is_refused_by_field(field: str, value: Any):
    told = sns_message("x") | {field: value}

    with pytest.raises(InvalidInput) as raised:
        parse_sns_message(json.dumps({k: v for k, v in told.items() if v is not None}).encode())

    assert raised.value.field == field


def test_what_is_signed_is_as_published():
    told = sns_message("hello", Subject="s", Timestamp="2026-03-01T12:00:00.000Z")

    signed = parse_sns_message(json.dumps(told).encode()).signed

    assert signed == (
        b"Message\nhello\nMessageId\nm-1\nSubject\ns\nTimestamp\n2026-03-01T12:00:00.000Z\n"
        b"TopicArn\n" + TOPIC.encode() + b"\nType\nNotification\n"
    )


def test_what_is_signed_of_a_confirmation_has_its_token():
    told = sns_message(
        "hello",
        Type="SubscriptionConfirmation",
        Token="t",
        SubscribeURL="https://x",
        Timestamp="2026-03-01T12:00:00.000Z",
    )

    signed = parse_sns_message(json.dumps(told).encode()).signed

    assert signed.splitlines()[4:10] == [
        b"SubscribeURL", b"https://x", b"Timestamp", b"2026-03-01T12:00:00.000Z", b"Token", b"t",
    ]  # fmt: skip


HOST = "https://sns.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        (f"{HOST}/SimpleNotificationService-0a1b.pem", True),
        ("http://sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com.cn/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com.evil.org/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com@evil.org/a.pem", False),
        ("https://evil.org/?https://sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://user@sns.eu-west-1.amazonaws.com/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com:8443/a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com./a.pem", False),
        ("https://SNS.eu-west-1.amazonaws.com/a.pem", False),
        (f"{HOST}/?Action=X&x=/a.pem", False),
        (f"{HOST}/a/../b.pem", False),
        (f"{HOST}/a.pem#x", False),
        (f"{HOST}/a.pem?1", False),
        (f"{HOST}/a.pem?", False),
        (f"{HOST}/a.pem\n", False),
        ("https://[/a.pem", False),
        ("", False),
    ],
)
def test_certificates_come_from_sns_in_the_topics_region_only(url: str, is_good: bool):
    assert is_certificate_url(url, TOPIC) is is_good


def test_china_has_a_host_of_its_own():
    topic = "arn:aws-cn:sns:cn-north-1:123456789012:t"

    assert is_certificate_url("https://sns.cn-north-1.amazonaws.com.cn/a.pem", topic)
    assert not is_certificate_url("https://sns.cn-north-1.amazonaws.com/a.pem", topic)


@pytest.mark.parametrize(
    ("query", "is_good"),
    [
        (f"Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t", True),
        (f"Action=Unsubscribe&TopicArn={TOPIC}&Token=t", False),
        (f"Action=ConfirmSubscription&TopicArn={TOPIC}x&Token=t", False),
        (f"Action=ConfirmSubscription&Action=Publish&TopicArn={TOPIC}", False),
        (f"Action=ConfirmSubscription&TopicArn={TOPIC}&Message=x", False),
        ("", False),
    ],
)
def test_a_confirmation_does_nothing_else(query: str, is_good: bool):
    assert is_confirmation_url(f"{HOST}/?{query}", TOPIC) is is_good
    assert not is_confirmation_url(f"https://evil.org/?{query}", TOPIC)


@pytest.mark.parametrize("arn", ["", "x", f"{TOPIC}:more", TOPIC.replace("aws", "evil", 1)])
def test_what_is_no_topic_is_none(arn: str):
    assert not is_topic(arn)


def test_fields_that_nobody_knows_are_ignored():
    told = sns_message("x") | {"UnsubscribeURL": "https://x", "MessageAttributes": {}}

    assert isinstance(parse_sns_message(msgspec.json.encode(told)).message, str)
