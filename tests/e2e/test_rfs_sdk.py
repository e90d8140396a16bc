"""Huawei Cloud's own SDK against a running service that was told of a real Terraform run."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deploylog.api.rfs.wire import EVENT_TYPES
from deploylog.events.cloudevents import render_new_event
from deploylog.events.store import Query
from deploylog.ingest.terraform.run import TerraformRun
from deploylog.store.contract import Store
from support.factories import now
from support.paths import SAMPLES
from support.servers import EVENTS, LINES, Local, running
from support.waiting import PATIENCE

[SAMPLE] = (SAMPLES).glob("04*.jsonl")

Ask = Callable[..., Any]


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


@pytest.fixture
async def deployment(server: Local) -> Any:
    """A deployment whose run is recorded."""
    opened = await server.open(tool="terraform", operation="apply")
    run = TerraformRun(deployment_id=opened["id"])
    events = [e for line in SAMPLE.read_bytes().splitlines() for e in run.feed(line, now=now())]
    events += run.close(now=now(), exit_code=0)
    body = b"\n".join(render_new_event(event) for event in events)
    answer = await server.post(body, LINES, f"{EVENTS}?deployment={opened['id']}")
    assert answer.status == 201, answer.body
    return opened


@pytest.fixture
def ask(server: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask through the SDK, in a thread."""
    # Importing the SDK writes into the home directory.
    monkeypatch.setenv("HOME", str(tmp_path))
    from huaweicloudsdkaos.v1 import AosClient, ListStackEventsRequest
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    credentials = BasicCredentials("ak", "sk", "acme")
    builder = AosClient.new_builder().with_credentials(credentials)
    client = builder.with_endpoint(server.url).build()

    async def ask(
        stack_name: str = "web", *, request_id: str | None = None, **parameters: object
    ) -> Any:
        request = ListStackEventsRequest(
            client_request_id=request_id or str(uuid.uuid4()), stack_name=stack_name, **parameters
        )
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(client.list_stack_events, request)

    return ask


async def refusal(asked: Any) -> tuple[int, str]:
    """The status and code that the SDK raises."""
    from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException

    with pytest.raises(ServiceResponseException) as raised:
        await asked
    return raised.value.status_code, raised.value.error_code


async def of_the_deployment(server: Local, id: str) -> list[Any]:
    """What the log has of it that RFS knows, newest first."""
    events = await server.store.log.read(Query(limit=10_000))
    return [
        e
        for e in events
        if any(s.endswith(f"/deployment/{id}") for s in e.scopes) and e.type in EVENT_TYPES
    ]


async def test_everything_comes_newest_first(server: Local, deployment: Any, ask: Ask):
    answer = await ask()

    shown = answer.stack_events
    assert len(shown) > 20
    assert all(e.event_message for e in shown)
    assert [e.time for e in shown] == sorted((e.time for e in shown), reverse=True)
    assert len(shown) == len(await of_the_deployment(server, deployment["id"]))
    kinds = {e.event_type for e in shown}
    assert {"CREATION_COMPLETE", "DELETION_COMPLETE", "SUMMARY", "LOG"} <= kinds


async def test_an_event_says_what_terraform_said(deployment: Any, ask: Ask):
    answer = await ask(filter="event_type==CREATION_COMPLETE")

    applied = [
        json.loads(line)["hook"]
        for line in SAMPLE.read_bytes().splitlines()
        if json.loads(line)["type"] == "apply_complete"
        and json.loads(line)["hook"]["action"] == "create"
    ]
    shown = {
        (
            e.resource_type,
            e.resource_name,
            e.resource_id_key,
            e.resource_id_value,
            e.elapsed_seconds,
        )
        for e in answer.stack_events
    }
    assert applied
    assert shown == {
        (
            hook["resource"]["resource_type"],
            hook["resource"]["resource_name"],
            hook["id_key"],
            hook["id_value"],
            hook["elapsed_seconds"],
        )
        for hook in applied
    }


async def test_a_deployment_is_asked_for_by_its_id(server: Local, deployment: Any, ask: Ask):
    other = await server.open()

    own = await ask(deployment_id=deployment["id"], stack_id=deployment["stack_id"])
    of_other = await ask(deployment_id=other["id"])

    assert len(own.stack_events) == len(await of_the_deployment(server, deployment["id"]))
    assert [e.event_type for e in of_other.stack_events] == ["LOG"]


async def test_a_filter_is_and_over_or(deployment: Any, ask: Ask):
    everything = (await ask()).stack_events

    answer = await ask(
        filter="event_type==CREATION_COMPLETE|event_type==DELETION_COMPLETE,"
        "resource_type==terraform_data"
    )

    expected = [
        e.to_dict()
        for e in everything
        if e.event_type in ("CREATION_COMPLETE", "DELETION_COMPLETE")
        and e.resource_type == "terraform_data"
    ]
    assert expected
    assert [e.to_dict() for e in answer.stack_events] == expected


async def test_a_filter_that_is_not_valid_is_refused(deployment: Any, ask: Ask):
    assert await refusal(ask(filter="event_type=LOG")) == (400, "RF.10011088")
    assert await refusal(ask(filter="colour==red")) == (400, "RF.10011087")


async def test_only_the_fields_that_are_asked_for_come(deployment: Any, ask: Ask):
    answer = await ask(field="resource_name,time")

    assert answer.stack_events
    for event in answer.stack_events:
        given = {name for name, value in event.to_dict().items() if value is not None}
        assert given <= {"resource_name", "time", "event_type"}
        assert {"time", "event_type"} <= given


async def test_the_type_comes_however_often_it_is_asked_for(deployment: Any, ask: Ask):
    answer = await ask(field="event_type,resource_name,event_type")

    assert {e.event_type for e in answer.stack_events} > {"CREATION_COMPLETE", "LOG"}
    assert all(e.time is e.event_message is None for e in answer.stack_events)


@pytest.mark.parametrize("id", ["7", "build_7"])
async def test_a_request_id_need_not_be_a_uuid(deployment: Any, ask: Ask, id: str):
    assert (await ask(request_id=id)).stack_events


async def test_a_stack_id_of_before_is_refused(server: Local, deployment: Any, ask: Ask):
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")
    new = await server.open()

    assert await refusal(ask(stack_id=deployment["stack_id"])) == (400, "RF.10011015")
    assert len((await ask(stack_id=new["stack_id"])).stack_events) == 1


async def test_what_is_not_there_is_not_found(deployment: Any, ask: Ask):
    assert await refusal(ask(deployment_id=str(uuid.uuid4()))) == (404, "RF.10013003")
    assert await refusal(ask("nope")) == (404, "RF.10013001")


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_hold_everything_once_while_events_arrive(
    server: Local, deployment: Any, ask: Ask, limit: int
):
    everything = [e.to_dict() for e in (await ask()).stack_events]
    late = {"type": "deployment.log", "source": "terraform", "message": "late"}

    pages: list[Any] = []
    marker = None
    while not pages or marker is not None:
        page = await ask(limit=limit, marker=marker)
        pages.append([e.to_dict() for e in page.stack_events])
        marker = page.page_info.next_marker
        await server.append([late], f"{EVENTS}?deployment={deployment['id']}")

    found = [event for page in pages for event in page]
    assert all(len(page) == limit for page in pages[:-1])
    assert sorted(map(str, found)) == sorted(map(str, everything))
    assert not [event for event in found if event["event_message"] == "late"]


async def test_previous_markers_lead_back(deployment: Any, ask: Ask):
    first = await ask(limit=5)
    second = await ask(limit=5, marker=first.page_info.next_marker)

    back = await ask(limit=5, marker=second.page_info.previous_marker)

    assert [e.to_dict() for e in back.stack_events] == [e.to_dict() for e in first.stack_events]


async def test_a_marker_is_good_for_its_own_request_only(deployment: Any, ask: Ask):
    first = await ask(limit=5)

    marker = first.page_info.next_marker
    assert await refusal(ask(limit=5, marker=marker, filter="event_type==LOG")) == (
        400,
        "RF.10011038",
    )


async def test_without_paging_a_long_log_comes_whole(server: Local, deployment: Any, ask: Ask):
    lines = [{"type": "deployment.log", "source": "terraform"}] * 2500
    await server.append(lines, f"{EVENTS}?deployment={deployment['id']}")

    answer = await ask()

    assert len(answer.stack_events) == len(await of_the_deployment(server, deployment["id"]))
    assert answer.page_info.next_marker is None
