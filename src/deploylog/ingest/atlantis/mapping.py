"""Atlantis' notifications of an apply, to deployments.

Source: Atlantis' documentation, "Sending notifications via webhooks".
"""

import msgspec

from deploylog.events.times import SECOND
from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report

SOURCE = "atlantis"

#: The tool applies once in this time (ns) at most; a repetition within it is the same apply.
_REPEATS = 60 * SECOND


class Repository(msgspec.Struct, rename="pascal"):
    """A repository."""

    full_name: str
    name: str = ""


class Pull(msgspec.Struct):
    """A pull request."""

    number: int = msgspec.field(name="Num")
    head_commit: str = msgspec.field(name="HeadCommit")
    url: str = msgspec.field(name="URL")
    head_branch: str = msgspec.field(name="HeadBranch", default="")


class User(msgspec.Struct, rename="pascal"):
    """Who applies."""

    username: str


class ApplyResult(msgspec.Struct, rename="pascal"):
    """The body of a notification."""

    workspace: str
    repo: Repository
    pull: Pull
    user: User
    success: bool
    directory: str = ""
    project_name: str = ""


class _Drift(msgspec.Struct):
    detection_id: str | None = None


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput.

    Atlantis sends neither an id nor a time.
    """
    if decode(delivery, _Drift).detection_id is not None:
        return Ignored("drift says nothing about a deployment: send the event apply")
    result = decode(delivery, ApplyResult)
    stack = result.project_name or _directory(result) or result.repo.name
    outcome = "succeeded" if result.success else "failed"
    return [
        report(
            delivery,
            source=SOURCE,
            id="applied",
            key=f"{delivery.digest}/{delivery.received // _REPEATS}",
            stack=stack or result.repo.full_name,
            # Without workspaces, all environments would be called default.
            environment=result.workspace if result.workspace != "default" else None,
            type="deployment.completed" if result.success else "deployment.failed",
            time=delivery.received,
            tool="terraform",
            operation="apply",
            actor=result.user.username,
            message=f"Apply of {stack} for pull request {result.pull.number} {outcome}",
            details={
                "commits": [
                    {"sha": result.pull.head_commit.lower(), "repository": _repository(result)}
                ],
                "change_request": result.pull.url,
                "labels": _labels(result),
            },
            data={"success": result.success, "workspace": result.workspace},
        )
    ]


def _directory(result: ApplyResult) -> str:
    return result.directory.strip("/") if result.directory != "." else ""


def _repository(result: ApplyResult) -> str:
    """The repository's URL, which the pull request's begins with, or its name."""
    start, found, _ = result.pull.url.partition(f"/{result.repo.full_name}/")
    return f"{start}/{result.repo.full_name}" if found else result.repo.full_name


def _labels(result: ApplyResult) -> dict[str, str]:
    labels = {"directory": result.directory, "ref": result.pull.head_branch}
    return {name: value for name, value in labels.items() if value}
