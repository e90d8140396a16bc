"""Bluelink's instances, at rest and live."""

import json
from typing import Any

import pytest

from deploylog.api.bluelink.channel import Channel
from deploylog.api.bluelink.instances import (
    History,
    is_mutating_event,
    render_exports,
    render_instance,
    render_summary,
)
from deploylog.api.bluelink.resources import ResourceRecord, fold
from deploylog.api.bluelink.truncation import MAX_FRAME_BYTES
from deploylog.deployments.catalog import Counts, Deployment, Stack
from deploylog.events.event import Event, Resource
from deploylog.events.scope import deployment_scope, stack_scope
from deploylog.events.times import MILLISECOND, SECOND
from support.factories import event
from support.servers import Frame, parse_frame

STACK = Stack(
    id="stack-1",
    project="acme",
    name="web",
    created=5 * SECOND,
    deleted=None,
    scopes=(stack_scope("acme", "stack-1"),),
    groups=(),
)


def deployment(
    id: str = "1", operation: str | None = "apply", status: str = "completed", **fields: Any
) -> Deployment:
    given: dict[str, Any] = {
        "project": "acme",
        "stack_id": "stack-1",
        "stack": "web",
        "started": 10 * SECOND,
        "ended": None if status == "running" else 20 * SECOND,
        "tool": None,
        "environment": None,
        "actor": None,
        "message": None,
        "counts": Counts(),
        "scopes": (deployment_scope("acme", "stack-1", id),),
        "groups": (),
    }
    return Deployment(id=id, operation=operation, status=status, **(given | fields))  # type: ignore[arg-type]


def history(*runs: str) -> History:
    """Of deployments such as ``apply completed``, oldest first."""
    deployments = [
        deployment(str(number), *each.split(), started=number * SECOND)
        for number, each in enumerate(runs, 1)
    ]
    return History(deployments[::-1])


def deployment_event(type: str, name: str | None = None, *, of: str = "1", **fields: Any) -> Event:
    """An event of a deployment."""
    resource = None
    if name is not None:
        id = fields.pop("id", None)
        resource = Resource(
            type="t",
            name=name,
            address=fields.pop("address", f"t.{name}"),
            id_key="id" if id else None,
            id_value=id,
        )
    scopes = (deployment_scope("acme", "stack-1", of),)
    return event(type=type, scopes=scopes, resource=resource, **{"time": 30 * SECOND, **fields})


def channel_of(history: History, *before: Event) -> Channel:
    """A channel that starts after the events ``before``."""
    return Channel("stack-1", history, fold({}, before))


def framed(channel: Channel, event: Event) -> Frame:
    return parse_frame(channel.frame(event))


# Status


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ([], 19),
        (["plan completed", "refresh failed"], 19),
        (["apply running"], 1),
        (["apply completed"], 2),
        (["apply failed"], 3),
        (["apply completed", "apply running"], 13),
        (["apply completed", "apply completed"], 14),
        (["apply completed", "apply failed"], 15),
        (["apply completed", "destroy running"], 7),
        (["apply completed", "destroy completed"], 8),
        (["apply completed", "destroy failed"], 9),
        (["apply failed", "apply running"], 1),
        (["apply completed", "destroy completed", "apply running"], 1),
        (["apply completed", "destroy failed", "apply running"], 13),
        (["apply completed", "plan running"], 2),
        (["apply completed", "plan completed", "apply completed"], 14),
    ],
)
def test_an_instance_has_the_status_of_its_last_deployment(runs: list[str], status: int):
    assert history(*runs).status == status
    assert render_summary(STACK, history(*runs))["status"] == status


def test_a_deployment_without_an_operation_deploys():
    assert History([deployment(operation=None)]).status == 2


def test_a_summary_has_the_time_of_the_last_deployment():
    assert render_summary(STACK, history("apply completed", "apply failed")) == {
        "id": "stack-1",
        "name": "web",
        "status": 15,
        "lastDeployedTimestamp": 20,
    }
    assert "lastDeployedTimestamp" not in render_summary(STACK, history("apply failed"))


# Resources


@pytest.mark.parametrize(
    ("type", "status", "precise"),
    [
        ("create.started", 1, 1),
        ("create.completed", 2, 3),
        ("create.failed", 3, 4),
        ("update.started", 7, 15),
        ("update.completed", 8, 17),
        ("update.failed", 9, 18),
        ("delete.started", 4, 8),
        ("delete.failed", 6, 10),
        ("delete.completed", 5, 9),
    ],
)
def test_a_resource_has_the_engines_statuses(type: str, status: int, precise: int):
    done = deployment_event(f"resource.{type}", "a", message="so")

    live = framed(channel_of(history("apply running")), done).data
    rest = [record.status for record in fold({}, [done]).values()]

    assert (live["status"], live["preciseStatus"]) == (status, precise)
    assert rest == ([] if type == "delete.completed" else [(status, precise)])
    assert live.get("failureReasons") == (["so"] if type.endswith("failed") else None)


def test_fold_returns_the_latest_state_of_each_resource():
    records = fold(
        {},
        [
            deployment_event("resource.create.started", "a", time=1 * SECOND),
            deployment_event("resource.create.started", "b", time=2 * SECOND),
            deployment_event(
                "resource.create.completed", "a", id="i-a", time=3 * SECOND, elapsed=SECOND
            ),
            deployment_event("resource.create.failed", "b", time=4 * SECOND, message="no"),
        ],
    )

    assert list(records.values()) == [
        ResourceRecord(
            name="t.a", id="i-a", type="t", status=(2, 3), updated=3, attempted=1, deployed=3,
            reasons=(), elapsed=SECOND,
        ),
        ResourceRecord(
            name="t.b", id=None, type="t", status=(3, 4), updated=4, attempted=2, deployed=None,
            reasons=("no",), elapsed=2 * SECOND,
        ),
    ]  # fmt: skip


def test_folding_page_by_page_equals_folding_at_once():
    events = [
        deployment_event(f"resource.{action}.{phase}", name, id=name)
        for name in ("a", "b", "c")
        for action in ("create", "update", "delete")
        for phase in ("started", "completed")
    ][:-2]

    records: dict[str, ResourceRecord] = {}
    for one in events:
        records = fold(records, [one])

    assert records == fold({}, events)
    assert list(records) == ["t.c"]


def test_deleting_a_replaced_object_leaves_its_replacement():
    records = fold(
        {},
        [
            deployment_event("resource.create.completed", "a", id="old"),
            deployment_event("resource.create.started", "a"),
            deployment_event("resource.create.completed", "a", id="new"),
            deployment_event("resource.delete.started", "a", id="old"),
            deployment_event("resource.delete.completed", "a", id="old"),
        ],
    )

    assert [(each.id, each.status) for each in records.values()] == [("new", (2, 3))]


def test_resources_that_share_an_id_are_all_included():
    records = fold(
        {},
        [
            deployment_event("resource.create.completed", "bucket", id="shop"),
            deployment_event("resource.create.completed", "policy", id="shop"),
            deployment_event("resource.create.started", "later"),
        ],
    )

    state: Any = render_instance(STACK, history("apply running"), records.values(), {})

    assert state["resourceIds"] == {
        "t.bucket": "shop",
        "t.policy": "t.policy",
        "t.later": "t.later",
    }
    assert {id: each["name"] for id, each in state["resources"].items()} == {
        "shop": "t.bucket",
        "t.policy": "t.policy",
        "t.later": "t.later",
    }


def test_an_instance_has_the_engines_keys():
    records = fold(
        {}, [deployment_event("resource.create.completed", "a", id="i-a", elapsed=2 * SECOND)]
    )

    state = render_instance(STACK, history("apply completed"), records.values(), {"o": {}})

    assert state == {
        "id": "stack-1",
        "name": "web",
        "status": 2,
        "lastStatusUpdateTimestamp": 20,
        "lastDeployedTimestamp": 20,
        "lastDeployAttemptTimestamp": 1,
        "resourceIds": {"t.a": "i-a"},
        "resources": {
            "i-a": {
                "id": "i-a",
                "name": "t.a",
                "type": "t",
                "instanceId": "stack-1",
                "status": 2,
                "preciseStatus": 3,
                "lastStatusUpdateTimestamp": 30,
                "lastDeployedTimestamp": 30,
                "lastDeployAttemptTimestamp": 30,
                "specData": None,
                "failureReasons": [],
                "durations": {"totalDuration": 2000.0, "attemptDurations": [2000.0]},
            }
        },
        "links": {},
        "metadata": {},
        "exports": {"o": {}},
        "childBlueprints": {},
        "durations": {"totalDuration": 19_000.0},
        "version": 1,
    }


def test_an_instance_without_deployments_is_rendered():
    state = render_instance(STACK, history(), [], {})

    assert (state["status"], state["lastStatusUpdateTimestamp"]) == (19, 5)
    assert not {"lastDeployedTimestamp", "lastDeployAttemptTimestamp", "durations"} & set(state)


# Exports


@pytest.mark.parametrize(
    ("output", "type", "value"),
    [
        ({"sensitive": False, "type": "string", "value": "x"}, "string", "x"),
        ({"sensitive": False, "type": "bool", "value": True}, "boolean", True),
        ({"sensitive": False, "type": "number", "value": 3}, "integer", 3),
        ({"sensitive": False, "type": "number", "value": 1.5}, "float", 1.5),
        ({"sensitive": False, "type": ["list", "string"], "value": ["a"]}, "array", ["a"]),
        ({"sensitive": False, "type": ["set", "string"], "value": ["a"]}, "array", ["a"]),
        ({"sensitive": False, "type": ["tuple", ["string"]], "value": ["a"]}, "array", ["a"]),
        ({"sensitive": False, "type": ["map", "string"], "value": {}}, "object", {}),
        ({"sensitive": False, "type": ["object", {}], "value": {}}, "object", {}),
        ({"sensitive": True}, "string", None),
        ({"sensitive": True, "type": "number", "value": 3}, "integer", None),
        ({}, "string", None),
    ],
)
def test_an_output_is_an_export(output: dict[str, Any], type: str, value: object):
    result = render_exports(deployment_event("deployment.outputs", data={"outputs": {"o": output}}))

    assert result == {"o": {"value": value, "type": type, "field": "outputs.o"}}


@pytest.mark.parametrize("data", [None, {}, 7, {"outputs": 7}, {"outputs": {"o": 7}}])
def test_invalid_outputs_are_no_exports(data: object):
    assert render_exports(deployment_event("deployment.outputs", data=data)) == {}
    assert render_exports(None) == {}


# Live


@pytest.mark.parametrize(
    ("runs", "starting", "completed", "failed"),
    [
        (["apply running"], 0, 2, 3),
        (["apply completed", "apply running"], 13, 14, 15),
        (["apply completed", "destroy running"], 7, 8, 9),
    ],
)
def test_a_deployment_starts_and_finishes(
    runs: list[str], starting: int, completed: int, failed: int
):
    channel = channel_of(history(*runs))
    last = str(len(runs))

    first = framed(channel, deployment_event("deployment.started", of=last))
    done = framed(channel, deployment_event("deployment.completed", of=last, message="fine"))
    broken = framed(channel, deployment_event("deployment.failed", of=last, message="no"))

    assert first.event == "instanceUpdate"
    assert first.data == {"instanceId": "stack-1", "status": starting, "updateTimestamp": 30}
    assert done.event == broken.event == "finish"
    assert done.data == {
        "instanceId": "stack-1",
        "status": completed,
        "finishTimestamp": 30,
        "updateTimestamp": 30,
        "durations": {"totalDuration": (30 - len(runs)) * 1000.0},
        "endOfStream": True,
    }
    assert (broken.data["status"], broken.data["failureReasons"]) == (failed, ["no"])


def test_a_deployment_that_turns_out_to_destroy_finishes_as_destroyed():
    channel = channel_of(history("apply running"))
    framed(channel, deployment_event("deployment.started", of="2"))

    done = [
        framed(
            channel, deployment_event("deployment.completed", of=of, data={"operation": "destroy"})
        )
        for of in ("1", "2")
    ]

    # The start of the first one named another operation.
    assert [frame.data["status"] for frame in done] == [2, 8]


def test_a_resource_has_the_engines_keys():
    failed = deployment_event(
        "resource.create.failed", "a", id="i-a", message="no", elapsed=1_500 * MILLISECOND
    )

    frame = framed(channel_of(history("apply running")), failed)

    assert frame.event == "resource"
    assert frame.id == failed.id
    assert frame.data == {
        "instanceId": "stack-1",
        "resourceId": "i-a",
        "resourceName": "t.a",
        "group": 0,
        "status": 3,
        "preciseStatus": 4,
        "failureReasons": ["no"],
        "attempt": 1,
        "canRetry": False,
        "updateTimestamp": 30,
        "durations": {"totalDuration": 1500.0, "attemptDurations": [1500.0]},
    }


@pytest.mark.parametrize("is_known", [True, False])
def test_an_action_without_a_duration_is_timed_from_its_start(is_known: bool):
    start = deployment_event("resource.create.started", "a", time=2 * SECOND)
    again = deployment_event("resource.create.started", "a", id="i-a", time=3 * SECOND)
    ended = deployment_event("resource.create.completed", "a", id="i-a", time=5 * SECOND)
    channel = channel_of(history("apply running"), *([start] if is_known else []))

    for each in [again] if is_known else [start, again]:
        channel.frame(each)
    live = framed(channel, ended).data
    state: Any = render_instance(
        STACK, history("apply running"), fold({}, [start, again, ended]).values(), {}
    )

    expected = {"totalDuration": 3000.0, "attemptDurations": [3000.0]}
    assert live["durations"] == state["resources"]["i-a"]["durations"] == expected


def test_the_start_of_another_action_does_not_time_an_action():
    start = deployment_event("resource.update.started", "a", time=2 * SECOND)
    ended = deployment_event("resource.create.completed", "a", id="i-a", time=5 * SECOND)

    [record] = fold({}, [start, ended]).values()

    assert record.elapsed is None


def test_a_resource_without_an_id_is_identified_by_its_name():
    channel = channel_of(history("apply running"))

    unnamed = framed(channel, deployment_event("resource.create.started", subject="x")).data
    named = framed(channel, deployment_event("resource.create.started", "a")).data

    assert (unnamed["resourceId"], unnamed["resourceName"]) == ("x", "x")
    assert (named["resourceId"], named["resourceName"]) == ("t.a", "t.a")


def test_non_mutating_deployments_are_left_out_and_end_no_stream():
    channel = channel_of(history("plan running"))
    learned = deployment_event("deployment.started", of="2", data={"operation": "refresh"})

    assert channel.frame(learned) == b""
    for of in ("1", "2"):
        for type in ("deployment.completed", "deployment.failed"):
            finished = deployment_event(type, of=of)
            assert channel.frame(finished) == b""
            assert not channel.is_end(finished)
    plan = history("plan completed")
    assert not is_mutating_event(deployment_event("deployment.completed"), plan.operations)


@pytest.mark.parametrize("operation", ["plan", "refresh"])
@pytest.mark.parametrize("type", ["completed", "failed"])
def test_a_deployment_whose_end_names_a_non_mutating_operation_ends_no_stream(
    type: str, operation: str
):
    data = {"operation": operation}
    for result, named in (([], None), (["apply completed"], None), ([], "apply")):
        before = [*history(*result).runs]
        channel = channel_of(history(*result))
        started = deployment_event("deployment.started", of="new", data={"operation": named})
        finished = deployment_event(f"deployment.{type}", of="new", data=data)

        channel.frame(started)
        assert channel.awaited == "new"

        # As in the catalog, the first operation named counts.
        assert bool(channel.frame(finished)) is channel.is_end(finished) is (named == "apply")
        assert (channel.awaited == "new") is (named == "apply")
        known = History([each.deployment for each in before]).operations
        assert is_mutating_event(finished, known) is False


def test_a_known_deployment_may_turn_out_to_be_non_mutating():
    unnamed = History([deployment("1", None, "running")])
    channel = channel_of(unnamed)
    finished = deployment_event("deployment.completed", data={"operation": "plan"})

    assert channel.frame(finished) == b""
    assert not channel.is_end(finished)
    assert channel.awaited is None
    assert not is_mutating_event(finished, unnamed.operations)


def test_the_last_deployment_started_is_awaited():
    channel = channel_of(history("apply running", "plan running", "apply running", "apply failed"))
    waiting = channel_of(history("apply completed"))

    assert (channel.awaited, waiting.awaited) == ("3", None)
    waiting.frame(deployment_event("deployment.started", of="x"))
    assert waiting.awaited == "x"
    channel.discard("3")
    assert channel.awaited == "1"


@pytest.mark.parametrize(
    ("runs", "operation", "status", "expected"),
    [
        ([], "apply", "completed", 2),
        ([], None, "failed", 3),
        ([], "destroy", "completed", 8),
        (["apply completed"], "apply", "completed", 14),
        (["apply completed"], "destroy", "failed", 9),
    ],
)
def test_a_finish_is_rendered_from_the_catalog(
    runs: list[str], operation: str | None, status: str, expected: int
):
    ended = deployment("new", operation, status, message="not for all")
    known = channel_of(History([ended, *(run.deployment for run in history(*runs).runs[::-1])]))
    learned = channel_of(history(*runs))
    learned.frame(deployment_event("deployment.started", of="new", data={"operation": operation}))

    frames = [parse_frame(channel.finish(ended)) for channel in (known, learned)]

    for frame in frames:
        assert (frame.event, frame.id) == ("finish", None)
        assert frame.data == {
            "instanceId": "stack-1",
            "status": expected,
            "finishTimestamp": 20,
            "updateTimestamp": 20,
            "durations": {"totalDuration": 10_000.0},
            "endOfStream": True,
        }


def _replaced() -> list[Event]:
    """A replacement that creates the new object before it deletes the old one."""
    return [
        deployment_event("resource.create.started", "a"),
        deployment_event("resource.create.completed", "a", id="new"),
        deployment_event("resource.delete.started", "a", id="old"),
        deployment_event("resource.delete.failed", "a", id="old", message="no"),
        deployment_event("resource.delete.completed", "a", id="old"),
    ]


@pytest.mark.parametrize("begin", range(5))
def test_the_delete_of_a_replaced_object_is_left_out(begin: int):
    events = [deployment_event("resource.create.completed", "a", id="old"), *_replaced()]
    channel = channel_of(history("apply running"), *events[: begin + 1])

    result = [channel.frame(event) for event in events[begin + 1 :]]

    statuses = [parse_frame(frame).data["status"] for frame in result if frame]
    assert statuses == [1, 2][begin:]


def test_a_delete_before_the_replacement_is_sent():
    channel = channel_of(
        history("apply running"), deployment_event("resource.create.completed", "a", id="old")
    )
    events = [
        deployment_event("resource.delete.completed", "a", id="old"),
        deployment_event("resource.create.completed", "a", id="new"),
        deployment_event("resource.delete.completed", "a", id="new"),
        deployment_event("resource.delete.completed", "a", id="unknown"),
        deployment_event("resource.delete.completed", "b", id="unknown"),
    ]

    assert [framed(channel, event).data["status"] for event in events] == [5, 2, 5, 5, 5]


@pytest.mark.parametrize(
    ("runs", "operation", "starting"),
    [
        ([], "apply", 0),
        ([], None, 0),
        (["apply completed"], "apply", 13),
        (["apply completed"], "destroy", 7),
        (["apply completed", "destroy completed"], "apply", 0),
    ],
)
def test_a_deployment_that_starts_later_is_tracked(
    runs: list[str], operation: str | None, starting: int
):
    channel = channel_of(history(*runs))
    started = deployment_event("deployment.started", of="new", data={"operation": operation})
    finished = deployment_event("deployment.completed", of="new", time=31 * SECOND)

    assert framed(channel, started).data["status"] == starting
    assert framed(channel, finished).data["durations"] == {"totalDuration": 1000.0}
    assert channel.is_end(finished)


@pytest.mark.parametrize("data", [None, 7, {"operation": 7}])
def test_a_start_without_an_operation_counts(data: object):
    channel = channel_of(history())

    assert (
        framed(channel, deployment_event("deployment.started", of="x", data=data)).data["status"]
        == 0
    )


@pytest.mark.parametrize("character", ["x", "漢", "\x01", "${"])
def test_a_long_message_is_truncated_to_fit_the_frame(character: str):
    channel = channel_of(history("apply running"))

    for type in ("deployment.failed", "resource.delete.failed"):
        frame = channel.frame(deployment_event(type, "a", message=character * 65_536))
        assert len(frame) <= MAX_FRAME_BYTES
        assert b"${" not in frame
        [reason] = json.loads(frame.split(b"\n")[1][6:])["failureReasons"]
        assert reason.endswith("…")
