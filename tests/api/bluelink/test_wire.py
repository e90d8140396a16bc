"""Bluelink's wire format: requests, change sets and staging events, key by key."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploylog.api.bluelink.blueprint_changes import render_blueprint, render_path, render_resource
from deploylog.api.bluelink.errors import InvalidFields
from deploylog.api.bluelink.truncation import render_json
from deploylog.api.bluelink.wire import (
    CreateChangeset,
    Window,
    ends_staging,
    parse_create_changeset,
    parse_time_of_id,
    parse_window,
    render_accepted,
    render_changeset,
    render_cleanup,
    render_gap,
    render_staging_event,
)
from deploylog.deployments.changeset import (
    Changes,
    Diagnostic,
    FieldChange,
    OutputChange,
    ResourceChange,
    encode,
)
from deploylog.errors import InvalidInput, PlanNotFound
from deploylog.events.batch import Gap
from deploylog.events.event import Event, recorded_event
from deploylog.events.retention import Cleanup
from deploylog.events.times import LATEST, SECOND
from support.factories import changeset, new_event
from support.servers import parse_frame

GOLDEN = Path(__file__).parent / "golden"

TIME = 1_767_225_600 * SECOND

STACK = "0d8a4c1e-31f2-4a39-9a1c-7f1f5a1d9c11"


def staged(
    type: str,
    data: object = None,
    *,
    id: str = "01a1fc46-f892-78da-b64d-c3e9e9b817a3",
    scopes: tuple[str, ...] = ("changeset/1", "project/acme/changeset/1"),
    **fields: Any,
) -> Event:
    """An event of a change set."""
    new = new_event(type, scopes=scopes, time=TIME, **fields)
    raw = None if data is None else msgspec.Raw(data if isinstance(data, bytes) else encode(data))
    return recorded_event(msgspec.structs.replace(new, data=raw), position=1, id=id, recorded=TIME)


def change(action: str = "update", **fields: Any) -> ResourceChange:
    given = {"name": "t.a", "address": "t.a", "type": "t", "action": action, **fields}
    return ResourceChange(**given)


def resource_event(change: ResourceChange) -> dict[str, Any]:
    """The event of one resource, as its reader sees it."""
    frame = parse_frame(render_staging_event(staged("changeset.resource", change)))
    assert frame.event == "resourceChanges"
    return frame.data


def blueprint(*resources: ResourceChange, **fields: Any) -> dict[str, Any]:
    """All changes, as their reader sees them."""
    return json.loads(encode(render_blueprint(Changes(resources=resources, **fields), STACK)))


# Frames


def test_the_frames_of_the_worked_example_are_the_same_bytes():
    created = ResourceChange(
        name="bucket",
        address="bucket",
        type="t/x",
        action="create",
        after={"name": "b"},
        added=(FieldChange(path=("name",), after="b"),),
    )
    ended = staged("changeset.completed", Changes(), id="01a1fc46-f898-7657-b1b1-4a7b833e08f0")

    frames = [
        render_staging_event(staged("changeset.resource", created)),
        render_staging_event(ended),
    ]

    assert b"".join(frames) == (GOLDEN / "staging.sse").read_bytes()


def test_only_the_three_ends_end_a_stream():
    ends = [
        type
        for type in ("resource", "completed", "drift", "failed")
        if ends_staging(staged(f"changeset.{type}"))
    ]

    assert ends == ["completed", "drift", "failed"]


def test_an_error_follows_an_event_without_effect_in_one_write():
    frame = render_staging_event(staged("changeset.failed", message="no"))

    nothing, error, rest = frame.split(b"\n\n")
    assert nothing == b"event: heartbeat\ndata: {}"
    assert rest == b""
    assert error == (
        b"event: error\n"
        b'data: {"message":"no","diagnostics":[{"level":1,"message":"no"}],"timestamp":1767225600}'
        b"\nid: 01a1fc46-f892-78da-b64d-c3e9e9b817a3"
    )


def test_an_error_has_the_plans_errors():
    problems = (
        Diagnostic(level="warning", message="odd"),
        Diagnostic(level="error", message="first"),
        Diagnostic(level="error", message="second"),
    )
    event = staged("changeset.failed", Changes(problems=problems), message="first")

    error = parse_frame(render_staging_event(event).partition(b"\n\n")[2])

    assert error.data["diagnostics"] == [
        {"level": 1, "message": "first"},
        {"level": 1, "message": "second"},
    ]


def test_a_gap_has_no_id():
    frame = parse_frame(render_gap(Gap(after=1, floor=7, reason="expired")))

    assert (frame.event, frame.id) == ("gap", None)
    assert "7" in frame.data["message"]


@pytest.mark.parametrize("data", [b"{}", b"7", b'{"name":1}', b"[" * 5000 + b"]" * 5000, None])
@pytest.mark.parametrize("type", ["resource", "completed", "drift", "failed"])
def test_invalid_data_is_rendered_with_what_is_known(type: str, data: bytes | None):
    event = staged(f"changeset.{type}", data, subject="t.a", message="so")

    frame = render_staging_event(event)

    assert frame.endswith(b"\n\n")
    if type == "resource":
        assert parse_frame(frame).data["resourceName"] == "t.a"


# Substitutions


@pytest.mark.parametrize(
    "text", ["${aws:username}", "${", "a${b}c", "$${x}", "\\${x}", '"${x}"', "$", "{", "\\u0024{"]
)
def test_an_escaped_substitution_has_the_same_value(text: str):
    result = render_json({"key": text, text: [text]})

    assert b"${" not in result
    assert json.loads(result) == {"key": text, text: [text]}


def test_substitutions_are_escaped_in_frames_and_change_sets():
    field = FieldChange(path=("${x}", "policy"), before="${a}", after={"b": "${b}"})
    changed = change(before={"p": "${a}"}, after={"p": "${b}"}, modified=(field,))

    frame = render_staging_event(staged("changeset.resource", changed))
    document = render_changeset(changeset(), Changes(resources=(changed,)))

    assert b"${" not in frame
    assert b"${" not in document
    assert parse_frame(frame).data["changes"]["modifiedFields"][0]["prevValue"] == "${a}"


# Paths


@pytest.mark.parametrize(
    ("path", "rendered"),
    [
        ((), "spec"),
        (("name",), "spec.name"),
        (("a",), 'spec["a"]'),
        (("ab", "bc", 0, "x.y"), 'spec.ab.bc[0]["x.y"]'),
        (("_a", "a-b", "A1"), "spec._a.a-b.A1"),
        (("1a", "-a", "a b", ""), 'spec["1a"]["-a"]["a b"][""]'),
        (("ab\n",), 'spec["ab\n"]'),
        (("ä1",), 'spec["ä1"]'),
        (('say "x"',), 'spec["say "x""]'),
        ((0, 10), "spec[0][10]"),
    ],
)
def test_a_path_is_rendered_as_the_engine_renders_it(path: tuple[str | int, ...], rendered: str):
    assert render_path("spec", path) == rendered


# One resource


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"action": "none"}, (False, False, None, False)),
        ({"action": "create"}, (True, False, None, False)),
        ({"action": "update"}, (False, False, None, False)),
        ({"action": "replace"}, (False, False, None, True)),
        ({"action": "replace", "create_first": True}, (False, False, None, True)),
        ({"action": "delete"}, (False, True, "delete", False)),
        ({"action": "forget"}, (False, True, "retain", False)),
        ({"action": "create", "removes_from_state": True}, (True, False, None, False)),
        ({"action": "delete", "deposed": "ab"}, (False, True, "delete", False)),
    ],
)
def test_an_action_sets_the_engines_flags(fields: dict[str, Any], expected: tuple[Any, ...]):
    data = resource_event(change(**fields))

    flags = (data["new"], data["removed"], data.get("removalPolicy"))
    assert (*flags, data["changes"]["mustRecreate"]) == expected
    assert ("removalPolicy" in data) == data["removed"]


@pytest.mark.parametrize(
    ("fields", "buckets"),
    [
        ({"action": "none"}, {}),
        ({"action": "create"}, {"newResources": ["t.a"]}),
        ({"action": "update"}, {"resourceChanges": ["t.a"]}),
        ({"action": "replace"}, {"resourceChanges": ["t.a"]}),
        ({"action": "delete"}, {"removedResources": ["t.a"]}),
        ({"action": "forget"}, {"retainedResources": ["t.a"]}),
        (
            {"action": "create", "removes_from_state": True},
            {"newResources": ["t.a"], "retainedResources": ["t.a (forgotten)"]},
        ),
        (
            {"action": "delete", "name": "t.a (deposed ab)"},
            {"removedResources": ["t.a (deposed ab)"]},
        ),
    ],
)
def test_an_action_determines_the_place_among_all_changes(
    fields: dict[str, Any], buckets: dict[str, list[str]]
):
    result = blueprint(change(**fields))

    resources = ("newResources", "resourceChanges", "removedResources", "retainedResources")
    assert {kind: list(result[kind]) for kind in resources if result[kind]} == buckets


def test_every_kind_of_field_is_in_its_list():
    result = resource_event(
        change(
            added=(FieldChange(path=("added",), after=1),),
            modified=(FieldChange(path=("size",), before=1, after=2, replaces=True),),
            removed=(("gone", 0),),
            unchanged=(("same",),),
            known_on_deploy=(("later",),),
            computed=(("later",),),
        )
    )

    changes = result["changes"]
    assert changes["newFields"] == [
        {"fieldPath": "spec.added", "prevValue": None, "newValue": 1,
         "mustRecreate": False, "sensitive": False}
    ]  # fmt: skip
    assert changes["modifiedFields"] == [
        {"fieldPath": "spec.size", "prevValue": 1, "newValue": 2,
         "mustRecreate": True, "sensitive": False}
    ]  # fmt: skip
    assert changes["removedFields"] == ["spec.gone[0]"]
    assert changes["unchangedFields"] == ["spec.same"]
    assert changes["fieldChangesKnownOnDeploy"] == ["spec.later"]
    assert changes["computedFields"] == ["spec.later"]
    assert result["resolveOnDeploy"] == ["resources.t.a.spec.later"]


def test_a_field_of_a_new_resource_does_not_recreate_it():
    result = resource_event(
        change("create", added=(FieldChange(path=("size",), after=1, replaces=True),))
    )

    assert result["changes"]["newFields"][0]["mustRecreate"] is False


def test_sensitive_fields_are_marked():
    field = FieldChange(path=("password",), before="(sensitive value)", after=None, sensitive=True)

    [result] = resource_event(change(modified=(field,)))["changes"]["modifiedFields"]

    assert (result["sensitive"], result["prevValue"]) == (True, "(sensitive value)")


def test_a_change_has_the_resource_before_and_after():
    event = staged(
        "changeset.resource",
        change(id="i-1", before={"size": 1}, after={"size": 2}),
        scopes=("changeset/1", f"project/acme/stack/{STACK}/changeset/1"),
    )

    info = parse_frame(render_staging_event(event)).data["changes"]["appliedResourceInfo"]

    assert info == {
        "resourceId": "i-1",
        "resourceName": "t.a",
        "instanceId": STACK,
        "currentResourceState": {
            "id": "i-1",
            "name": "t.a",
            "type": "t",
            "instanceId": STACK,
            "status": 2,
            "preciseStatus": 3,
            "specData": {"size": 1},
            "failureReasons": [],
        },
        "resourceWithResolvedSubs": {"type": "t", "spec": {"size": 2}},
    }


def test_details_of_the_plan_are_in_the_resources_state():
    result = resource_event(
        change(
            key="0",
            address="t.a[0]",
            depends_on=("t.b",),
            before={"description": "old", "tags": {"team": "x"}, "display_name": "A"},
            after={"description": "new", "labels": {"team": "y"}, "annotations": {"n": "1"}},
        )
    )["changes"]["appliedResourceInfo"]

    state, planned = result["currentResourceState"], result["resourceWithResolvedSubs"]
    assert state["dependsOnResources"] == ["t.b"]
    assert state["templateName"] == "t.a"
    assert state["description"] == "old"
    assert state["metadata"] == {"displayName": "A", "labels": {"team": "x"}}
    assert planned["description"] == "new"
    assert planned["metadata"] == {"annotations": {"n": "1"}, "labels": {"team": "y"}}


def test_kubernetes_metadata_is_the_resources():
    block = [{"labels": {"app": "web", "tier": ""}, "annotations": {"a": "b"}, "name": "web"}]

    result = resource_event(change("create", after={"metadata": block}))["changes"][
        "appliedResourceInfo"
    ]

    assert result["resourceWithResolvedSubs"]["metadata"] == {
        "annotations": {"a": "b"},
        "labels": {"app": "web", "tier": ""},
    }


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"description": "", "tags": None, "labels": {}, "annotations": [], "metadata": "x"},
        {"description": "(sensitive value)", "tags": "(sensitive value)", "display_name": 1},
        {"tags": {"a": 1}, "metadata": [{"labels": {"a": None}}, {}]},
    ],
)
def test_unknown_details_of_a_resource_are_left_out(attributes: dict[str, Any]):
    result = resource_event(change(before=attributes, after=attributes))["changes"][
        "appliedResourceInfo"
    ]

    for each in result["currentResourceState"], result["resourceWithResolvedSubs"]:
        left_out = {"description", "metadata", "dependsOnResources", "templateName", "condition"}
        assert not left_out & set(each)


def test_a_tainted_resource_has_failed():
    result = resource_event(
        change("replace", reason="replace_because_tainted", before={}, after={})
    )

    state = result["changes"]["appliedResourceInfo"]["currentResourceState"]
    assert state["failureReasons"] == ["tainted"]


@pytest.mark.parametrize("action", ["delete", "forget"])
def test_a_removed_resource_has_its_state_only(action: str):
    result = resource_event(change(action, before={"size": 1}, removed=(("size",),)))["changes"]

    assert result["appliedResourceInfo"]["currentResourceState"]["specData"] == {"size": 1}
    assert result["appliedResourceInfo"]["resourceWithResolvedSubs"] is None
    assert not any(result[name] for name in result if name.endswith(("Fields", "Deploy")))


def test_a_replaced_object_is_not_the_new_resources_state():
    result = resource_event(
        change("create", removes_from_state=True, id="old", before={"id": "old"}, after={})
    )

    info = result["changes"]["appliedResourceInfo"]
    assert (info["resourceId"], info["currentResourceState"]) == ("", None)


def test_details_of_the_plan_are_separate():
    result = resource_event(
        change(
            "replace",
            create_first=True,
            previous_address="t.b",
            imported=True,
            import_id="i-1",
            reason="replace_because_cannot_update",
            provider="registry/x",
        )
    )

    assert result["plan"] == {
        "previousAddress": "t.b",
        "import": {"id": "i-1"},
        "reason": "replace_because_cannot_update",
        "provider": "registry/x",
        "order": ["create", "delete"],
    }
    assert resource_event(change("delete", deposed="ab"))["plan"] == {"deposed": "ab"}
    assert resource_event(change("create", removes_from_state=True))["plan"] == {"forgets": True}
    assert "plan" not in resource_event(change())


def test_no_condition_is_rendered():
    result = render_resource(change(after={}), instance_id="", timestamp=0)

    assert b'"condition"' not in encode(result)


def test_a_truncated_part_is_not_absent():
    abridged = resource_event(change(truncated=True))

    assert abridged["truncated"] is True
    resource = abridged["changes"]["appliedResourceInfo"]["resourceWithResolvedSubs"]
    assert resource == {"type": "t", "spec": None}


def test_numbers_keep_their_digits():
    after = b"[1.10,1e30,2,9007199254740993]"
    data = b'{"name":"t","address":"t","type":"t","action":"create","after":%b}' % after

    frame = render_staging_event(staged("changeset.resource", data))

    assert b'"spec":[1.10,1E+30,2,9007199254740993]' in frame
    assert Decimal("1E+30") == 10**30


# Everything at once


def test_outputs_are_exports():
    result = blueprint(
        outputs=(
            OutputChange(name="new", action="create", after=1),
            OutputChange(name="later", action="create", known_on_deploy=True),
            OutputChange(name="other", action="update", before=1, after=2, sensitive=True),
            OutputChange(name="same", action="none", before=1, after=1),
            OutputChange(name="gone", action="delete", before=1),
        )
    )

    assert result["newExports"] == {
        "new": {"fieldPath": "outputs.new", "prevValue": None, "newValue": 1,
                "mustRecreate": False, "sensitive": False},
        "later": {"fieldPath": "outputs.later", "prevValue": None, "newValue": None,
                  "mustRecreate": False, "sensitive": False},
    }  # fmt: skip
    assert result["exportChanges"]["other"]["sensitive"] is True
    assert result["unchangedExports"] == ["exports.same"]
    assert result["removedExports"] == ["exports.gone"]
    assert result["resolveOnDeploy"] == ["exports.later"]


def test_everything_known_on_deploy_is_listed():
    result = blueprint(
        change(known_on_deploy=(("id",), ("arn",))),
        outputs=(OutputChange(name="o", action="update", known_on_deploy=True),),
        data_sources=("data.x.y",),
    )

    assert result["resolveOnDeploy"] == [
        "resources.t.a.spec.id",
        "resources.t.a.spec.arn",
        "exports.o",
        "datasources.data.x.y",
    ]


def test_drift_and_warnings_are_beside_the_changes():
    drifted = change(before={"size": 1}, after={"size": 2})
    changes = Changes(drift=(drifted,), problems=(Diagnostic(level="warning", message="odd"),))

    data = parse_frame(render_staging_event(staged("changeset.completed", changes))).data

    assert data["warnings"] == [{"level": 2, "message": "odd"}]
    assert [each["resourceName"] for each in data["drift"]] == ["t.a"]
    whole = json.loads(render_changeset(changeset(), changes))
    assert (whole["drift"], whole["warnings"]) == (data["drift"], data["warnings"])


def test_drift_that_stops_is_a_reconciliation_result():
    event = staged(
        "changeset.drift",
        Changes(
            drift=(
                change(id="i-1", before={"size": 1}, after={"size": 2}),
                change("delete", name="t.b", before={}),
            )
        ),
        message="2 resources were changed outside of deployments",
    )

    data = parse_frame(render_staging_event(event)).data

    result = data["reconciliationResult"]
    assert data["message"] == "2 resources were changed outside of deployments"
    assert (data["timestamp"], result["links"]) == (1767225600, [])
    flags = (result["hasDrift"], result["hasInterrupted"], result["hasChildIssues"])
    assert flags == (True, False, False)
    changed, missing = result["resources"]
    assert changed.pop("changes")["appliedResourceInfo"]["resourceId"] == "i-1"
    assert changed == {
        "resourceId": "i-1",
        "resourceName": "t.a",
        "resourceType": "t",
        "type": "drift",
        "oldStatus": 3,
        "newStatus": 3,
        "externalState": {"size": 2},
        "persistedState": {"size": 1},
        "resourceExists": True,
        "recommendedAction": "accept_external",
    }
    assert (missing["resourceExists"], missing["newStatus"]) == (False, 9)


# Change sets


def test_an_accepted_change_set_is_starting_and_changes_nothing_yet():
    started = changeset(id="c", stack_id=STACK, destroy=True, location="file:///a/b", created=TIME)

    [(name, result)] = json.loads(render_accepted(started)).items()

    assert name == "data"
    changes = result.pop("changes")
    assert result == {
        "id": "c",
        "instanceId": STACK,
        "destroy": True,
        "status": "STARTING",
        "blueprintLocation": "file:///a/b",
        "created": 1767225600,
    }
    metadata = changes.pop("metadataChanges")
    assert set(changes.values()) | set(metadata.values()) == {None}
    assert {*changes, "metadataChanges"} == set(blueprint())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("staging", "STAGING_CHANGES"),
        ("staged", "CHANGES_STAGED"),
        ("drifted", "DRIFT_DETECTED"),
        ("failed", "FAILED"),
    ],
)
def test_a_change_set_has_the_engines_status(ours: str, theirs: str):
    result = json.loads(render_changeset(changeset(status=ours), Changes()))

    assert result["status"] == theirs
    assert "instanceId" not in result
    assert result["changes"]["newResources"] == {}


def test_a_change_set_has_no_limit():
    fields = tuple(FieldChange(path=(f"f{n}",), after="x" * 1000) for n in range(200))

    result = render_changeset(changeset(), Changes(resources=(change("create", added=fields),)))

    assert len(json.loads(result)["changes"]["newResources"]["t.a"]["newFields"]) == 200


def test_a_cleanup_leaves_out_unknown_fields():
    running = Cleanup(id="c", kind="changesets", status="running", started=TIME, threshold=SECOND)
    failed = msgspec.structs.replace(
        running, status="failed", ended=TIME + SECOND, deleted=3, error="no"
    )

    assert render_cleanup(running) == {
        "id": "c",
        "cleanupType": "changesets",
        "status": "running",
        "startedAt": 1767225600,
        "itemsDeleted": 0,
        "thresholdDate": 1,
    }
    result = render_cleanup(failed)
    assert (result["endedAt"], result["itemsDeleted"], result["errorMessage"]) == (
        1767225601,
        3,
        "no",
    )


# Requests


def parsed(**fields: object) -> CreateChangeset:
    return parse_create_changeset(json.dumps({"directory": "/plans", **fields}).encode())


def test_missing_fields_have_the_engines_defaults():
    request = parsed()

    assert (request.scheme, request.file) == ("file", "project.blueprint.yml")
    assert request.location == "file:///plans/project.blueprint.yml"
    assert (request.destroy, request.skip_drift_check, request.instance_id) == (False, False, "")


def test_names_are_matched_as_go_matches_them():
    body = b'{"DIRECTORY":"/plans","blueprintfile":"p.json","InstanceNAME":"web","DESTROY":true}'

    request = parse_create_changeset(body)

    assert (request.location, request.instance_name, request.destroy) == (
        "file:///plans/p.json", "web", True,
    )  # fmt: skip


def test_null_means_absent_and_unknown_fields_are_ignored():
    request = parsed(
        config=None,
        destroy=None,
        instanceId=None,
        fileSourceScheme=None,
        blueprintLocationMetadata=None,
        surprise=[1],
    )

    assert request == parsed()


def test_a_configuration_is_not_stored():
    request = parsed(config={"providers": {"aws": {"secretKey": "hunter2"}}})

    assert "hunter2" not in repr(request)
    assert request == parsed()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b'"x"', b"\xff", b"[" * 100_000, b'{"directory":"\xff"}',
        b'{"directory":7}', b'{"destroy":"true"}', b'{"destroy":1}', b'{"skipDriftCheck":"no"}',
        b'{"instanceId":[]}', b'{"config":"x"}', b'{"config":[]}',
        b'{"blueprintLocationMetadata":"x"}', b'{"blueprintFile":{}}', b"{} {}",
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_parsed_is_refused(body: bytes):
    with pytest.raises(InvalidInput, match=r"^failed to parse the request body$"):
        parse_create_changeset(body)


REQUIRED = (".directory", "missing required value", "required")
ABSOLUTE = (".directory", "the value must be an absolute path", "absolute_path")
ONE_OF = (
    ".fileSourceScheme",
    "the value must be one of the following: file s3 gcs azureblob https",
    "oneof",
)


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (b"{}", [REQUIRED]),
        (b"null", [REQUIRED]),
        (b'{"directory":""}', [REQUIRED]),
        (b'{"directory":"plans"}', [ABSOLUTE]),
        (b'{"directory":"/plans","fileSourceScheme":"ftp"}', [ONE_OF]),
        (b'{"fileSourceScheme":"FILE"}', [ONE_OF, REQUIRED]),
        (b'{"fileSourceScheme":"https"}', [REQUIRED]),
    ],
)
def test_invalid_fields_are_named(body: bytes, problems: list[tuple[str, str, str]]):
    with pytest.raises(InvalidFields) as caught:
        parse_create_changeset(body)

    named = [(each.location, each.message, each.type) for each in caught.value.problems]
    assert named == problems


@pytest.mark.parametrize("metadata", [None, {}, {"host": ""}, {"host": None}, {"host": 7}])
def test_a_url_needs_a_host(metadata: object):
    with pytest.raises(InvalidInput, match=r"^missing host in location metadata"):
        parsed(fileSourceScheme="https", blueprintLocationMetadata=metadata)


@pytest.mark.parametrize("scheme", ["s3", "gcs", "azureblob", "https"])
def test_only_files_can_be_resolved(scheme: str):
    with pytest.raises(PlanNotFound):
        parsed(fileSourceScheme=scheme, blueprintLocationMetadata={"host": "example.com"})


def test_a_window_selects_matching_items():
    names = ["web", "Webshop", "api", "web-2"]

    def visible(**query: str) -> tuple[list[str], int]:
        return parse_window(query).of(names, str)

    assert visible() == (names, 4)
    assert visible(search="WEB") == (["web", "Webshop", "web-2"], 3)
    assert visible(search="web", offset="1", limit="1") == (["Webshop"], 3)
    assert visible(offset="9") == ([], 4)


@pytest.mark.parametrize("text", ["-1", "x", "", "1.5", "²", "9" * 5000, " 1"])
def test_an_invalid_number_counts_as_zero(text: str):
    assert parse_window({"offset": text, "limit": text}) == Window()


@pytest.mark.parametrize(
    ("id", "moment"),
    [
        ("01a1fc46-f892-78da-b64d-c3e9e9b817a3", 0x01A1FC46F892 * 1_000_000),
        ("01A1FC46-F892-78DA-B64D-C3E9E9B817A3", 0x01A1FC46F892 * 1_000_000),
        ("ffffffff-ffff-4fff-bfff-ffffffffffff", LATEST),
        ("00000000-0000-0000-0000-000000000000", 0),
        ("x", None),
        ("7", None),
        ("0" * 2000, None),
        ("01a1fc46-f892-78da-b64d-c3e9e9b817a", None),
        ("\xff", None),
    ],
)
def test_an_id_contains_a_time(id: str, moment: int | None):
    assert parse_time_of_id(id) == moment
