"""ParallelCluster's requests and pages."""

import json
from typing import Any

import pytest

from deploylog.api.aws.parallelcluster.wire import (
    STATUSES,
    StackEventsRequest,
    parse_request,
    published_status,
    render_event,
    render_page,
)
from deploylog.errors import InvalidInput
from deploylog.ingest.cloudformation.stack_event import TYPE_BY_STATUS
from support.stacks import image_build, own_event, stack_event

#: From the published model; clients generated from it reject anything else.
REQUIRED = {
    "stackId",
    "eventId",
    "stackName",
    "logicalResourceId",
    "physicalResourceId",
    "resourceType",
    "timestamp",
    "resourceStatus",
}
OPTIONAL = {"resourceStatusReason", "resourceProperties", "clientRequestToken"}

TIME = "2022-03-30T23:26:33.499Z"


def parse(
    query: bytes = b"", *, id: str = "my-image", default_region: str = "us-east-1"
) -> StackEventsRequest:
    regions = ("eu-west-1", "us-east-1")
    return parse_request(id=id, query_string=query, regions=regions, default_region=default_region)


def parse_error(query: bytes = b"", **how: str) -> str:
    with pytest.raises(InvalidInput) as raised:
        parse(query, **how)
    return raised.value.message


@pytest.mark.parametrize(
    ("query", "region", "token"),
    [
        (b"", "us-east-1", None),
        (b"region=eu-west-1", "eu-west-1", None),
        (b"region=", "us-east-1", None),
        (b"region=mars-1&region=eu-west-1", "eu-west-1", None),
        (b"region=eu-west-1&region=", "us-east-1", None),
        (b"nextToken=", "us-east-1", None),
        (b"nextToken=a&nextToken=b", "us-east-1", "b"),
        (b"nextToken=a+b%2Bc%2F%3D", "us-east-1", "a b+c/="),
        (b"Region=mars-1&other=1&&=", "us-east-1", None),
        (b"nextToken=%ff", "us-east-1", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_request_is_parsed_as_by_the_published_server(
    query: bytes, region: str, token: str | None
):
    assert parse(query) == StackEventsRequest(id="my-image", region=region, next_token=token)


@pytest.mark.parametrize("id", ["a", "1bad", "a_b", "my img", "", "-a", "ab\n", "é1", "it's"])
def test_an_id_that_breaks_the_pattern_has_the_published_message(id: str):
    assert parse_error(id=id) == f"{id!r} does not match '^[a-zA-Z][a-zA-Z0-9-]+$'"


def test_a_long_id_is_not_found():
    assert parse(id="a" * 500).id == "a" * 500


def test_a_region_must_be_given_and_supported():
    assert parse_error(b"region=mars-1") == "invalid or unsupported region 'mars-1'"
    assert parse_error(default_region="") == "region needs to be set"
    assert parse_error(b"region=", default_region="") == "region needs to be set"


def test_the_id_is_checked_before_the_region():
    assert parse_error(b"region=mars-1", id="1bad").startswith("'1bad' does not match")


@pytest.mark.parametrize("event", image_build(), ids=lambda event: event.event_id)
def test_an_event_is_valid_for_a_generated_client(event: Any):
    page = json.loads(render_page([event], "token", raw=False))

    [visible] = page["events"]
    assert page["nextToken"] == "token"
    assert visible.keys() >= REQUIRED
    assert visible.keys() <= REQUIRED | OPTIONAL
    assert all(isinstance(value, str) for value in visible.values())
    assert visible["resourceStatus"] in STATUSES
    assert isinstance(json.loads(visible.get("resourceProperties", "{}")), dict)


def test_a_page_is_indented_with_its_keys_in_order_and_without_nulls():
    event = stack_event("CREATE_COMPLETE", "Role", "AWS::IAM::Role", TIME, arn="a/b")

    assert render_page([event], None, raw=False).decode() == (
        "{\n"
        '  "events": [\n'
        "    {\n"
        f'      "eventId": "Role-CREATE_COMPLETE-{TIME}",\n'
        '      "logicalResourceId": "Role",\n'
        '      "physicalResourceId": "",\n'
        '      "resourceStatus": "CREATE_COMPLETE",\n'
        '      "resourceType": "AWS::IAM::Role",\n'
        '      "stackId": "a/b",\n'
        '      "stackName": "b",\n'
        f'      "timestamp": "{TIME}"\n'
        "    }\n"
        "  ]\n"
        "}\n"
    )


def test_an_empty_page_has_an_empty_list():
    assert json.loads(render_page([], None, raw=False)) == {"events": []}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((status, status) for status in STATUSES),
        ("ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS"),
        ("ROLLBACK_COMPLETE", "DELETE_COMPLETE"),
        ("ROLLBACK_FAILED", "DELETE_FAILED"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_IN_PROGRESS"),
        ("UPDATE_ROLLBACK_COMPLETE", "UPDATE_COMPLETE"),
        ("UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_IN_PROGRESS"),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_IN_PROGRESS"),
        ("REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS"),
        ("EXPORT_FAILED", "UPDATE_FAILED"),
        ("", "UPDATE_COMPLETE"),
    ],
)
def test_every_status_maps_to_a_published_one(given: str, expected: str):
    assert published_status(given) == expected
    assert render_event(own_event(given, TIME)).resource_status == expected


def test_every_known_status_maps_to_a_published_one():
    assert {published_status(status) for status in TYPE_BY_STATUS} <= set(STATUSES)


def test_the_reason_names_a_replaced_status():
    bare = render_event(own_event("ROLLBACK_COMPLETE", TIME))
    result = render_event(own_event("ROLLBACK_COMPLETE", TIME, resource_status_reason="by user"))
    plain = render_event(own_event("CREATE_COMPLETE", TIME, resource_status_reason="by user"))

    assert bare.resource_status_reason == "ROLLBACK_COMPLETE"
    assert result.resource_status_reason == "ROLLBACK_COMPLETE: by user"
    assert plain.resource_status_reason == "by user"


def test_raw_leaves_the_status_unchanged():
    visible = render_event(own_event("ROLLBACK_COMPLETE", TIME), raw=True)

    assert visible.resource_status == "ROLLBACK_COMPLETE"
    assert visible.resource_status_reason is None
