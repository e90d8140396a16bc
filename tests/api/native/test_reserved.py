"""The log's own source is reserved at every endpoint that accepts events."""

import json
import uuid

import pytest

from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope
from deploylog.store.contract import Store
from support.factories import now
from support.servers import BATCH, DEPLOYMENTS, EVENTS, LINES, ONE, Local, event, line

STACKS = "/log/v1/stacks"

RESERVED = ["deploylog", "Deploylog", "deploylog/x", "deploylog:x", "deploylog?x", "deploylog#x"]


@pytest.mark.parametrize("source", RESERVED)
async def test_no_endpoint_accepts_an_event_of_the_logs_own_source(server: Local, source: str):
    one = event(source=source)
    binary = {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": source, "ce-type": "stack.deleted",
        "ce-scopes": "project/acme",
    }  # fmt: skip
    unsourced = {name: value for name, value in line().items() if name != "source"}
    by_query = f"{EVENTS}?source={source.replace('?', '%3F').replace('#', '%23')}"

    responses = [
        await server.post(one, ONE),
        await server.post([event(id="2"), one], BATCH),
        await server.post(f"{json.dumps(line())}\n{json.dumps(line(source=source))}"),
        await server.post(b"{}", "application/json", headers=binary),
        await server.post(json.dumps(unsourced), LINES, by_query),
    ]

    assert [response.status for response in responses] == [400] * 5
    assert {response.json["field"] for response in responses} == {"source"}
    assert [response.json.get("line") for response in responses] == [None, 2, 2, None, 1]
    assert (await server.get(EVENTS)).json["events"] == []


@pytest.mark.parametrize("source", ["deploylog-client", "deploylogs", "my/deploylog", "terraform"])
async def test_sources_that_resemble_the_logs_own_are_accepted(server: Local, source: str):
    response = await server.post(event(source=source), ONE)

    assert response.status == 201


async def test_a_stack_is_deleted_although_its_event_id_was_forged(server: Local, store: Store):
    opened = await server.open("web")
    stack = Scope(f"project/acme/stack/{opened['stack_id']}")
    # As a store of an earlier version may hold it.
    await store.log.append([forged(stack, f"{opened['stack_id']}/deleted")])

    deleted = await server.ask("DELETE", f"{STACKS}?project=acme&name=web")

    assert deleted.status == 204
    assert (await server.get(STACKS)).json["stacks"] == []


async def test_a_deployment_is_opened_although_its_event_id_was_forged(server: Local, store: Store):
    first, id = await server.open("web"), str(uuid.uuid4())
    path = Scope(f"project/acme/stack/{first['stack_id']}/deployment/{id}")
    await store.log.append([forged(path, f"{id}/started")])

    opened = await server.open("web", id=id)

    assert (opened["id"], opened["status"]) == (id, "running")


async def test_a_recorder_of_an_earlier_version_still_ends_a_lost_run(server: Local):
    opened = await server.open("web")
    end = {"type": "deployment.failed", "source": "deploylog", "id": f"{opened['id']}/lost"}
    path = f"{EVENTS}?deployment={opened['id']}"

    responses = [await server.post(json.dumps(end), LINES, path) for _ in range(2)]

    assert [response.status for response in responses] == [201, 201]
    assert responses[0].ids == responses[1].ids
    assert (await server.get(f"{DEPLOYMENTS}/{opened['id']}")).json["status"] == "failed"


@pytest.mark.parametrize(
    "other", [{"type": "deployment.completed"}, {"id": "x/lost"}, {"scopes": "project/acme"}]
)
async def test_no_other_event_is_accepted_under_that_source(server: Local, other: dict[str, str]):
    opened = await server.open("web")
    end = {"type": "deployment.failed", "source": "deploylog", "id": f"{opened['id']}/lost"}

    response = await server.post(
        json.dumps(end | other), LINES, f"{EVENTS}?deployment={opened['id']}"
    )

    assert (response.status, response.json["field"]) == (400, "source")


def forged(path: Scope, id: str) -> NewEvent:
    return NewEvent(
        type="note.made", source="deploylog", scopes=(path,), time=now(), producer_id=id
    )
