"""CloudFormation's stack events, and what becomes of them here."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidEvent
from deploylog.events.event import MAX_DATA_BYTES, MAX_MESSAGE_BYTES, NewEvent, check_event
from deploylog.events.scope import scope
from deploylog.events.times import parse_time
from deploylog.ingest.cloudformation.mapping import StackMapper
from deploylog.ingest.cloudformation.operations import Operation, apply_recorded, operations_of
from deploylog.ingest.cloudformation.parsing import (
    RecordedEvents,
    name_in,
    nested_arns,
    parse_stack_event,
)
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import (
    STACK_TYPE,
    TYPE_BY_STATUS,
    StackEvent,
    stack_event_of,
)
from support.cloudformation import arn_of, moment, stack_event
from support.paths import SAMPLES

ARN = arn_of("web")

CASES = SAMPLES / "cases"

#: Tells events in some way.
Tell = Callable[..., list[NewEvent]]


def frame(**fields: Any) -> StackContext:
    return StackContext(project="acme", arn=ARN, **fields)


def own(status: str, seconds: float, **fields: str | None) -> StackEvent:
    return stack_event(ARN, "web", status, seconds, **fields)


def bucket(status: str, seconds: float, **fields: str | None) -> StackEvent:
    return stack_event(ARN, "Bucket", status, seconds, **fields)


def record(events: Sequence[StackEvent], **fields: Any) -> list[NewEvent]:
    return StackMapper(frame(**fields)).map_events(events)


def deployment_of(event: NewEvent) -> str:
    return event.scopes[0].rpartition("/")[2]


def types_of(*events: StackEvent) -> list[str]:
    return [event.type for event in record(events)]


CREATED = (own("CREATE_IN_PROGRESS", 0), bucket("CREATE_COMPLETE", 1), own("CREATE_COMPLETE", 2))


def test_a_resource_event_keeps_all_that_was_told():
    told = bucket(
        "CREATE_FAILED",
        1.499,
        resource_status_reason="exists",
        resource_properties='{"BucketName":"x"}',
        client_request_token="Console-CreateStack-1",
    )

    _, event = record([own("CREATE_IN_PROGRESS", 0), told])

    assert (event.type, event.source) == ("resource.create.failed", "cloudformation")
    assert (event.producer_id, event.subject) == (told.event_id, "Bucket")
    assert (event.message, event.time) == ("exists", parse_time(moment(1.499)))
    assert event.resource is not None
    assert (event.resource.id_key, event.resource.id_value) == ("PhysicalResourceId", "bucket-1")
    assert stack_event_of(event) == told


@pytest.mark.parametrize("status", TYPE_BY_STATUS)
def test_a_status_of_a_resource_has_its_type(status: str):
    _, event = record([own("UPDATE_IN_PROGRESS", 0), bucket(status, 1)])

    assert event.type == TYPE_BY_STATUS[status]


def test_a_resource_that_does_not_exist_yet_has_no_id():
    _, event = record([own("CREATE_IN_PROGRESS", 0), bucket("X", 1, physical_resource_id="")])

    assert event.resource is not None
    assert (event.type, event.resource.id_key) == ("deployment.log", None)


def test_a_create_is_one_deployment():
    started, resource, completed = record(CREATED)

    assert [started.type, completed.type] == ["deployment.started", "deployment.completed"]
    assert len({started.scopes, resource.scopes, completed.scopes}) == 1
    assert msgspec.json.decode(started.data or b"")["operation"] == "create"


def test_whoever_reads_the_same_events_makes_the_same_of_them():
    assert record(CREATED) == record(CREATED)


@pytest.mark.parametrize(
    ("statuses", "end"),
    [
        (("CREATE_IN_PROGRESS", "CREATE_FAILED"), "deployment.failed"),
        (("CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED"), "deployment.failed"),
        (("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), "deployment.log"),
        (("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"), "deployment.completed"),
        (
            ("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
            "deployment.failed",
        ),
        (
            ("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"),
            "deployment.log",
        ),
        (("DELETE_IN_PROGRESS", "DELETE_FAILED"), "deployment.failed"),
        (("IMPORT_IN_PROGRESS", "IMPORT_ROLLBACK_COMPLETE"), "deployment.failed"),
        (("IMPORT_IN_PROGRESS", "IMPORT_COMPLETE"), "deployment.completed"),
        (("UPDATE_IN_PROGRESS", "SOMETHING_NEW"), "deployment.log"),
    ],
)
def test_a_status_of_the_stack_ends_its_operation_or_not(statuses: tuple[str, ...], end: str):
    events = [own(status, seconds) for seconds, status in enumerate(statuses)]

    told = record(events)

    assert [told[0].type, told[-1].type] == ["deployment.started", end]
    assert len({deployment_of(event) for event in told}) == 1


def test_a_failure_that_a_rollback_follows_is_not_the_end():
    types = types_of(
        own("CREATE_IN_PROGRESS", 0),
        own("CREATE_FAILED", 1),
        own("ROLLBACK_IN_PROGRESS", 2),
        own("ROLLBACK_COMPLETE", 3),
    )

    assert types == ["deployment.started", "deployment.log", "deployment.log", "deployment.failed"]


def test_a_rollback_by_hand_is_a_deployment_that_completes():
    told = record(
        [
            own("UPDATE_IN_PROGRESS", 0),
            own("UPDATE_ROLLBACK_FAILED", 1),
            own("UPDATE_ROLLBACK_IN_PROGRESS", 1_000),
            own("UPDATE_ROLLBACK_COMPLETE", 1_001),
        ]
    )

    assert [event.type.partition(".")[2] for event in told] == [
        "started", "failed", "started", "completed",
    ]  # fmt: skip
    assert len({deployment_of(event) for event in told}) == 2


def test_a_delete_that_completes_ends_the_stack():
    told = record([own("DELETE_IN_PROGRESS", 0), own("DELETE_COMPLETE", 1)])

    assert [event.type for event in told[1:]] == ["deployment.completed", "stack.deleted"]
    assert told[-1].scopes == (frame().stack_scope,)


def test_a_stack_that_is_deleted_while_it_is_created_has_two_deployments_that_end():
    told = record(
        [
            own("CREATE_IN_PROGRESS", 0),
            bucket("CREATE_IN_PROGRESS", 1),
            own("DELETE_IN_PROGRESS", 2),
            bucket("DELETE_COMPLETE", 3),
            own("DELETE_COMPLETE", 4),
        ]
    )

    first = deployment_of(told[0])
    assert [(event.type, deployment_of(event) == first) for event in told[:-1]] == [
        ("deployment.started", True),
        ("resource.create.started", True),
        ("deployment.failed", True),
        ("deployment.started", False),
        ("resource.delete.completed", False),
        ("deployment.completed", False),
    ]  # fmt: skip


def one_by_one(*events: StackEvent) -> list[NewEvent]:
    """What is told when each event is sent alone."""
    told: list[NewEvent] = []
    for event in events:
        told += StackMapper(frame(via="sns"), operations_of(told)).map_events([event])
    return told


def test_an_end_that_comes_before_its_beginning_is_that_operations():
    told = one_by_one(*CREATED, own("DELETE_COMPLETE", 9), own("DELETE_IN_PROGRESS", 8))

    assert [(o.verb, o.status) for o in operations_of(told)] == [
        ("create", "completed"), ("delete", "completed"),
    ]  # fmt: skip


def test_an_end_that_comes_after_the_next_beginning_is_the_end():
    started, _, completed = CREATED

    told = one_by_one(started, own("DELETE_IN_PROGRESS", 3), completed, own("DELETE_COMPLETE", 4))

    assert [o.status for o in operations_of(told)] == ["completed", "completed"]


def test_a_stack_deleted_while_it_is_created_has_two_ends_however_it_is_told():
    told = one_by_one(CREATED[0], own("DELETE_IN_PROGRESS", 3), own("DELETE_COMPLETE", 4))

    assert [o.status for o in operations_of(told)] == ["failed", "completed"]


# Failures


def messages(told: Sequence[NewEvent], *, type: str = "deployment.failed") -> list[str | None]:
    return [event.message for event in told if event.type == type]


EXISTS = "web-bucket already exists"

FAILED_UPDATE = (
    own("UPDATE_IN_PROGRESS", 0, resource_status_reason="User Initiated"),
    stack_event(
        ARN, "Other", "UPDATE_FAILED", 1, resource_status_reason="Resource update cancelled"
    ),
    bucket("UPDATE_FAILED", 1, resource_status_reason=EXISTS),
    stack_event(ARN, "Third", "UPDATE_FAILED", 2, resource_status_reason="later"),
    own("UPDATE_ROLLBACK_IN_PROGRESS", 3, resource_status_reason="The following failed: [Bucket]"),
    own("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", 4),
    own("UPDATE_ROLLBACK_COMPLETE", 5),
)


def test_an_update_that_failed_says_why_first_of_all():
    assert messages(record(FAILED_UPDATE)) == [EXISTS]


def test_what_failed_in_a_nested_stack_is_why():
    nested = arn_of("web-nested", 2)
    embedded = "Embedded stack was not successfully updated"

    told = record(
        [
            own("UPDATE_IN_PROGRESS", 0),
            stack_event(
                nested, "Queue", "UPDATE_FAILED", 1, resource_status_reason="no such queue"
            ),
            stack_event(ARN, "Nested", "UPDATE_FAILED", 2, resource_status_reason=embedded),
            own("UPDATE_ROLLBACK_COMPLETE", 3),
        ]
    )

    assert messages(told) == ["no such queue"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [("Cancelled by alice", "Cancelled by alice"), (None, "UPDATE_ROLLBACK_COMPLETE")],
)
def test_without_a_failure_of_a_resource_the_rollback_says_why(reason: str | None, message: str):
    told = record(
        [
            own("UPDATE_IN_PROGRESS", 0),
            bucket("UPDATE_FAILED", 1, resource_status_reason="Resource update cancelled"),
            own("UPDATE_ROLLBACK_IN_PROGRESS", 2, resource_status_reason=reason),
            own("UPDATE_ROLLBACK_COMPLETE", 3),
        ]
    )

    assert messages(told) == [message]


def test_an_update_that_went_well_after_all_has_no_reason():
    told = record(
        [
            own("UPDATE_IN_PROGRESS", 0),
            bucket("DELETE_FAILED", 1, resource_status_reason="not empty"),
            own("UPDATE_COMPLETE", 2),
        ]
    )

    assert messages(told, type="deployment.completed") == ["UPDATE_COMPLETE"]


# A create that is cleaned up


CLEANED = (
    own("CREATE_IN_PROGRESS", 0, resource_status_reason="User Initiated"),
    bucket("CREATE_IN_PROGRESS", 1),
    bucket("CREATE_FAILED", 2, resource_status_reason=EXISTS),
    own(
        "DELETE_IN_PROGRESS",
        3,
        resource_status_reason="The following resource(s) failed to create: [Bucket]. "
        "Delete requested by user.",
    ),
    bucket("DELETE_COMPLETE", 4),
    own("DELETE_COMPLETE", 5),
)


def in_order(*events: StackEvent) -> list[NewEvent]:
    return record(events)


def over_looks(*events: StackEvent) -> list[NewEvent]:
    """What a collector tells that sees one event at each look."""
    told: list[NewEvent] = []
    for event in events:
        operations = operations_of(told)
        apply_recorded(operations, told)
        told += StackMapper(frame(), operations).map_events([event])
    return told


def sent_alone(*events: StackEvent) -> list[NewEvent]:
    told: list[NewEvent] = []
    for event in events:
        operations = operations_of(told)
        apply_recorded(operations, told)
        told += StackMapper(frame(via="sns"), operations).map_events([event])
    return told


@pytest.mark.parametrize("tell", [in_order, over_looks, sent_alone])
def test_a_create_that_is_cleaned_up_is_a_failure_with_its_reason(tell: Tell):
    told = tell(*CLEANED)

    [created] = operations_of(told)
    assert (created.verb, created.status, created.message) == ("create", "failed", EXISTS)
    assert [event.type for event in told[-2:]] == ["deployment.failed", "stack.deleted"]
    assert len({deployment_of(event) for event in told[:-1]}) == 1


def test_a_failure_that_a_cleanup_follows_is_not_the_end():
    told = record([*CLEANED[:3], own("CREATE_FAILED", 2.5), *CLEANED[3:]])

    assert messages(told) == [EXISTS]
    assert "deployment.started" not in [event.type for event in told[1:]]


def test_a_cleanup_that_fails_is_a_failure_too():
    told = record([*CLEANED[:4], own("DELETE_FAILED", 5, resource_status_reason="not empty")])

    [created] = operations_of(told)
    assert (created.verb, created.status, created.message) == ("create", "failed", EXISTS)


def test_a_deletion_by_hand_after_a_failure_is_a_deployment_of_its_own():
    by_hand = own("DELETE_IN_PROGRESS", 3, resource_status_reason="User Initiated")

    told = record([*CLEANED[:3], by_hand, *CLEANED[4:]])

    assert [(o.verb, o.status) for o in operations_of(told)] == [
        ("create", "failed"), ("delete", "completed"),
    ]  # fmt: skip
    assert messages(told) == [EXISTS]


@pytest.mark.parametrize("tell", [over_looks, sent_alone])
def test_the_first_reason_is_known_whenever_the_end_is_told(tell: Tell):
    assert messages(tell(*FAILED_UPDATE)) == [EXISTS]


# Hooks


def hook(status: str, seconds: float, **fields: str | None) -> StackEvent:
    return bucket(
        "CREATE_IN_PROGRESS",
        seconds,
        hook_type="Private::Guard::Checks",
        hook_invocation_point="PRE_PROVISION",
        hook_status=status,
        **({"hook_failure_mode": "FAIL"} | fields),
    )


def test_the_events_of_a_hook_are_no_beginnings_and_its_reason_is_told():
    stacks = json.loads((CASES / "cfn-hook-failed.json").read_bytes())
    [(arn, stack)] = stacks.items()
    events = [parse_stack_event(event) for event in reversed(stack["events"])]

    told = StackMapper(StackContext(project="acme", arn=arn)).map_events(events)

    assert Counter(event.type for event in told)["resource.create.started"] == 1
    [refused] = [event for event in told if event.type == "deployment.error"]
    reason = "Hook failed with message: the rule bucket_is_encrypted failed"
    assert (refused.message, refused.subject) == (reason, "Bucket")
    assert told[-1].type == "deployment.failed"
    assert told[-1].message == reason
    assert msgspec.json.decode(refused.data or b"")["HookType"] == "Private::Guard::Checks"


@pytest.mark.parametrize(
    ("status", "mode", "expected"),
    [
        ("HOOK_IN_PROGRESS", "FAIL", "deployment.log"),
        ("HOOK_COMPLETE_SUCCEEDED", "FAIL", "deployment.log"),
        ("HOOK_COMPLETE_FAILED", "FAIL", "deployment.error"),
        ("HOOK_FAILED", "FAIL", "deployment.error"),
        ("HOOK_FAILED", None, "deployment.error"),
        ("HOOK_COMPLETE_FAILED", "WARN", "deployment.log"),
        ("HOOK_FAILED", "WARN", "deployment.log"),
    ],
)
def test_a_hook_that_fails_is_an_error_unless_it_only_warns(
    status: str, mode: str | None, expected: str
):
    _, told = record([own("CREATE_IN_PROGRESS", 0), hook(status, 1, hook_failure_mode=mode)])

    assert told.type == expected
    assert told.message == f"Private::Guard::Checks: {status}"


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_a_hook_of_the_stack_begins_nothing(status: str):
    about = {"hook_type": "A::B::C", "hook_status": "HOOK_IN_PROGRESS"}

    told = one_by_one(own(status, 0), own(status, 30, **about), own(status, 60, **about))

    assert [event.type for event in told] == [
        "deployment.started", "deployment.log", "deployment.log",
    ]  # fmt: skip


def test_a_hook_and_what_it_looks_at_are_told_apart():
    told = record([own("CREATE_IN_PROGRESS", 0), bucket("CREATE_IN_PROGRESS", 1)])

    assert RecordedEvents(told).find(by_eventbridge(hook("HOOK_IN_PROGRESS", 1))) is None


# A beginning that is told again


def test_a_beginning_of_the_same_request_is_told_again():
    told = one_by_one(
        own("UPDATE_IN_PROGRESS", 0, client_request_token="t"),
        own("UPDATE_IN_PROGRESS", 30, client_request_token="t"),
        own("UPDATE_COMPLETE", 60, client_request_token="t"),
    )

    assert [(o.verb, o.status) for o in operations_of(told)] == [("update", "completed")]


def test_a_beginning_of_another_request_is_another():
    told = one_by_one(
        own("UPDATE_IN_PROGRESS", 0, client_request_token="t"),
        own("UPDATE_IN_PROGRESS", 30, client_request_token="u"),
    )

    assert len(operations_of(told)) == 2


def test_a_review_belongs_to_the_stack_alone():
    [review, *_] = record([own("REVIEW_IN_PROGRESS", 0), *CREATED])

    assert (review.type, review.scopes) == ("deployment.log", (frame().stack_scope,))


def test_what_comes_before_its_beginning_belongs_to_what_begins_then():
    record = StackMapper(frame())
    early = record.map_events([bucket("UPDATE_COMPLETE", 1)])
    [started] = StackMapper(frame(), operations_of(early)).map_events(
        [own("UPDATE_IN_PROGRESS", 0)]
    )

    assert [event.type for event in early] == ["deployment.started", "resource.update.completed"]
    assert started.scopes == early[0].scopes


def test_an_operation_is_known_again_by_when_it_began():
    known = Operation(id="d1", verb="create", started=parse_time(moment(-1)))

    told = StackMapper(frame(), [known]).map_events(CREATED)

    assert {deployment_of(event) for event in told} == {"d1"}


def test_what_was_told_in_its_midst_belongs_to_the_operation_that_began_before_it():
    amid = record([bucket("UPDATE_IN_PROGRESS", 1_100)])
    history = [
        *CREATED,
        own("UPDATE_IN_PROGRESS", 500),
        own("UPDATE_COMPLETE", 501),
        own("UPDATE_IN_PROGRESS", 1_000),
        bucket("UPDATE_COMPLETE", 1_050),
        own("UPDATE_COMPLETE", 1_200),
    ]

    told = StackMapper(frame(), operations_of(amid)).map_events(history)

    places = [deployment_of(event) for event in told]
    assert places[5:] == [deployment_of(amid[0])] * 3
    assert len(set(places)) == 3
    assert [o.status for o in operations_of([*amid, *told])] == ["completed"] * 3


@pytest.mark.parametrize("verb", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("detail", ["CONFIGURATION_COMPLETE", None])
def test_a_beginning_that_is_told_again_is_no_other_operation(verb: str, detail: str | None):
    told = record(
        [
            own(f"{verb}_IN_PROGRESS", 0),
            bucket(f"{verb}_IN_PROGRESS", 1),
            own(f"{verb}_IN_PROGRESS", 20, detailed_status=detail),
            own(f"{verb}_COMPLETE", 40),
        ]
    )

    assert [event.type for event in told if event.subject == "web"] == [
        "deployment.started", "deployment.log", "deployment.completed",
    ]  # fmt: skip
    assert len({deployment_of(event) for event in told}) == 1


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_creation_is_one_however_it_is_told(order: tuple[int, ...]):
    events = [
        own("CREATE_IN_PROGRESS", 0),
        own("CREATE_IN_PROGRESS", 20),
        own("CREATE_COMPLETE", 40),
    ]

    told = one_by_one(*(events[place] for place in order))

    assert [o.status for o in operations_of(told)] == ["completed"]


def test_operations_that_follow_at_once_are_two():
    told = record(
        [
            *CREATED,
            own("UPDATE_IN_PROGRESS", 2.001),
            own("UPDATE_COMPLETE", 2.002),
            own("UPDATE_IN_PROGRESS", 2.002),
            own("UPDATE_COMPLETE", 2.003),
        ]
    )

    begun = [deployment_of(event) for event in told if event.type == "deployment.started"]
    assert len(set(begun)) == 3


def test_an_end_whose_time_eventbridge_has_cut_is_the_end_all_the_same():
    told = record([own("UPDATE_IN_PROGRESS", 1.6), by_eventbridge(own("UPDATE_COMPLETE", 1.9))])

    [operation] = operations_of(told)

    assert operation.status == "completed"


def test_operations_are_read_from_what_was_recorded():
    later = [own("UPDATE_IN_PROGRESS", 500), own("UPDATE_FAILED", 501)]
    told = record([*CREATED, *later])

    operations = operations_of(reversed(told))

    assert [(o.verb, o.status) for o in operations] == [
        ("create", "completed"), ("update", "failed"),
    ]  # fmt: skip


def test_events_of_a_nested_stack_go_into_the_deployment_of_the_outermost():
    inner = arn_of("web-Nested-X", 2)
    told = record(
        [
            own("CREATE_IN_PROGRESS", 0),
            stack_event(inner, "web-Nested-X", "CREATE_COMPLETE", 1),
            stack_event(inner, "Queue", "CREATE_COMPLETE", 1),
        ]
    )

    assert [event.type for event in told[1:]] == ["deployment.log", "resource.create.completed"]
    assert len({event.scopes for event in told}) == 1
    assert told[2].resource is not None
    assert told[2].resource.address == "web-Nested-X/Queue"


def test_a_stacks_own_events_tell_its_tags_and_no_others_do():
    inner = arn_of("web-Nested-X", 2)
    nested = stack_event(inner, "web-Nested-X", "CREATE_COMPLETE", 1)

    told = record([*CREATED[:2], nested, CREATED[2]], tags={"team": "hpc"})
    untold = record(CREATED)

    said = [stack_event_of(event) for event in told]
    assert [each and each.tags for each in said] == [{"team": "hpc"}, None, None, {"team": "hpc"}]
    assert not any(b"Tags" in bytes(event.data or b"") for event in untold)


def test_tags_are_not_taken_from_an_event():
    fields = {**msgspec.to_builtins(own("CREATE_COMPLETE", 1)), "Tags": "'team'='hpc'"}

    assert parse_stack_event(fields).tags is None


@pytest.mark.parametrize("logical", ["Nested", "web"])
def test_a_nested_stack_without_an_id_yet_is_not_the_stack_itself(logical: str):
    nested = stack_event(
        ARN, logical, "CREATE_IN_PROGRESS", 1, resource_type=STACK_TYPE, physical_resource_id=""
    )

    _, event = record([own("CREATE_IN_PROGRESS", 0), nested])

    assert event.type == "resource.create.started"
    assert nested_arns([nested, *CREATED]) == set()


def test_events_are_found_under_what_the_stack_makes_too():
    told = record(CREATED, scopes=(scope("cluster", "hpc"),), groups=("ops",), via="sns")

    assert {event.scopes[1] for event in told} == {"cluster/hpc"}
    assert {event.groups for event in told} == {("ops",)}
    assert {bytes(event.extensions or b"") for event in told} == {b'{"via":"sns"}'}


def test_what_is_too_long_for_an_event_is_left_out():
    told = bucket(
        "CREATE_FAILED",
        1,
        resource_properties="x" * MAX_DATA_BYTES,
        resource_status_reason="é" * MAX_MESSAGE_BYTES,
    )

    _, event = record([own("CREATE_IN_PROGRESS", 0), told])

    assert event.message is not None
    assert event.message.endswith("…")
    assert "ResourceProperties" not in msgspec.json.decode(event.data or b"")


# Reading


def test_boto3s_form_is_read_with_its_milliseconds():
    time = datetime(2022, 3, 31, 1, 26, 33, 499_000, timezone(timedelta(hours=2)))
    fields = msgspec.to_builtins(bucket("CREATE_COMPLETE", 1)) | {"Timestamp": time, "Other": 1}

    event = parse_stack_event(fields)

    assert event.timestamp == "2022-03-30T23:26:33.499Z"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"EventId": None}, "EventId"),
        ({"Timestamp": "yesterday"}, "Timestamp"),
        ({"LogicalResourceId": 3}, "LogicalResourceId"),
    ],
)
def test_what_is_no_stack_event_is_refused_by_field(change: dict[str, object], field: str):
    fields = msgspec.to_builtins(bucket("CREATE_COMPLETE", 1)) | change

    with pytest.raises(InvalidEvent) as raised:
        parse_stack_event(fields)

    assert raised.value.field == field


@pytest.mark.parametrize("arn", ["web", "arn:aws:cloudformation:x", f"{ARN}/more", "x:stack/a/b"])
def test_what_is_no_arn_of_a_stack_is_refused(arn: str):
    with pytest.raises(InvalidEvent):
        name_in(arn)


TEXTS = st.text(max_size=20) | st.sampled_from(["web", "é" * 2000, "a\0b", ARN, ""])

TIMES = st.datetimes(timezones=st.just(UTC)) | st.datetimes()

STATUSES = st.sampled_from(
    [*TYPE_BY_STATUS, "REVIEW_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"]
)

ANY_EVENT = st.fixed_dictionaries(
    {
        "StackId": st.sampled_from([ARN, arn_of("other", 2)]) | TEXTS,
        "EventId": TEXTS,
        "StackName": TEXTS,
        "LogicalResourceId": TEXTS,
        "ResourceType": st.sampled_from([STACK_TYPE, "AWS::S3::Bucket"]) | TEXTS,
        "Timestamp": TIMES,
        "ResourceStatus": STATUSES | TEXTS,
    },
    optional={
        "PhysicalResourceId": st.sampled_from([ARN]) | TEXTS,
        "ResourceStatusReason": TEXTS | st.integers(),
        "ResourceProperties": TEXTS,
        "ClientRequestToken": TEXTS,
    },
)


@given(st.lists(ANY_EVENT, max_size=6))
def test_any_stack_event_is_a_valid_event_or_refused(told: list[dict[str, Any]]):
    record = StackMapper(frame())

    for fields in told:
        try:
            events = record.map_events([parse_stack_event(fields)])
        except InvalidEvent:
            continue
        assert events
        for event in events:
            check_event(event)
            assert msgspec.json.decode(event.data or b"")


@given(st.lists(st.tuples(STATUSES, st.booleans(), st.integers(0, 500)), max_size=30))
def test_every_deployment_that_something_happens_in_began(
    told: list[tuple[str, bool, int]],
):
    in_order = sorted(told, key=lambda each: each[2])
    events = [
        own(status, seconds) if is_own else bucket(status, seconds)
        for status, is_own, seconds in in_order
    ]

    begun: set[str] = set()
    for event in record(events):
        if event.type == "deployment.started":
            begun.add(deployment_of(event))
        elif "/deployment/" in event.scopes[0]:
            assert deployment_of(event) in begun


# Known again


def by_eventbridge(event: StackEvent, id: str = "1") -> StackEvent:
    time = f"{event.timestamp[:19]}Z"
    return msgspec.structs.replace(event, event_id=f"eventbridge/{id}", timestamp=time)


def test_an_event_is_known_again_by_its_id():
    told = record(CREATED)

    assert RecordedEvents(told).find(CREATED[1]) == told[1]


@pytest.mark.parametrize("is_first", [True, False])
def test_what_eventbridge_told_is_the_same_whoever_came_first(is_first: bool):
    ours, theirs = bucket("CREATE_COMPLETE", 1.7), by_eventbridge(bucket("CREATE_COMPLETE", 1.7))
    first, second = (theirs, ours) if is_first else (ours, theirs)
    told = record([own("CREATE_IN_PROGRESS", 0), first])

    recorded = RecordedEvents(told)

    assert [recorded.find(second), recorded.find(second)] == [told[1], None]


def test_what_was_asked_for_by_another_request_is_not_the_same():
    theirs = by_eventbridge(bucket("CREATE_COMPLETE", 1, client_request_token="one"))
    told = record([own("CREATE_IN_PROGRESS", 0), theirs])
    ours = [bucket("CREATE_COMPLETE", 1, client_request_token=token) for token in ("two", None)]

    assert [RecordedEvents(told).find(event) for event in ours] == [None, told[1]]


@pytest.mark.parametrize(
    "other",
    [
        bucket("CREATE_COMPLETE", 30),
        bucket("CREATE_FAILED", 1),
        bucket("CREATE_COMPLETE", 1, physical_resource_id="another"),
        bucket("CREATE_COMPLETE", 1, resource_status_reason="another"),
    ],
)
def test_what_differs_is_not_the_same(other: StackEvent):
    told = record([own("CREATE_IN_PROGRESS", 0), by_eventbridge(bucket("CREATE_COMPLETE", 1))])

    assert RecordedEvents(told).find(other) is None
