"""Real responses of every operation match the OpenAPI document."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from deploylog.api import APIS
from deploylog.api.openapi import document
from deploylog.events.scope import scope
from deploylog.store.contract import Store
from support.cloudformation import arn_of, stack_event
from support.plans import new_plan
from support.receivers import receiving
from support.servers import ONE, Answer, Local, event, running
from support.sns import TOPIC, PlayedSns, envelope, message_text, sns_message
from support.sources import flux
from support.stacks import NAME, collected, image_build, image_scope
from support.subscribers import LOOPBACK, SUBSCRIPTIONS, encryption_key_file, subscribe

CHANGESETS = "/log/v1/changesets"
CHANGES = "/v1/deployments/changes"
INSTANCES = "/v1/deployments/instances"
JSON = "application/json"
JSON_ENDS = ("/json", "+json")
REQUEST_ID = {"Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"}

OPERATIONS = {each.id: each for api in APIS for each in api.operations}

#: How each of them documents its errors.
ERRORS = {each.id: api.error for api in APIS for each in api.operations}

#: Operations whose successful response is JSON.
JSON_OPERATIONS = {
    id
    for id, each in OPERATIONS.items()
    if any(body.media.endswith(JSON_ENDS) for body in each.answers)
}


def test_no_json_body_is_declared_as_text():
    bodies = [
        (id, body.media)
        for id, each in OPERATIONS.items()
        for body in (*each.bodies, ERRORS[id])
        if body.media.endswith(JSON_ENDS) and body.type is None
    ]

    assert bodies == []


@pytest.fixture
def sns() -> PlayedSns:
    return PlayedSns()


@pytest.fixture
async def service(store: Store, tmp_path: Path, sns: PlayedSns) -> AsyncIterator[Local]:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "plan.json").write_text(json.dumps(new_plan()))
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
        "plan_folders": str(tmp_path / "plans"),
        "parallelcluster_regions": "us-east-1",
        "sns_topics": f"{TOPIC}=acme",
    }
    await store.log.append(collected(image_build(), beside=(image_scope(), scope("cluster", NAME))))
    async with running(store, fetch=sns.fetch, **options) as service:
        yield service


async def test_real_responses_fit_the_document(service: Local, tmp_path: Path, sns: PlayedSns):
    seen: dict[str, Answer] = {}

    async def ask(id: str, body: Any = None, type: str = JSON, /, **named: str) -> Any:
        operation = OPERATIONS[id]
        path = operation.path
        names = {name: value for name, value in named.items() if f"{{{name}}}" in path}
        request = "&".join(f"{n}={v}" for n, v in named.items() if n not in names)
        sent = {}
        if body is not None:
            sent["data"] = body if isinstance(body, bytes) else json.dumps(body)
        headers = {"Content-Type": type, **REQUEST_ID} if body is not None else REQUEST_ID
        url = path.format(**names) + (f"?{request}" if request else "")
        seen[id] = response = await service.ask(operation.method, url, headers=headers, **sent)
        assert response.status in {each.status for each in operation.answers}, (id, response.body)
        return response.json if response.body else None

    async with receiving() as receiver:
        await walk(service, ask, receiver.url, tmp_path)
    await walk_ingest(ask, sns)
    # The last, because a key ends anonymous access.
    await ask("addKey", {"name": "ci", "grants": ["read:project/acme"]})

    assert set(seen) >= JSON_OPERATIONS
    for id, response in seen.items():
        assert problems(id, response) == [], id


async def test_real_errors_fit_the_document(service: Local):
    for id, operation in OPERATIONS.items():
        if not ERRORS[id].media.endswith(JSON_ENDS) or operation.method not in (
            "GET",
            "DELETE",
        ):
            continue
        path = operation.path.replace("{", "").replace("}", "")
        response = await service.ask(operation.method, f"{path}?limit=x&nextToken=x&offset=x")

        if response.status >= 400 and response.body:
            assert problems(id, response) == [], id


async def walk(service: Local, ask: Any, url: str, tmp_path: Path) -> None:
    """Call every operation once, in an order in which each has data."""
    run = await ask("openDeployment", {"project": "acme", "stack": "web", "environment": "prod"})
    done = event(
        "resource.create.completed", id=str(uuid.uuid4()), resourcetype="x", resourcename="y",
        scopes=" ".join(run["scopes"]),
    )  # fmt: skip
    [receipt] = (await ask("appendEvents", done, ONE))["events"]
    await service.post(event("state.project.created", scopes="state/sp/se/web"), ONE)
    await ask("listEvents", explain="true")
    for id in ("countEvents", "countEventsByField", "countEventsOverTime"):
        await ask(id)
    await ask("getEvent", id=receipt["id"])
    for id in ("listProjects", "listStacks", "listDeployments", "listChangesets", "measureDora"):
        await ask(id)
    await ask("getDeployment", id=run["id"])
    await ask("waitForDeployment", id=run["id"], timeout="0")
    await ask("listKeys")
    staged = await ask("stagePlan", new_plan(), project="acme", stack="web")
    await ask("getChangeset", id=staged["id"])
    await ask("getChanges", id=staged["id"])
    await ask("ListStackEvents", project_id="acme", stack_name="web")
    await ask("bluelinkGetHealth")
    where = {"fileSourceScheme": "file", "directory": str(tmp_path / "plans")}
    accepted = await ask("bluelinkCreateChangeset", where | {"blueprintFile": "plan.json"})
    await ask("bluelinkGetChangeset", id=accepted["data"]["id"])
    await ask("bluelinkListInstances")
    await ask("bluelinkGetInstance", id=run["stack_id"])
    await ask("bluelinkGetExports", id=run["stack_id"])
    for kind in ("Changesets", "ReconciliationResults", "Events", "Validations"):
        start = await ask(f"bluelinkCleanUp{kind}")
        await ask(f"bluelinkGetCleanup{kind}", id=start["data"]["id"])
    await ask("getImageStackEvents", imageId=NAME, region="us-east-1")
    await ask("getClusterStackEvents", clusterName=NAME, region="us-east-1")
    await walk_escape(ask)
    await walk_subscriptions(service, ask, url, deployment=run["id"])


async def walk_ingest(ask: Any, sns: PlayedSns) -> None:
    arn = arn_of("db")
    notice = message_text(stack_event(arn, "db", "CREATE_IN_PROGRESS", 0))
    await ask("ingestEventBridge", envelope(arn, "CREATE_IN_PROGRESS"), project="acme")
    await ask("ingestSns", sns.sign(sns_message(notice)), "text/plain; charset=UTF-8")
    applied = flux("ReconciliationSucceeded", "info", "12:00:00")
    await ask("ingestFromSource", applied, source="flux", project="acme")


async def walk_escape(ask: Any) -> None:
    names = {"project": "sp", "environment": "se", "application": "ia", "version": "1.0"}
    for id in sorted(JSON_OPERATIONS):
        operation = OPERATIONS[id]
        if operation.tag == "escape" and operation.method == "GET":
            named = {
                name: value for name, value in names.items() if f"{{{name}}}" in operation.path
            }
            if operation.path.endswith("/deployment"):
                named["deployment"] = "web"
            await ask(id, **named)
    await ask("escapePutSubscriptions", {}, project="sp")


async def walk_subscriptions(service: Local, ask: Any, url: str, *, deployment: str) -> None:
    target = {"name": "ops", "kind": "webhook", "url": url}
    subscribed = await subscribe(service, url)
    for id in sorted(JSON_OPERATIONS):
        operation = OPERATIONS[id]
        if operation.tag != "subscriptions":
            continue
        if operation.path.startswith("/log/v1/deployments/"):
            await ask(id, id=deployment)
            continue
        if operation.path == SUBSCRIPTIONS:
            await ask(id, target if operation.method == "POST" else None)
            continue
        bodies: dict[str, Any] = {
            "redeliver": {"since": "-1h"}, "rotate-secret": {}, "{id}": {"name": "other"},
        }  # fmt: skip
        last = operation.path.rpartition("/")[2]
        body = bodies.get(last) if operation.method != "GET" else None
        await ask(id, body, id=subscribed["id"])


def problems(id: str, response: Answer) -> list[str]:
    """The differences between the response and the document."""
    whole = document()
    operation = OPERATIONS[id]
    described = whole["paths"][operation.path][operation.method.lower()]["responses"]
    declared = described.get(str(response.status), described["default"]).get("content", {})
    if not declared:
        return [] if not response.body else ["there is a body"]
    [(media, content)] = declared.items()
    if not media.endswith(JSON_ENDS):
        return []
    if response.headers["content-type"].partition(";")[0] != media:
        return [response.headers["content-type"]]
    schema = {"components": whole["components"], **content["schema"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(response.json)]


def test_names_of_parameters_differ_in_letters_and_digits():
    """Generators make identifiers of them."""
    for id, operation in OPERATIONS.items():
        names = [re.sub(r"\W", "_", each.name).strip("_").lower() for each in operation.parameters]
        assert len(set(names)) == len(names), id


def test_no_operation_takes_an_object_or_an_array():
    """A client could not tell by its class which of them a body is."""
    schemas = document()["components"]["schemas"]
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            content = described.get("requestBody", {}).get("content", {})
            kinds = {_kind(each["schema"], schemas) for each in content.values()}
            assert not {"object", "array"} <= kinds, (method, path)


def _kind(schema: Any, schemas: Any) -> str:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return str(schema.get("type"))


def test_times_of_the_native_api_are_times():
    """By their names: all but texts such as ``2h`` are RFC 3339."""
    times = {"time", "recordedtime", "started", "ended", "created", "deleted", "revoked", "expires",
             "since", "until", "committed", "failing_since", "next_try", "first_try"}  # fmt: skip
    texts = {("RedeliverBody", "since")}
    schemas = document()["components"]["schemas"]
    for name in sorted(_reached(schemas)):
        for field, schema in schemas[name].get("properties", {}).items():
            if field in times and (name, field) not in texts:
                choices = schema.get("anyOf", [schema])
                assert "date-time" in {each.get("format") for each in choices}, (name, field)


def _reached(schemas: Any) -> set[str]:
    """The names of the schemas that the native API uses."""
    operations = [
        described
        for path, methods in document()["paths"].items()
        if path.startswith("/log/v1/") and "/ingest/" not in path
        for described in methods.values()
    ]
    found: set[str] = set()
    left = set(re.findall(r'#/components/schemas/([^"]+)', json.dumps(operations)))
    while left:
        found |= left
        text = json.dumps([schemas[name] for name in left])
        left = set(re.findall(r'#/components/schemas/([^"]+)', text)) - found
    return found
