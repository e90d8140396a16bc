"""A real Terraform, recorded by the command line into a real service."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploylog.store.contract import Store
from support.paths import ROOT
from support.servers import DEPLOYMENTS, EVENTS, Frame, Local, Stream, running
from support.terraform import require_terraform
from support.waiting import PATIENCE

DEMO = ROOT / "demo"
SCOPE = "project/acme"

# `gated` is being created until somebody opens the gate, however long that takes.
CONFIGURATION = """
variable "release" { type = string }
variable "servers" { type = number }
variable "names" { type = set(string) }

resource "terraform_data" "server" {
  count = var.servers
  input = var.release
}

resource "terraform_data" "named" {
  for_each = var.names
}

resource "terraform_data" "gated" {
  triggers_replace = var.release
  provisioner "local-exec" {
    command = "read line < gate"
  }
}

output "password" {
  value     = "correct horse"
  sensitive = true
}
"""

VARIABLES = {
    "1": {"servers": 3, "names": ["a", "b"]},
    "2": {"servers": 2, "names": ["b", "c"]},
}


class Workplace:
    """A directory with the configuration, its state, and the gate."""

    def __init__(self, directory: Path, server: str) -> None:
        self.directory = directory
        os.mkfifo(directory / "gate")
        # For reading, too: so that neither side waits for the other to open it.
        self._gate = os.open(directory / "gate", os.O_RDWR)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYLOG_", "TF_"))}
        self.env = inherited | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "DEPLOYLOG_SERVER": server,
            "DEPLOYLOG_SPOOL": str(directory / "spool"),
            "CHECKPOINT_DISABLE": "1",
        }

    async def initialise(self) -> None:
        (self.directory / "main.tf").write_text(CONFIGURATION)
        for release, values in VARIABLES.items():
            text = json.dumps({"release": release, **values})
            (self.directory / f"{release}.tfvars.json").write_text(text)
        init = await self._start(str(DEMO / "terraform"), "init", "-input=false")
        await finished(init)

    async def apply(self, release: str) -> Process:
        """Apply the release, and record it."""
        return await self._start(
            sys.executable, "-m", "deploylog", "run", "--strict", "--json-output",
            "--project", "acme", "--stack", "web", "--",
            str(DEMO / "terraform"), "apply", "-auto-approve", f"-var-file={release}.tfvars.json",
        )  # fmt: skip

    async def _start(self, *command: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.directory, env=self.env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )

    def open_gate(self) -> None:
        """Let `gated` be created, once."""
        os.write(self._gate, b"\n")

    def close(self) -> None:
        os.close(self._gate)


async def finished(process: Process) -> list[dict[str, Any]]:
    """What Terraform said, now that it has ended well."""
    async with asyncio.timeout(PATIENCE):
        said, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]


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


@asynccontextmanager
async def applied(workplace: Workplace, release: str) -> AsyncIterator[Process]:
    process = await workplace.apply(release)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


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
