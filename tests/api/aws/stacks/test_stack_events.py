"""CloudFormation's stack events: the table, the ids, and events that are left out."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.aws.stacks.stack_events import (
    SYNTHESIZED,
    Action,
    action_of,
    alphanumeric,
    logical_id_of,
    recorded_stack_event,
    render_milliseconds,
    status_of,
    synthesize_stack_event,
)
from deploylog.deployments.catalog import Counts, Deployment
from deploylog.errors import InvalidInput
from deploylog.events.event import Event, Resource, check_event, recorded_event
from deploylog.events.scope import parse_scope
from deploylog.events.times import parse_time
from deploylog.ingest.cloudformation.stack_event import STATUS_BY_TYPE, TYPE_BY_STATUS, StackEvent
from support.factories import event
from support.stacks import own_event, recorded, stack_event

OWN = "arn:aws:cloudformation:us-east-1:000000000000:stack/web/00000000-0000-4000-8000-000000000001"
TIME = parse_time("2022-03-30T23:26:33.499Z")
RUN = "11111111-2222-4333-8444-555555555555"
IN_RUN = (f"project/acme/stack/stack-1/deployment/{RUN}",)

#: The expected mapping, section by section: our type, and CloudFormation's status.
TABLE = {
    "resource.create.started": "CREATE_IN_PROGRESS",
    "resource.create.completed": "CREATE_COMPLETE",
    "resource.create.failed": "CREATE_FAILED",
    "resource.update.started": "UPDATE_IN_PROGRESS",
    "resource.update.completed": "UPDATE_COMPLETE",
    "resource.update.failed": "UPDATE_FAILED",
    "resource.delete.started": "DELETE_IN_PROGRESS",
    "resource.delete.completed": "DELETE_COMPLETE",
    "resource.delete.failed": "DELETE_FAILED",
    "resource.delete.skipped": "DELETE_SKIPPED",
    "resource.import.started": "IMPORT_IN_PROGRESS",
    "resource.import.completed": "IMPORT_COMPLETE",
    "resource.import.failed": "IMPORT_FAILED",
}


def synthesize(
    type: str = "resource.create.started",
    *,
    actions: dict[str, Action | None] | None = None,
    **fields: Any,
) -> StackEvent:
    """The stack event of a new event."""
    result = synthesize_stack_event(
        event(type=type, time=TIME, **fields), arn=OWN, name="web", actions=actions or {}
    )
    assert result is not None
    return result


def log_event(said: StackEvent) -> Event:
    """The event that a collector recorded; its time is another one if the event's cannot be."""
    try:
        new = recorded(said, (parse_scope("image/my-image"),))
        check_event(new)
    except InvalidInput:
        new = recorded(msgspec.structs.replace(said, timestamp="2022-03-30T23:26:33.499Z"), ())
    new = msgspec.structs.replace(new, data=msgspec.Raw(msgspec.json.encode(said)))
    return recorded_event(new, position=1, id="1", recorded=1)


def deployment(operation: str | None = "apply", status: Any = "completed") -> Deployment:
    return Deployment(
        id=RUN, project="acme", stack_id="stack-1", stack="web", status=status, started=1,
        ended=None, tool=None, operation=operation, environment=None, actor=None, message=None,
        counts=Counts(), scopes=(), groups=(),
    )  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), TABLE.items())
def test_the_tables_of_statuses_are_inverse(ours: str, theirs: str):
    assert TYPE_BY_STATUS[theirs] == ours
    assert STATUS_BY_TYPE[ours] == theirs
    assert synthesize(ours).resource_status == theirs


@pytest.mark.parametrize("type", [t for t in STATUS_BY_TYPE if t.startswith("resource.rollback.")])
def test_a_rollback_becomes_a_deletion(type: str):
    request = SYNTHESIZED.matches(event(type=type))

    assert synthesize(type).resource_status.startswith("DELETE_")
    assert request == (not type.endswith(".progress"))


@pytest.mark.parametrize(
    "type",
    [
        "deployment.log",
        "deployment.error",
        "deployment.summary",
        "deployment.drift",
        "resource.read.completed",
        "resource.create.progress",
        "resource.create.skipped",
        "stack.created",
    ],
)
def test_the_filter_excludes_types_without_a_stack_event(type: str):
    assert not SYNTHESIZED.matches(event(type=type))


def test_every_type_in_the_filter_has_a_stack_event():
    for type in SYNTHESIZED.all_of[0].values:
        assert synthesize(type).resource_status


def test_a_resource_event_is_complete():
    resource = Resource(type="aws_vpc", name="main", id_key="id", id_value="vpc-1")

    created = event(
        type="resource.create.started",
        time=TIME,
        resource=resource,
        message="main: Creating...",
        scopes=IN_RUN,
    )

    result = synthesize_stack_event(created, arn=OWN, name="web", actions={})

    assert result == StackEvent(
        stack_id=OWN,
        event_id=f"AwsVpcMain-CREATE_IN_PROGRESS-{created.id}",
        stack_name="web",
        logical_resource_id="AwsVpcMain",
        physical_resource_id="vpc-1",
        resource_type="aws_vpc",
        timestamp="2022-03-30T23:26:33.499Z",
        resource_status="CREATE_IN_PROGRESS",
        resource_status_reason="main: Creating...",
        client_request_token=RUN,
    )


def test_unknown_fields_are_left_out_and_a_missing_id_is_empty():
    result = synthesize(resource=Resource(type="aws_vpc", name="main"))

    assert result.physical_resource_id == ""
    assert result.resource_status_reason is None
    assert result.client_request_token is None


@pytest.mark.parametrize(
    ("type", "status"),
    [
        ("deployment.started", "UPDATE_IN_PROGRESS"),
        ("deployment.completed", "UPDATE_COMPLETE"),
        ("deployment.failed", "UPDATE_FAILED"),
    ],
)
def test_a_deployment_becomes_events_of_the_stack_itself(type: str, status: str):
    result = synthesize(type, scopes=IN_RUN, actions={RUN: "UPDATE"})

    assert result.resource_status == status
    assert result.is_stack_itself
    assert (result.logical_resource_id, result.physical_resource_id) == ("web", OWN)
    assert re.fullmatch(r"[0-9a-f-]{36}", result.event_id)


def test_a_non_mutating_deployment_has_no_stack_events():
    plan = event(type="deployment.completed", scopes=IN_RUN)

    assert synthesize_stack_event(plan, arn=OWN, name="web", actions={RUN: None}) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"operation": "destroy"}, "DELETE_IN_PROGRESS"),
        ({"operation": "apply"}, "CREATE_IN_PROGRESS"),
        (None, "CREATE_IN_PROGRESS"),
        ({"operation": 7}, "CREATE_IN_PROGRESS"),
        ([], "CREATE_IN_PROGRESS"),
    ],
)
def test_outside_the_catalog_the_event_determines_the_action(data: object, status: str):
    result = synthesize("deployment.started", scopes=("image/my-image",), data=data)

    assert result.resource_status == status


@pytest.mark.parametrize(
    ("now", "before", "action"),
    [
        (deployment(), None, "CREATE"),
        (deployment(None), None, "CREATE"),
        (deployment(), deployment(), "UPDATE"),
        (deployment(), deployment("destroy"), "CREATE"),
        (deployment(), deployment("destroy", "failed"), "UPDATE"),
        (deployment("create"), deployment(), "CREATE"),
        (deployment("destroy"), deployment(), "DELETE"),
        (deployment("delete"), deployment(), "DELETE"),
        (deployment("plan"), None, None),
        (deployment("refresh"), deployment(), None),
    ],
)
def test_an_action_follows_from_the_previous_deployment(
    now: Deployment, before: Deployment | None, action: Action | None
):
    assert action_of(now, before) == action


def test_a_status_combines_action_and_phase():
    assert status_of(deployment(status="running"), "CREATE") == "CREATE_IN_PROGRESS"
    assert status_of(deployment(status="completed"), "UPDATE") == "UPDATE_COMPLETE"
    assert status_of(deployment(status="failed"), "DELETE") == "DELETE_FAILED"


@pytest.mark.parametrize(
    ("address", "id"),
    [
        ("aws_instance.web", "AwsInstanceWeb"),
        ("aws_s3_bucket.logs2", "AwsS3BucketLogs2"),
        ("aws_instance.web_server", "AwsInstanceWebServerNBZXHOKL"),
        ("aws_instance.web[0]", "AwsInstanceWeb05JTGKC2E"),
        ('aws_instance.web["vpc 2"]', "AwsInstanceWebVpc2ZGMLL3KM"),
        ("module.a.aws_instance.web", "AAwsInstanceWebRIZN6B45"),
        ('module.a["b"].aws_instance.web', "ABAwsInstanceWebKRAACKL6"),
    ],
)
def test_a_logical_id_is_readable_and_stable(address: str, id: str):
    resource = Resource(type="aws_instance", name="web", address=address)

    assert logical_id_of(resource) == id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("module.a.aws_instance.web", "module.b.aws_instance.web"),
        ("aws_instance.web", "aws_eip.web"),
        ("aws_eip.association_web", "aws_eip_association.web"),
        ("aws_instance.web_a", "aws_instance.weba"),
        ("aws_instance.web_a", "aws_instance.web-a"),
        ("aws_instance.web0", "aws_instance.web[0]"),
        ("aws_instance.web[0]", 'aws_instance.web["0"]'),
        ('aws_instance.web["a b"]', 'aws_instance.web["ab"]'),
        ('aws_instance.web["网络"]', 'aws_instance.web["子网"]'),
        (f"aws_instance.{'n' * 300}a", f"aws_instance.{'n' * 300}b"),
    ],
)
def test_different_addresses_have_different_logical_ids(one: str, other: str):
    ids = {logical_id_of(Resource(type="t", name="n", address=each)) for each in (one, other)}

    assert len(ids) == 2


WORDS = st.text("ab_1-", min_size=1, max_size=6)


@given(st.lists(st.tuples(WORDS, WORDS, st.none() | WORDS), unique=True, max_size=20))
def test_logical_ids_are_unique_without_addresses(parts: list[tuple[Any, ...]]):
    resources = [Resource(type=type, name=name, key=key) for type, name, key in parts]

    ids = {logical_id_of(resource) for resource in resources}

    assert len(ids) == len(resources)
    assert all(re.fullmatch("[A-Za-z0-9]{1,255}", id) for id in ids)


def test_a_name_of_cloudformations_own_types_is_the_logical_id():
    assert logical_id_of(Resource(type="AWS::EC2::Instance", name="HeadNode")) == "HeadNode"


@given(st.text())
def test_every_name_has_a_logical_id(name: str):
    assert re.fullmatch("[A-Za-z0-9]{1,255}", alphanumeric(name))


def test_names_that_lose_characters_stay_distinct():
    assert alphanumeric("web") == "web"
    assert len({alphanumeric(name) for name in ("网络", "子网", "a-b", "a.b", "ab")}) == 5
    assert alphanumeric("网络") == alphanumeric("网络")


def test_events_of_one_resource_at_one_time_have_different_ids():
    resource = Resource(type="aws_vpc", name="main")

    ids = {synthesize(resource=resource, position=position).event_id for position in (1, 2, 3)}

    assert len(ids) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2022-03-30T23:26:33.499Z", "2022-03-30T23:26:33.499Z"),
        ("2022-03-30T23:26:33Z", "2022-03-30T23:26:33.000Z"),
        ("2022-03-30T23:26:33.499999+00:00", "2022-03-30T23:26:33.499Z"),
        ("2022-03-31T01:26:33+02:00", "2022-03-30T23:26:33.000Z"),
    ],
)
def test_a_recorded_event_differs_only_in_the_form_of_its_time(given: str, expected: str):
    message = stack_event("CREATE_COMPLETE", "Role", "AWS::IAM::Role", given, event_id="e-1")

    result = recorded_stack_event(log_event(message))

    assert result is not None
    assert result.timestamp == expected
    assert result.event_id == "e-1"


@pytest.mark.parametrize(
    "time",
    ["yesterday", "0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"],
)
def test_an_invalid_time_is_replaced_by_the_events(time: str):
    message = own_event("CREATE_COMPLETE", time)

    result = recorded_stack_event(log_event(message))

    assert result is not None
    assert result.timestamp == "2022-03-30T23:26:33.499Z"


@pytest.mark.parametrize("data", [None, {}, {"StackId": 7}, [], "text"])
def test_other_data_under_cloudformations_source_has_no_stack_event(data: object):
    assert recorded_stack_event(event(source="cloudformation", data=data)) is None


def test_times_are_truncated_to_milliseconds():
    assert render_milliseconds(TIME + 999_999) == "2022-03-30T23:26:33.499Z"
