"""The options for a deployment's details, and what CI and git say about them."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from deploylog.deployments.details import (
    AppliedPlan,
    Artifact,
    Commit,
    Details,
    check_details,
    completed,
)
from deploylog.errors import InvalidInput, OperatorError
from deploylog.ingest.ci import Detected, GitCommit, commit_in, detect

#: Seconds that git may take.
_GIT_SECONDS = 2


def _repeatable(option: str, help: str, *, metavar: str = "TEXT") -> Any:
    return typer.Option(option, help=help, metavar=metavar)


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The options for what a deployment carries."""

    version: Annotated[
        str | None, typer.Option("--version", help="Release or tag that is deployed.")
    ] = None
    commit: Annotated[
        list[str] | None, _repeatable("--commit", "Commit that is deployed. Repeatable.")
    ] = None
    artifact: Annotated[
        list[str] | None,
        _repeatable("--artifact", "Package URL of what is deployed. Repeatable."),
    ] = None
    url: Annotated[str | None, typer.Option("--url", help="URL of the run in CI.")] = None
    change_request: Annotated[
        str | None,
        typer.Option("--change-request", help="URL of the pull request or change ticket."),
    ] = None
    approver: Annotated[
        list[str] | None, _repeatable("--approver", "Who approved the deployment. Repeatable.")
    ] = None
    plan: Annotated[
        str | None, typer.Option("--plan", help="Id of the change set that is applied.")
    ] = None
    label: Annotated[
        list[str] | None,
        _repeatable("--label", "Label, written as NAME=VALUE. Repeatable.", metavar="NAME=VALUE"),
    ] = None
    production: Annotated[
        bool | None,
        typer.Option("--production/--no-production", help="Whether the environment is production."),
    ] = None
    emergency: Annotated[
        bool, typer.Option("--emergency", help="The deployment bypasses the usual process.")
    ] = False
    rework_of: Annotated[
        str | None,
        typer.Option("--rework-of", help="Deployment or incident that made this one necessary."),
    ] = None
    restores: Annotated[
        str | None,
        typer.Option(
            "--restores", help="Failed deployment or incident that this one recovers from."
        ),
    ] = None

    def details(self) -> Details:
        """Return what the options say; raises OperatorError."""
        details = Details(
            version=self.version,
            commits=tuple(Commit(sha=sha.lower()) for sha in self.commit or ()),
            artifacts=tuple(Artifact(purl=purl) for purl in self.artifact or ()),
            url=self.url,
            change_request=self.change_request,
            approvers=tuple(self.approver or ()),
            plan=AppliedPlan(id=self.plan) if self.plan else None,
            labels=labels_of(self.label or ()),
            production=self.production,
            emergency=self.emergency or None,
            rework_of=self.rework_of,
            restores=self.restores,
        )
        try:
            check_details(details)
        except InvalidInput as error:
            raise OperatorError(error.message) from error
        return details


class Detecting(Carried, frozen=True, kw_only=True):
    """What is carried, and what is detected. What is given wins."""

    detect: Annotated[
        bool,
        typer.Option(
            "--detect/--no-detect", help="Read commit, actor, URL and more from CI and git."
        ),
    ] = True

    async def detected(self) -> Detected:
        """Return what the options say, completed by what CI and git say; raises OperatorError."""
        given = self.details()
        if not self.detect:
            return Detected(details=given)
        sha = given.commits[0].sha if len(given.commits) == 1 else None
        found = detect(os.environ, await read_git(sha or commit_in(os.environ)), sha=sha)
        if sha is not None and found.details.commits:
            # With its repository and its time.
            given = replace(given, commits=found.details.commits)
        return replace(found, details=completed(given, found.details))


def labels_of(labels: Sequence[str]) -> dict[str, str]:
    """Parse labels, each ``NAME=VALUE``; raises OperatorError."""
    pairs = [label.partition("=") for label in labels]
    for name, separator, _ in pairs:
        if not separator or not name:
            raise OperatorError(f"--label {name}: write NAME=VALUE")
    return {name: value for name, _, value in pairs}


async def read_git(sha: str | None) -> GitCommit | None:
    """Read a commit, by default the newest, from git in the working directory, if it is one."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_GIT_SECONDS):
            shown = await _git("log", "-1", "--format=%H%n%cI", sha or "HEAD", "--")
            if shown is None:
                return None
            full, committed = shown.split("\n")[:2]
            remote = await _git("config", "--get", "remote.origin.url")
            tags = await _git("tag", "--points-at", full)
            return GitCommit(
                sha=full,
                committed=committed,
                repository=remote or None,
                tag=(tags or "").split("\n")[-1] or None,
            )
    return None


async def _git(*arguments: str) -> str | None:
    """The output of git; ``None`` if it fails."""
    process = await asyncio.create_subprocess_exec(
        "git", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    return output.decode(errors="replace").strip() if process.returncode == 0 else None
