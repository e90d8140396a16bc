"""Bluelink's routes over a server that listens: change sets, instances, cleanups and errors."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploylog.deployments.changeset import Changes, ResourceChange, encode_changes
from deploylog.deployments.service import DeploymentService
from deploylog.events.access import ANONYMOUS
from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import deployment_scope, stack_scope
from deploylog.events.service import EventService
from deploylog.events.store import IdempotencyKey
from deploylog.events.streams import OpenStreams
from deploylog.events.times import SECOND
from deploylog.ingest.terraform.run import TerraformRun
from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.factories import changeset, new_event, now, plan_document, stack_created, unique
from support.paths import SAMPLES
from support.servers import Answer, Local, parse_frame, running
from support.waiting import until

CHANGES = "/v1/deployments/changes"
INSTANCES = "/v1/deployments/instances"

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(2)))
    return {"plan_folders": str(tmp_path)}


def stage_request(tmp_path: Path, **fields: object) -> dict[str, object]:
    """A request to stage the plan."""
    return {"directory": str(tmp_path), "blueprintFile": "plan.json", **fields}


async def post_changeset(server: Local, body: object, **how: Any) -> Answer:
    return await server.post(body, "application/json", CHANGES, **how)


async def staged(server: Local, body: object) -> Any:
    """The change set, once it is there."""
    response = await post_changeset(server, body)
    assert response.status == 202, response.body
    path = f"{CHANGES}/{response.json['data']['id']}"

    async def ended() -> Any:
        result = (await server.get(path)).json
        return result if result["status"] != "STAGING_CHANGES" else None

    return await until(ended)


# Health


async def test_health_needs_no_credentials(server: Local):
    await key_headers(server.store, "admin:/", header="Bluelink-Api-Key")

    response = await server.get("/v1/health")

    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert list(response.json) == ["timestamp"]
    assert abs(response.json["timestamp"] - now() // 1_000_000_000) < 60
    assert (await server.get("/v1/health?x=1")).status == 401


# Staging


async def test_a_plan_file_is_staged(server: Local, tmp_path: Path):
    response = await post_changeset(
        server, stage_request(tmp_path, config={"providers": {"x": {"key": "s3cr3t"}}})
    )

    assert (response.status, response.headers["content-type"]) == (202, "application/json")
    result = response.json["data"]
    assert (result["status"], result["changes"]["newResources"]) == ("STARTING", None)
    assert result["blueprintLocation"] == f"file://{tmp_path}/plan.json"
    assert "lastEventId" not in response.json
    got = await server.get(f"{CHANGES}/{result['id']}")
    assert got.status == 200
    assert list(got.json["changes"]["newResources"]) == [
        "terraform_data.many[0]", "terraform_data.many[1]",
    ]  # fmt: skip


async def test_the_change_set_is_eventually_staged(server: Local, tmp_path: Path):
    whole = await staged(server, stage_request(tmp_path, instanceName="web"))

    assert (whole["status"], whole["destroy"]) == ("CHANGES_STAGED", False)
    assert "instanceId" not in whole
    stored = await server.store.changesets.get(whole["id"])
    assert (stored.project, stored.stack, stored.location) == (
        "default", "web", f"file://{tmp_path}/plan.json",
    )  # fmt: skip


async def test_the_same_request_is_staged_once(server: Local, tmp_path: Path):
    first = await staged(server, stage_request(tmp_path))

    again = await post_changeset(server, stage_request(tmp_path))
    other = await post_changeset(server, stage_request(tmp_path, instanceName="other"))

    assert again.json["data"]["id"] == first["id"]
    assert again.json["data"]["status"] == "STARTING"
    assert other.json["data"]["id"] != first["id"]


async def test_no_secret_of_the_configuration_is_stored(server: Local, tmp_path: Path):
    await staged(
        server, stage_request(tmp_path, config={"providers": {"x": {"secretKey": "hunter2"}}})
    )

    assert b"hunter2" not in _stored(tmp_path)


def _stored(folder: Path) -> bytes:
    files = list(folder.glob("log.db*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize("how", ["instanceId", "instanceName"])
async def test_an_instance_is_named_by_id_or_by_name(server: Local, tmp_path: Path, how: str):
    await server.store.log.append([stack_created("web", id=NOBODY)])
    value = NOBODY if how == "instanceId" else "web"

    whole = await staged(server, stage_request(tmp_path, **{how: value}))

    assert whole["instanceId"] == NOBODY
    stored = await server.store.changesets.get(whole["id"])
    assert (stored.project, stored.stack) == ("acme", "web")


async def test_the_id_wins_over_the_name(server: Local, tmp_path: Path):
    await server.store.log.append(
        [stack_created("web", id=NOBODY), stack_created("api", id="other")]
    )

    both = await staged(server, stage_request(tmp_path, instanceId=NOBODY, instanceName="api"))
    unknown = await post_changeset(
        server, stage_request(tmp_path, instanceId="x", instanceName="api")
    )

    assert both["instanceId"] == NOBODY
    assert (unknown.status, unknown.json) == (404, {"message": 'instance "x" not found'})


async def test_an_unknown_id_is_refused_after_the_plan_was_read(server: Local, tmp_path: Path):
    missing = stage_request(tmp_path, blueprintFile="missing.json", instanceId="x")

    response = await post_changeset(server, missing)

    assert response.status == 400


async def test_among_stacks_of_one_name_that_of_our_project_is_used(store: Store, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(1)))
    await store.log.append(
        [
            stack_created("web", id="ours", project="ours"),
            stack_created("web", id="theirs", project="theirs"),
        ]
    )

    for project, id in (("ours", "ours"), ("theirs", "theirs"), ("nobodys", "theirs")):
        options: dict[str, Any] = {"plan_folders": str(tmp_path), "bluelink_project": project}
        async with running(store, **options) as server:
            assert (await server.get(f"{INSTANCES}/web")).json["id"] == id


@pytest.mark.parametrize("named", [{"instanceName": "x"}, {"instanceId": "x"}])
async def test_an_unknown_instance_cannot_be_destroyed(
    server: Local, tmp_path: Path, named: dict[str, str]
):
    response = await post_changeset(server, stage_request(tmp_path, destroy=True, **named))

    assert response.status == 404
    assert response.body == b'{"message":"instance \\"x\\" not found"}'


async def test_drift_stops_a_plan_only_where_drift_is_checked(store: Store, tmp_path: Path):
    change = {"actions": ["update"], "before": {"input": "x"}, "after": {"input": "y"}}
    drifted = plan_document(1)["resource_changes"][0] | {"change": change}  # type: ignore[index]
    plan = plan_document(1, resource_drift=[drifted])
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    await store.log.append([stack_created("web")])
    statuses = {}

    for checks in (False, True):
        options: dict[str, Any] = {"plan_folders": str(tmp_path), "bluelink_drift_check": checks}
        async with running(store, **options) as server:
            for fields in (
                {"instanceName": "web"},
                {"instanceName": "web", "skipDriftCheck": True},
                {"instanceName": "new"},
            ):
                whole = await staged(server, stage_request(tmp_path, **fields))
                statuses[checks, len(fields), fields["instanceName"]] = whole["status"]

    assert statuses.pop((True, 1, "web")) == "DRIFT_DETECTED"
    assert set(statuses.values()) == {"CHANGES_STAGED"}


async def test_staging_requires_write_access(server: Local, tmp_path: Path):
    headers = await key_headers(server.store, "read:/", header="Bluelink-Api-Key")

    response = await post_changeset(server, stage_request(tmp_path), headers=headers)

    assert response.status == 403
    assert list(response.json) == ["message"]


# Invalid requests


async def test_an_invalid_body_is_refused(server: Local):
    for body in (b"", b"{", b"[]", b'{"destroy":"yes"}'):
        response = await post_changeset(server, body)
        assert response.status == 400
        assert response.body == b'{"message":"failed to parse the request body"}'


async def test_the_error_of_invalid_fields_ends_in_a_newline(server: Local):
    response = await post_changeset(server, {})

    assert (response.status, response.headers["content-type"]) == (422, "application/json")
    assert response.body == (
        b'{"message":"request body input validation failed","errors":[{"location":".directory",'
        b'"message":"missing required value","type":"required"}]}\n'
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"blueprintFile": "missing.json"},
        {"blueprintFile": "../plan.json"},
        {"directory": "/etc", "blueprintFile": "passwd"},
        {"fileSourceScheme": "s3"},
        {"blueprintFile": ""},
    ],
)
async def test_a_missing_plan_is_not_found(server: Local, tmp_path: Path, fields: dict[str, str]):
    response = await post_changeset(server, stage_request(tmp_path, **fields))

    assert response.status == 400
    assert response.body == b'{"message":"the provided blueprint could not be resolved"}'


async def test_a_url_without_a_host_is_refused(server: Local, tmp_path: Path):
    response = await post_changeset(server, stage_request(tmp_path, fileSourceScheme="https"))

    assert response.status == 400
    assert response.json["message"].startswith("missing host in location metadata")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "resources:\n  a: b\n"])
async def test_a_file_that_is_no_plan_is_refused(server: Local, tmp_path: Path, content: str):
    (tmp_path / "plan.json").write_text(content)

    response = await post_changeset(server, stage_request(tmp_path, instanceName="x", destroy=True))

    assert response.status == 422
    assert not response.body.endswith(b"\n")
    result = response.json
    assert result["message"] == "failed to load the blueprint document specified in the request"
    [diagnostic] = result["validationDiagnostics"]
    assert (diagnostic["level"], bool(diagnostic["message"])) == (1, True)


async def test_an_invalid_stack_name_is_refused(server: Local, tmp_path: Path):
    response = await post_changeset(server, stage_request(tmp_path, instanceName="x" * 129))

    assert response.status == 400
    assert "128" in response.json["message"]


async def test_invalid_credentials_are_refused(server: Local):
    await key_headers(server.store, "admin:/", header="Bluelink-Api-Key")

    for path in (CHANGES + "/x", INSTANCES, CHANGES + "/x/stream", "/v1/events/cleanup/x"):
        response = await server.get(path)
        assert response.status == 401
        assert response.body == b'{"message":"Unauthorized"}'
        assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{CHANGES}/x", 'change set "x" not found'),
        (f"{CHANGES}/x/stream", "Not found"),
        (f"{CHANGES}/{NOBODY}/stream?stream=messages", "Not found"),
        (f"{CHANGES}/cleanup", 'change set "cleanup" not found'),
        (f"{CHANGES}/cleanup/x", "cleanup operation with ID x not found"),
        ("/v1/events/cleanup/x", "cleanup operation with ID x not found"),
        (f"{INSTANCES}/x", 'blueprint instance "x" not found'),
        (f"{INSTANCES}/x%20y/exports", 'blueprint instance "x y" not found'),
        (f"{INSTANCES}/x/stream", 'blueprint instance "x" not found'),
    ],
)
async def test_unknown_ids_are_not_found(server: Local, path: str, message: str):
    response = await server.get(path)

    assert (response.status, response.headers["content-type"]) == (404, "application/json")
    assert response.json == {"message": message}


@pytest.mark.parametrize(
    "path",
    [
        f"{CHANGES}/", f"{CHANGES}/x/", f"{CHANGES}/x/stream/", f"{INSTANCES}/", "/v1/health/",
        "/v1/validations", "/v1/validations/x", "/v1/events", "/v1/deployments",
        f"{INSTANCES}/x/reconciliation/check",
    ],
)  # fmt: skip
async def test_an_unknown_path_needs_no_credentials(server: Local, path: str):
    await key_headers(server.store, "admin:/", header="Bluelink-Api-Key")

    response = await server.get(path)

    assert response.status == 404
    assert response.body == b"404 page not found\n"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/v1/health"), ("HEAD", INSTANCES), ("HEAD", f"{CHANGES}/x/stream"),
        ("GET", CHANGES), ("DELETE", f"{CHANGES}/x"), ("POST", INSTANCES),
        ("PATCH", f"{INSTANCES}/x"), ("POST", f"{CHANGES}/x"), ("GET", "/v1/events/cleanup"),
        ("POST", f"{CHANGES}/cleanup/x"),
    ],
)  # fmt: skip
async def test_an_unknown_method_has_an_empty_response(server: Local, method: str, path: str):
    await key_headers(server.store, "admin:/", header="Bluelink-Api-Key")

    response = await server.ask(method, path)

    assert (response.status, response.body) == (405, b"")


# Cleanups

CLEANUPS = {
    "/v1/deployments/changes": "changesets",
    "/v1/deployments/reconciliation-results": "reconciliation_results",
    "/v1/events": "events",
    "/v1/validations": "validations",
}


@pytest.mark.parametrize("base", CLEANUPS)
async def test_a_cleanup_runs_to_its_end(server: Local, base: str):
    started = await server.ask("POST", f"{base}/cleanup")

    assert started.status == 202
    [(name, operation)] = started.json.items()
    assert (name, operation["cleanupType"], operation["status"]) == (
        "data", CLEANUPS[base], "running",
    )  # fmt: skip

    async def ended() -> Any:
        got = await server.get(f"{base}/cleanup/{operation['id']}")
        assert got.status == 200
        return got.json if got.json["status"] != "running" else None

    result = await until(ended)
    assert (result["status"], result["itemsDeleted"]) == ("completed", 0)
    assert result["endedAt"] >= result["startedAt"]
    others = [other for other in CLEANUPS if other != base]
    for other in others:
        assert (await server.get(f"{other}/cleanup/{operation['id']}")).status == 404


async def test_cleanup_requires_admin_access_to_everything(server: Local):
    headers = await key_headers(server.store, "admin:project/acme", header="Bluelink-Api-Key")

    assert (await server.ask("POST", "/v1/events/cleanup", headers=headers)).status == 403


# Instances


async def record_run(server: Local, sample: str, *, stack: str = "web", operation: str) -> str:
    """A recorded run; the id of its deployment."""
    deployment = await server.open(stack, operation=operation)
    run = TerraformRun(deployment_id=deployment["id"])
    events = [
        event
        for result in (SAMPLES / sample).read_bytes().splitlines()
        for event in run.feed(result, now=now())
    ]
    events += run.close(now=now(), exit_code=None)
    stored = await server.store.catalog.deployment(deployment["id"])
    await server.store.log.append(
        [type(event)(**{**_fields(event), "scopes": stored.scopes}) for event in events]
    )
    return str(deployment["id"])


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


async def test_a_recorded_run_is_an_instance(server: Local):
    await record_run(server, "02-apply-create.jsonl", operation="apply")

    state = (await server.get(f"{INSTANCES}/web")).json

    assert (state["name"], state["status"], state["version"]) == ("web", 2, 1)
    by_name = {each["name"]: each for each in state["resources"].values()}
    assert set(by_name) == set(state["resourceIds"])
    assert len(by_name) == 9
    created = by_name['module.m["y"].terraform_data.inner']
    assert (created["status"], created["preciseStatus"]) == (2, 3)
    assert created["instanceId"] == state["id"]
    assert state["resourceIds"][created["name"]] == created["id"]
    assert (await server.get(f"{INSTANCES}/{state['id'].upper()}")).json == state


async def test_a_destroyed_instance_has_no_resources_and_no_exports(server: Local):
    await record_run(server, "02-apply-create.jsonl", operation="apply")
    before = (await server.get(f"{INSTANCES}/web/exports")).json
    await record_run(server, "10-destroy.jsonl", operation="destroy")

    state = (await server.get(f"{INSTANCES}/web")).json

    assert before == _outputs()
    assert (state["status"], state["exports"]) == (8, {})
    assert (await server.get(f"{INSTANCES}/web/exports")).json == {}


def _outputs() -> dict[str, Any]:
    """The exports, from the sample itself."""
    for line in (SAMPLES / "02-apply-create.jsonl").read_bytes().splitlines():
        result = json.loads(line)
        if result["type"] == "outputs" and all(
            "action" not in o for o in result["outputs"].values()
        ):
            return {
                name: {
                    "value": None if output["sensitive"] else output["value"],
                    "type": "string",
                    "field": f"outputs.{name}",
                }
                for name, output in result["outputs"].items()
            }
    return {}


async def test_an_instance_has_the_resources_of_a_failed_run(server: Local):
    await record_run(server, "05-apply-provisioner-failure.jsonl", operation="apply")

    state = (await server.get(f"{INSTANCES}/web")).json

    assert state["status"] == 3
    failed = [each for each in state["resources"].values() if each["status"] == 3]
    assert failed
    assert all(each["failureReasons"] for each in failed)


async def test_instances_are_listed(server: Local):
    await server.store.log.append([stack_created("api", id="api")])
    await record_run(server, "02-apply-create.jsonl", stack="web", operation="apply")
    await server.open("webshop", operation="apply")

    result = (await server.get(INSTANCES)).json

    assert result["totalCount"] == 3
    assert {each["name"]: each["status"] for each in result["instances"]} == {
        "api": 19, "web": 2, "webshop": 1,
    }  # fmt: skip
    deployed = {each["name"]: each.get("lastDeployedTimestamp") for each in result["instances"]}
    assert type(deployed.pop("web")) is int
    assert deployed == {"api": None, "webshop": None}


@pytest.mark.parametrize(
    ("query", "names", "total"),
    [
        ("search=WEB", ["c-web", "a-web"], 2),
        ("search=web&limit=1", ["c-web"], 2),
        ("offset=1", ["b", "a-web"], 3),
        ("offset=1&limit=1", ["b"], 3),
        ("offset=-1&limit=x&unknown=1", ["c-web", "b", "a-web"], 3),
        ("search=none", [], 0),
    ],
)
async def test_a_list_can_be_searched_and_paged(
    server: Local, query: str, names: list[str], total: int
):
    for name in ("a-web", "b", "c-web"):
        await server.store.log.append([stack_created(name, id=name)])

    result = (await server.get(f"{INSTANCES}?{query}")).json

    assert ([each["name"] for each in result["instances"]], result["totalCount"]) == (names, total)


async def test_only_visible_stacks_are_instances(server: Local):
    await server.store.log.append(
        [stack_created("web"), stack_created("x", id="x", project="secret")]
    )
    headers = await key_headers(server.store, "read:project/acme", header="Bluelink-Api-Key")

    result = (await server.get(INSTANCES, headers=headers)).json

    assert [each["name"] for each in result["instances"]] == ["web"]
    assert (await server.get(f"{INSTANCES}/x", headers=headers)).status == 404


async def test_a_stack_is_visible_through_any_of_its_scopes(server: Local):
    """Not only by its project, which is not readable then."""
    scopes = (stack_scope("acme", "stack-1"), "team/web")
    await server.store.log.append([new_event("stack.created", scopes=scopes, data={"name": "web"})])
    deployment = deployment_scope("acme", "stack-1", "1")
    runs: list[tuple[str, ...]] = [(deployment, "team/web"), (f"{deployment}2",)]
    for run in runs:
        await server.store.log.append([new_event("deployment.started", scopes=run)])
    headers = await key_headers(server.store, "read:team/web", header="Bluelink-Api-Key")

    result = (await server.get(INSTANCES, headers=headers)).json

    assert [(each["name"], each["status"]) for each in result["instances"]] == [("web", 1)]
    assert (await server.get(f"{INSTANCES}/web", headers=headers)).json["version"] == 1


def _replaced() -> dict[str, Any]:
    """A plan that replaces a resource of the stack."""
    values = {"id": "i-1", "size": 1}
    change = {
        "actions": ["delete", "create"], "before": values, "after": {"size": 2},
        "after_unknown": {"id": True},
    }  # fmt: skip
    resource = {
        "address": "t.a", "mode": "managed", "type": "t", "name": "a", "change": change,
    }  # fmt: skip
    return {"format_version": "1.2", "resource_changes": [resource]}


def _of_resource(phase: str, second: int, **fields: Any) -> NewEvent:
    scopes = (deployment_scope("acme", "stack-1", "1"),)
    resource = Resource(type="t", name="a", address="t.a", id_value="i-1")
    return new_event(
        f"resource.update.{phase}", scopes=scopes, resource=resource, time=second * SECOND, **fields
    )


async def test_a_change_set_has_the_recorded_state_of_its_resources(server: Local, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(_replaced()))
    await server.store.log.append([stack_created("web")])
    await server.store.log.append([_of_resource("started", 10), _of_resource("completed", 14)])
    id = (await staged(server, stage_request(tmp_path, instanceName="web")))["id"]
    await server.store.log.append([_of_resource("failed", 90, groups=("ops",))])

    whole = (await server.get(f"{CHANGES}/{id}")).json
    stream = await server.get(f"{CHANGES}/{id}/stream")

    change = whole["changes"]["resourceChanges"]["t.a"]
    assert change["appliedResourceInfo"]["currentResourceState"] == {
        "id": "i-1", "name": "t.a", "type": "t", "instanceId": "stack-1",
        "status": 8, "preciseStatus": 17,
        "lastStatusUpdateTimestamp": 14, "lastDeployedTimestamp": 14,
        "lastDeployAttemptTimestamp": 10,
        "specData": {"id": "i-1", "size": 1}, "failureReasons": [],
        "durations": {"totalDuration": 4000.0, "attemptDurations": [4000.0]},
    }  # fmt: skip
    frames = [parse_frame(raw).data for raw in stream.body.split(b"\n\n") if raw]
    assert [frame.get("changes") for frame in frames] == [change, whole["changes"]]


async def test_recorded_state_from_hidden_events_is_left_out(server: Local, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(_replaced()))
    await server.store.log.append([stack_created("web")])
    await server.store.log.append([_of_resource("completed", 14, groups=("ops",), elapsed=SECOND)])
    id = (await staged(server, stage_request(tmp_path, instanceName="web")))["id"]
    headers = await key_headers(server.store, "read:project/acme", header="Bluelink-Api-Key")

    for path in (f"{CHANGES}/{id}", f"{CHANGES}/{id}/stream"):
        response = await server.get(path, headers=headers)
        assert b'"specData":{"id":"i-1","size":1}' in response.body
        assert b"lastDeployedTimestamp" not in response.body
        assert b"durations" not in response.body


async def test_a_stack_deleted_meanwhile_has_no_instance(server: Local):
    await record_run(server, "02-apply-create.jsonl", operation="apply")
    events = EventService(
        server.store.log, server.hub, open_streams=OpenStreams(max_per_principal=1)
    )
    service = DeploymentService(events, server.store.catalog, clock=now)
    [stack] = await service.stacks(ANONYMOUS)
    await service.delete_stack(ANONYMOUS, "acme", "web")

    assert len(await service.deployments_of(ANONYMOUS, stack.id)) == 1


async def test_a_hidden_change_set_is_not_found(server: Local, tmp_path: Path):
    whole = await staged(server, stage_request(tmp_path))
    headers = await key_headers(server.store, "read:project/other", header="Bluelink-Api-Key")

    for path in (f"{CHANGES}/{whole['id']}", f"{CHANGES}/{whole['id']}/stream"):
        assert (await server.get(path, headers=headers)).status == 404


async def test_more_events_than_a_page_are_folded(server: Local):
    await server.store.log.append([stack_created("web")])
    scopes = (f"{stack_scope('acme', 'stack-1')}/deployment/1",)
    await server.store.log.append(
        [
            new_event(f"resource.create.{phase}", scopes=scopes, resource=f"r{number}")
            for number in range(1_200)
            for phase in ("started", "completed")
        ]
    )

    state = (await server.get(f"{INSTANCES}/web")).json

    assert len(state["resources"]) == 1_200
    assert {each["status"] for each in state["resources"].values()} == {2}


async def test_substitutions_are_escaped_in_every_response(server: Local):
    change = ResourceChange(
        name="t.a", address="t.a", type="t", action="create", after={"p": "${aws:username}"}
    )
    stored = await server.store.changesets.add(
        changeset(stack="${x}"),
        encode_changes(Changes(resources=(change,))),
        request=IdempotencyKey(key=unique(), fingerprint=b""),
        since=0,
    )
    await server.store.log.append([stack_created("${x}")])

    for path in (f"{CHANGES}/{stored.id}", INSTANCES, f"{INSTANCES}/stack-1"):
        response = await server.get(path)
        assert response.status == 200
        assert b"${" not in response.body
        assert b"\\u0024{" in response.body


async def test_too_many_streams_are_throttled(store: Store):
    async with running(store, max_streams_per_principal=1) as server:
        await server.store.log.append([stack_created("web")])
        path = f"{INSTANCES}/web/stream"
        async with server.http.get(path, timeout=aiohttp.ClientTimeout(total=None)) as first:
            assert first.status == 200
            response = await server.get(path)

    assert response.status == 429
    assert int(response.headers["retry-after"]) >= 1
    assert list(response.json) == ["message"]


async def test_the_actor_is_the_principal(server: Local, tmp_path: Path):
    headers = await key_headers(server.store, "admin:/", name="ann", header="Bluelink-Api-Key")

    response = await post_changeset(server, stage_request(tmp_path), headers=headers)

    stored = await server.store.changesets.get(response.json["data"]["id"])
    assert stored.actor == "ann"
