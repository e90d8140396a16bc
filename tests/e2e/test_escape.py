"""A real Terraform, recorded with an environment, as EscapeKit's clients see it."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

from deploylog.store.contract import Store
from support.paths import ROOT
from support.servers import Local, running
from support.terraform import require_terraform
from support.waiting import PATIENCE

TERRAFORM = ROOT / "demo" / "terraform"

QUERY = "/api/v1/events/query/project/acme/prod/deployment/?deployment=web"

CONFIGURATION = """
variable "release" { type = string }

resource "terraform_data" "server" {
  count = 2
  input = var.release
}
"""


class Workplace:
    """A directory with the configuration and its state."""

    def __init__(self, directory: Path, server: str) -> None:
        self._directory = directory
        (directory / "main.tf").write_text(CONFIGURATION)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYLOG_", "TF_"))}
        self._env = inherited | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "DEPLOYLOG_SERVER": server,
            "DEPLOYLOG_SPOOL": str(directory / "spool"),
            "CHECKPOINT_DISABLE": "1",
        }

    async def record(self, operation: str, release: str) -> None:
        """Run Terraform, and record it."""
        await self.run(
            sys.executable, "-m", "deploylog", "run", "--strict", "--actor", "ann",
            "--project", "acme", "--stack", "web", "--environment", "prod", "--",
            str(TERRAFORM), *operation.split(), f"-var=release={release}",
        )  # fmt: skip

    async def run(self, *command: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self._directory, env=self._env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        async with asyncio.timeout(PATIENCE):
            _, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()


async def shown(service: Local) -> list[Any]:
    answer = await service.get(QUERY)
    assert answer.status == 200
    return list(answer.json)


async def test_runs_with_an_environment_show_what_they_did_to_it(store: Store, tmp_path: Path):
    require_terraform()
    async with running(store) as service:
        workplace = Workplace(tmp_path, service.url)
        await workplace.run(str(TERRAFORM), "init", "-input=false")

        await workplace.record("apply -auto-approve", "1")
        await workplace.record("apply -auto-approve", "2")
        await workplace.record("apply -auto-approve", "2")
        await workplace.record("plan", "3")
        await workplace.record("destroy -auto-approve", "2")
        events = await shown(service)

    assert [(event["type"], event["data"]["counts"]) for event in reversed(events)] == [
        ("CREATE_STATE_DEPLOYMENT", counts(added=2)),
        ("UPDATE_STATE_DEPLOYMENT", counts(changed=2)),
        ("REDEPLOY_STATE_DEPLOYMENT", counts()),
        ("DESTROY_REQUESTED", counts(destroyed=2)),
    ]
    assert {(event["username"], event["data"]["status"]) for event in events} == {
        ("ann", "completed")
    }


def counts(added: int = 0, changed: int = 0, destroyed: int = 0) -> dict[str, int]:
    return {"added": added, "changed": changed, "destroyed": destroyed, "failed": 0}
