"""Bluelink's routes over a server that listens: change sets, instances, cleanups and errors."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploylog.auth.api_keys import make_key
from deploylog.deployments.changeset import Changes, ResourceChange, encode_changes
from deploylog.deployments.service import DeploymentService
from deploylog.events.access import ANONYMOUS, parse_grant
from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import deployment_scope, stack_scope
from deploylog.events.service import EventService
from deploylog.events.store import IdempotencyKey
from deploylog.events.streams import OpenStreams
from deploylog.events.times import SECOND
from deploylog.ingest.terraform.run import TerraformRun
from deploylog.store.contract import Store
from support.factories import changeset, new_event, now, plan_document, stack_created, unique
from support.paths import SAMPLES
from support.servers import Answer, Local, parse_frame, running
from support.waiting import until

CHANGES = "/v1/deployments/changes"
INSTANCES = "/v1/deployments/instances"

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[Local]:
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(2)))
    async with running(store, plan_folders=str(tmp_path)) as server:
        yield server


def asked(tmp_path: Path, **fields: object) -> dict[str, object]:
    """What is asked to be staged."""
    return {"directory": str(tmp_path), "blueprintFile": "plan.json", **fields}


async def posted(server: Local, body: object, **how: Any) -> Answer:
    return await server.post(body, "application/json", CHANGES, **how)


async def staged(server: Local, body: object) -> Any:
    """The change set, once it is there."""
    answer = await posted(server, body)
    assert answer.status == 202, answer.body
    path = f"{CHANGES}/{answer.json['data']['id']}"

    async def ended() -> Any:
        told = (await server.get(path)).json
        return told if told["status"] != "STAGING_CHANGES" else None

    return await until(ended)


async def key_of(store: Store, *grants: str) -> dict[str, str]:
    """The header of somebody who may so much."""
    key, secret = make_key(
        name=unique("key"), groups=(), grants=[parse_grant(grant) for grant in grants], now=now()
    )
    await store.credentials.add(key)
    return {"Bluelink-Api-Key": secret}


# Health


async def test_health_is_told_to_everybody(server: Local):
    await key_of(server.store, "admin:/")

    answer = await server.get("/v1/health")

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json) == ["timestamp"]
    assert abs(answer.json["timestamp"] - now() // 1_000_000_000) < 60
    assert (await server.get("/v1/health?x=1")).status == 401


# Staging


async def test_a_plan_file_is_staged(server: Local, tmp_path: Path):
    answer = await posted(server, asked(tmp_path, config={"providers": {"x": {"key": "s3cr3t"}}}))

    assert (answer.status, answer.headers["content-type"]) == (202, "application/json")
    told = answer.json["data"]
    assert (told["status"], told["changes"]["newResources"]) == ("STARTING", None)
    assert told["blueprintLocation"] == f"file://{tmp_path}/plan.json"
    assert "lastEventId" not in answer.json
    got = await server.get(f"{CHANGES}/{told['id']}")
    assert got.status == 200
    assert list(got.json["changes"]["newResources"]) == [
        "terraform_data.many[0]", "terraform_data.many[1]",
    ]  # fmt: skip


async def test_the_change_set_is_staged_in_the_end(server: Local, tmp_path: Path):
    whole = await staged(server, asked(tmp_path, instanceName="web"))

    assert (whole["status"], whole["destroy"]) == ("CHANGES_STAGED", False)
    assert "instanceId" not in whole
    stored = await server.store.changesets.get(whole["id"])
    assert (stored.project, stored.stack, stored.location) == (
        "default", "web", f"file://{tmp_path}/plan.json",
    )  # fmt: skip


async def test_the_same_request_is_staged_once(server: Local, tmp_path: Path):
    first = await staged(server, asked(tmp_path))

    again = await posted(server, asked(tmp_path))
    other = await posted(server, asked(tmp_path, instanceName="other"))

    assert again.json["data"]["id"] == first["id"]
    assert again.json["data"]["status"] == "STARTING"
    assert other.json["data"]["id"] != first["id"]


async def test_no_secret_of_the_configuration_is_stored(server: Local, tmp_path: Path):
    await staged(server, asked(tmp_path, config={"providers": {"x": {"secretKey": "hunter2"}}}))

    assert b"hunter2" not in _stored(tmp_path)


def _stored(folder: Path) -> bytes:
    files = list(folder.glob("log.db*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize("how", ["instanceId", "instanceName"])
async def test_an_instance_is_named_by_id_or_by_name(server: Local, tmp_path: Path, how: str):
    await server.store.log.append([stack_created("web", id=NOBODY)])
    value = NOBODY if how == "instanceId" else "web"

    whole = await staged(server, asked(tmp_path, **{how: value}))

    assert whole["instanceId"] == NOBODY
    stored = await server.store.changesets.get(whole["id"])
    assert (stored.project, stored.stack) == ("acme", "web")


async def test_the_id_wins_over_the_name(server: Local, tmp_path: Path):
    await server.store.log.append(
        [stack_created("web", id=NOBODY), stack_created("api", id="other")]
    )

    both = await staged(server, asked(tmp_path, instanceId=NOBODY, instanceName="api"))
    unknown = await posted(server, asked(tmp_path, instanceId="x", instanceName="api"))

    assert both["instanceId"] == NOBODY
    assert (unknown.status, unknown.json) == (404, {"message": 'instance "x" not found'})


async def test_an_unknown_id_is_told_only_after_the_plan_was_read(server: Local, tmp_path: Path):
    missing = asked(tmp_path, blueprintFile="missing.json", instanceId="x")

    answer = await posted(server, missing)

    assert answer.status == 400


async def test_of_several_of_a_name_that_of_our_project_is_meant(store: Store, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(1)))
    await store.log.append(
        [
            stack_created("web", id="ours", project="ours"),
            stack_created("web", id="theirs", project="theirs"),
        ]
    )

    for project, id in (("ours", "ours"), ("theirs", "theirs"), ("nobodys", "theirs")):
        options = {"plan_folders": str(tmp_path), "bluelink_project": project}
        async with running(store, **options) as server:
            assert (await server.get(f"{INSTANCES}/web")).json["id"] == id


@pytest.mark.parametrize("named", [{"instanceName": "x"}, {"instanceId": "x"}])
async def test_what_there_is_not_cannot_be_destroyed(
    server: Local, tmp_path: Path, named: dict[str, str]
):
    answer = await posted(server, asked(tmp_path, destroy=True, **named))

    assert answer.status == 404
    assert answer.body == b'{"message":"instance \\"x\\" not found"}'


async def test_a_plan_with_drift_stops_only_where_drift_is_checked(store: Store, tmp_path: Path):
    change = {"actions": ["update"], "before": {"input": "x"}, "after": {"input": "y"}}
    drifted = plan_document(1)["resource_changes"][0] | {"change": change}  # type: ignore[index]
    plan = plan_document(1, resource_drift=[drifted])
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    await store.log.append([stack_created("web")])
    statuses = {}

    for checks in (False, True):
        options = {"plan_folders": str(tmp_path), "bluelink_drift_check": checks}
        async with running(store, **options) as server:
            for fields in (
                {"instanceName": "web"},
                {"instanceName": "web", "skipDriftCheck": True},
                {"instanceName": "new"},
            ):
                whole = await staged(server, asked(tmp_path, **fields))
                statuses[checks, len(fields), fields["instanceName"]] = whole["status"]

    assert statuses.pop((True, 1, "web")) == "DRIFT_DETECTED"
    assert set(statuses.values()) == {"CHANGES_STAGED"}


async def test_who_may_not_write_cannot_stage(server: Local, tmp_path: Path):
    headers = await key_of(server.store, "read:/")

    answer = await posted(server, asked(tmp_path), headers=headers)

    assert answer.status == 403
    assert list(answer.json) == ["message"]


# What is wrong with a request


async def test_a_body_that_cannot_be_parsed(server: Local):
    for body in (b"", b"{", b"[]", b'{"destroy":"yes"}'):
        answer = await posted(server, body)
        assert answer.status == 400
        assert answer.body == b'{"message":"failed to parse the request body"}'


async def test_a_body_with_wrong_fields_ends_in_a_newline(server: Local):
    answer = await posted(server, {})

    assert (answer.status, answer.headers["content-type"]) == (422, "application/json")
    assert answer.body == (
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
async def test_a_plan_that_cannot_be_found(server: Local, tmp_path: Path, fields: dict[str, str]):
    answer = await posted(server, asked(tmp_path, **fields))

    assert answer.status == 400
    assert answer.body == b'{"message":"the provided blueprint could not be resolved"}'


async def test_a_web_address_without_a_host(server: Local, tmp_path: Path):
    answer = await posted(server, asked(tmp_path, fileSourceScheme="https"))

    assert answer.status == 400
    assert answer.json["message"].startswith("missing host in location metadata")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "resources:\n  a: b\n"])
async def test_a_file_that_is_no_plan(server: Local, tmp_path: Path, content: str):
    (tmp_path / "plan.json").write_text(content)

    answer = await posted(server, asked(tmp_path, instanceName="x", destroy=True))

    assert answer.status == 422
    assert not answer.body.endswith(b"\n")
    told = answer.json
    assert told["message"] == "failed to load the blueprint document specified in the request"
    [diagnostic] = told["validationDiagnostics"]
    assert (diagnostic["level"], bool(diagnostic["message"])) == (1, True)


async def test_a_name_that_no_stack_can_have(server: Local, tmp_path: Path):
    answer = await posted(server, asked(tmp_path, instanceName="x" * 129))

    assert answer.status == 400
    assert "128" in answer.json["message"]


async def test_who_shows_no_valid_credential(server: Local):
    await key_of(server.store, "admin:/")

    for path in (CHANGES + "/x", INSTANCES, CHANGES + "/x/stream", "/v1/events/cleanup/x"):
        answer = await server.get(path)
        assert answer.status == 401
        assert answer.body == b'{"message":"Unauthorized"}'
        assert "www-authenticate" not in answer.headers


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
async def test_what_there_is_not(server: Local, path: str, message: str):
    answer = await server.get(path)

    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json == {"message": message}


@pytest.mark.parametrize(
    "path",
    [
        f"{CHANGES}/", f"{CHANGES}/x/", f"{CHANGES}/x/stream/", f"{INSTANCES}/", "/v1/health/",
        "/v1/validations", "/v1/validations/x", "/v1/events", "/v1/deployments",
        f"{INSTANCES}/x/reconciliation/check",
    ],
)  # fmt: skip
async def test_a_path_that_nobody_knows_is_not_asked_for_credentials(server: Local, path: str):
    await key_of(server.store, "admin:/")

    answer = await server.get(path)

    assert answer.status == 404
    assert answer.body == b"404 page not found\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/v1/health"), ("HEAD", INSTANCES), ("HEAD", f"{CHANGES}/x/stream"),
        ("GET", CHANGES), ("DELETE", f"{CHANGES}/x"), ("POST", INSTANCES),
        ("PATCH", f"{INSTANCES}/x"), ("POST", f"{CHANGES}/x"), ("GET", "/v1/events/cleanup"),
        ("POST", f"{CHANGES}/cleanup/x"),
    ],
)  # fmt: skip
async def test_a_method_that_a_path_has_not_is_answered_with_nothing(
    server: Local, method: str, path: str
):
    await key_of(server.store, "admin:/")

    answer = await server.ask(method, path)

    assert (answer.status, answer.body) == (405, b"")


# Cleanups

CLEANUPS = {
    "/v1/deployments/changes": "changesets",
    "/v1/deployments/reconciliation-results": "reconciliation_results",
    "/v1/events": "events",
    "/v1/validations": "validations",
}


@pytest.mark.parametrize("base", CLEANUPS)
async def test_a_cleanup_runs_to_its_end(server: Local, base: str):
    begun = await server.ask("POST", f"{base}/cleanup")

    assert begun.status == 202
    [(name, operation)] = begun.json.items()
    assert (name, operation["cleanupType"], operation["status"]) == (
        "data", CLEANUPS[base], "running",
    )  # fmt: skip

    async def ended() -> Any:
        got = await server.get(f"{base}/cleanup/{operation['id']}")
        assert got.status == 200
        return got.json if got.json["status"] != "running" else None

    told = await until(ended)
    assert (told["status"], told["itemsDeleted"]) == ("completed", 0)
    assert told["endedAt"] >= told["startedAt"]
    others = [other for other in CLEANUPS if other != base]
    for other in others:
        assert (await server.get(f"{other}/cleanup/{operation['id']}")).status == 404


async def test_only_who_may_do_everything_may_clean_up(server: Local):
    headers = await key_of(server.store, "admin:project/acme")

    assert (await server.ask("POST", "/v1/events/cleanup", headers=headers)).status == 403


# Instances


async def recorded(server: Local, sample: str, *, stack: str = "web", operation: str) -> str:
    """A recorded run; the id of its deployment."""
    deployment = await server.open(stack, operation=operation)
    run = TerraformRun(deployment_id=deployment["id"])
    events = [
        event
        for told in (SAMPLES / sample).read_bytes().splitlines()
        for event in run.feed(told, now=now())
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
    await recorded(server, "02-apply-create.jsonl", operation="apply")

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
    await recorded(server, "02-apply-create.jsonl", operation="apply")
    before = (await server.get(f"{INSTANCES}/web/exports")).json
    await recorded(server, "10-destroy.jsonl", operation="destroy")

    state = (await server.get(f"{INSTANCES}/web")).json

    assert before == _outputs()
    assert (state["status"], state["exports"]) == (8, {})
    assert (await server.get(f"{INSTANCES}/web/exports")).json == {}


def _outputs() -> dict[str, Any]:
    """The exports, from the sample itself."""
    for line in (SAMPLES / "02-apply-create.jsonl").read_bytes().splitlines():
        told = json.loads(line)
        if told["type"] == "outputs" and all("action" not in o for o in told["outputs"].values()):
            return {
                name: {
                    "value": None if output["sensitive"] else output["value"],
                    "type": "string",
                    "field": f"outputs.{name}",
                }
                for name, output in told["outputs"].items()
            }
    return {}


async def test_what_a_failed_run_left_is_told(server: Local):
    await recorded(server, "05-apply-provisioner-failure.jsonl", operation="apply")

    state = (await server.get(f"{INSTANCES}/web")).json

    assert state["status"] == 3
    failed = [each for each in state["resources"].values() if each["status"] == 3]
    assert failed
    assert all(each["failureReasons"] for each in failed)


async def test_instances_are_listed(server: Local):
    await server.store.log.append([stack_created("api", id="api")])
    await recorded(server, "02-apply-create.jsonl", stack="web", operation="apply")
    await server.open("webshop", operation="apply")

    told = (await server.get(INSTANCES)).json

    assert told["totalCount"] == 3
    assert {each["name"]: each["status"] for each in told["instances"]} == {
        "api": 19, "web": 2, "webshop": 1,
    }  # fmt: skip
    deployed = {each["name"]: each.get("lastDeployedTimestamp") for each in told["instances"]}
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
async def test_a_list_shows_what_is_asked_for(
    server: Local, query: str, names: list[str], total: int
):
    for name in ("a-web", "b", "c-web"):
        await server.store.log.append([stack_created(name, id=name)])

    told = (await server.get(f"{INSTANCES}?{query}")).json

    assert ([each["name"] for each in told["instances"]], told["totalCount"]) == (names, total)


async def test_only_what_may_be_seen_is_an_instance(server: Local):
    await server.store.log.append(
        [stack_created("web"), stack_created("x", id="x", project="secret")]
    )
    headers = await key_of(server.store, "read:project/acme")

    told = (await server.get(INSTANCES, headers=headers)).json

    assert [each["name"] for each in told["instances"]] == ["web"]
    assert (await server.get(f"{INSTANCES}/x", headers=headers)).status == 404


async def test_a_stack_may_be_shown_by_any_of_its_scopes(server: Local):
    """Not only by its project, which is not readable then."""
    scopes = (stack_scope("acme", "stack-1"), "team/web")
    await server.store.log.append([new_event("stack.created", scopes=scopes, data={"name": "web"})])
    deployment = deployment_scope("acme", "stack-1", "1")
    for scopes in ((deployment, "team/web"), (f"{deployment}2",)):
        await server.store.log.append([new_event("deployment.started", scopes=scopes)])
    headers = await key_of(server.store, "read:team/web")

    told = (await server.get(INSTANCES, headers=headers)).json

    assert [(each["name"], each["status"]) for each in told["instances"]] == [("web", 1)]
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


async def test_the_log_tells_the_state_of_what_is_staged(server: Local, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(_replaced()))
    await server.store.log.append([stack_created("web")])
    await server.store.log.append([_of_resource("started", 10), _of_resource("completed", 14)])
    id = (await staged(server, asked(tmp_path, instanceName="web")))["id"]
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


async def test_who_may_not_see_the_events_is_not_told_the_state(server: Local, tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(_replaced()))
    await server.store.log.append([stack_created("web")])
    await server.store.log.append([_of_resource("completed", 14, groups=("ops",), elapsed=SECOND)])
    id = (await staged(server, asked(tmp_path, instanceName="web")))["id"]
    headers = await key_of(server.store, "read:project/acme")

    for path in (f"{CHANGES}/{id}", f"{CHANGES}/{id}/stream"):
        answer = await server.get(path, headers=headers)
        assert b'"specData":{"id":"i-1","size":1}' in answer.body
        assert b"lastDeployedTimestamp" not in answer.body
        assert b"durations" not in answer.body


async def test_deployments_of_a_stack_that_was_deleted_meanwhile(server: Local):
    await recorded(server, "02-apply-create.jsonl", operation="apply")
    events = EventService(server.store.log, server.hub, followers=OpenStreams(most=1))
    service = DeploymentService(events, server.store.catalog, clock=now)
    [stack] = await service.stacks(ANONYMOUS)
    await service.delete_stack(ANONYMOUS, "acme", "web")

    assert len(await service.deployments_of(ANONYMOUS, stack)) == 1


async def test_a_change_set_of_others_is_none(server: Local, tmp_path: Path):
    whole = await staged(server, asked(tmp_path))
    headers = await key_of(server.store, "read:project/other")

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


async def test_substitutions_are_escaped_in_every_answer(server: Local):
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
        answer = await server.get(path)
        assert answer.status == 200
        assert b"${" not in answer.body
        assert b"\\u0024{" in answer.body


async def test_too_many_streams_are_refused_for_a_while(store: Store):
    async with running(store, max_streams_per_principal=1) as server:
        await server.store.log.append([stack_created("web")])
        path = f"{INSTANCES}/web/stream"
        async with server.http.get(path, timeout=aiohttp.ClientTimeout(total=None)) as first:
            assert first.status == 200
            answer = await server.get(path)

    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert list(answer.json) == ["message"]


async def test_the_actor_is_who_asked(server: Local, tmp_path: Path):
    headers = await key_of(server.store, "admin:/")

    answer = await posted(server, asked(tmp_path), headers=headers)

    stored = await server.store.changesets.get(answer.json["data"]["id"])
    assert stored.actor
    assert stored.actor.startswith("key-")
