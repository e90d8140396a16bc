"""A real Terraform, recorded by the command line into a real service."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploylog.store.contract import Store
from support.servers import DEPLOYMENTS, EVENTS, Frame, Local, Stream, running
from support.terraform import Workplace, applied, finished, require_terraform

SCOPE = "project/acme"


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    async with running(store) as service:
        yield service


@pytest.fixture
async def workplace(service: Local, tmp_path: Path) -> AsyncIterator[Workplace]:
    require_terraform()
    with closing(Workplace(tmp_path, service.url)) as workplace:
        await workplace.initialise()
        yield workplace


async def apply(workplace: Workplace, release: str) -> list[dict[str, Any]]:
    """Apply the release to its end."""
    async with applied(workplace, release) as process:
        workplace.open_gate()
        return await finished(process)


def is_about(frame: Frame, type: str, name: str | None) -> bool:
    return frame.event == type and frame.data.get("resourcename") == name


async def read_until(stream: Stream, type: str, name: str | None = None) -> list[Frame]:
    frames = [await stream.next()]
    while not is_about(frames[-1], type, name):
        frames.append(await stream.next())
    return frames


async def everything(service: Local) -> list[dict[str, Any]]:
    page = (await service.get(EVENTS, params={"order": "oldest", "limit": 1000})).json
    events: list[dict[str, Any]] = page["events"]
    return events


async def test_events_are_seen_while_terraform_runs_and_a_cut_stream_goes_on_without_seam(
    service: Local, workplace: Workplace
) -> None:
    async with applied(workplace, "1") as process:
        async with service.stream(f"scope={SCOPE}&from=start") as stream:
            before = await read_until(stream, "resource.create.started", "gated")
        assert process.returncode is None
        workplace.open_gate()
        resumption = {"Last-Event-ID": before[-1].id or ""}
        async with service.stream(f"scope={SCOPE}", headers=resumption) as stream:
            after = await read_until(stream, "deployment.completed")
        await finished(process)

    ids = [event["id"] for event in await everything(service)]
    assert [frame.id for frame in (*before, *after)] == ids
    assert any(is_about(frame, "resource.create.completed", "gated") for frame in after)


async def test_the_counts_are_those_of_terraforms_own_summary(
    service: Local, workplace: Workplace
) -> None:
    said = [await apply(workplace, release) for release in ("1", "2")]

    deployments = (await service.get(DEPLOYMENTS, params={"project": "acme"})).json["deployments"]
    counted = [one["counts"] for one in reversed(deployments)]
    assert counted == [summary_of(lines) for lines in said]
    assert counted == [
        {"added": 6, "changed": 0, "destroyed": 0, "failed": 0},
        {"added": 2, "changed": 2, "destroyed": 3, "failed": 0},
    ]
    assert {one["status"] for one in deployments} == {"completed"}


def summary_of(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Terraform's own, in the words of a deployment's counts."""
    changes = [line["changes"] for line in lines if line["type"] == "change_summary"][-1]
    assert changes["operation"] == "apply"
    return {
        "added": changes["add"],
        "changed": changes["change"],
        "destroyed": changes["remove"],
        "failed": 0,
    }


async def test_a_sensitive_output_stays_out_of_the_log(
    service: Local, workplace: Workplace
) -> None:
    await apply(workplace, "1")

    events = await everything(service)
    [outputs] = [event for event in events if event["type"] == "deployment.outputs"]
    assert outputs["data"] == {"outputs": {"password": {"sensitive": True}}}
    assert "correct horse" not in json.dumps(events)


async def test_huaweis_sdk_lists_the_run(
    service: Local, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(workplace, "1")

    # The SDK writes to the home directory as it is imported.
    monkeypatch.setenv("HOME", str(tmp_path))
    listed = await asyncio.to_thread(list_with_sdk, service.url)

    created = [event for event in listed if event.event_type == "CREATION_COMPLETE"]
    assert sorted((event.resource_name, event.resource_key) for event in created) == [
        ("gated", None), ("named", "a"), ("named", "b"),
        ("server", "0"), ("server", "1"), ("server", "2"),
    ]  # fmt: skip
    assert all(event.resource_id_key == "id" and event.resource_id_value for event in created)
    [summary] = [event for event in listed if event.event_type == "SUMMARY"]
    assert re.match("Apply complete! Resources: 6 added", summary.event_message)


def list_with_sdk(server: str) -> list[Any]:
    """Every event of the stack, page by page."""
    from huaweicloudsdkaos.v1 import AosClient, ListStackEventsRequest
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    credentials = BasicCredentials("unused", "unused", "acme")
    client = AosClient.new_builder().with_credentials(credentials).with_endpoint(server).build()
    request = ListStackEventsRequest(client_request_id=str(uuid4()), stack_name="web", limit=7)
    events: list[Any] = []
    while True:
        page = client.list_stack_events(request)
        events += page.stack_events
        if page.page_info.next_marker is None:
            return events
        request.marker = page.page_info.next_marker
