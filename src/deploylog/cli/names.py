"""The names of stacks, of which events have ids, and hints about misspelt names."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

import msgspec

from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import (
    Client,
    ClientError,
    DeploymentState,
    LoggedEvent,
    ServerUnreachable,
)
from deploylog.client.models import Place
from deploylog.deployments.filters import suggestion
from deploylog.deployments.lifecycle import CHANGESET_ENDS, DEPLOYMENT_LIFECYCLE
from deploylog.events.scope import Scope, segments

#: The types that Deploylog itself knows; the log takes any.
KNOWN_TYPES = (
    *DEPLOYMENT_LIFECYCLE,
    *CHANGESET_ENDS,
    *(f"deployment.{word}" for word in ("version", "planned", "drift", "log", "error", "outputs")),
    "deployment.summary",
    *(
        f"resource.{action}.{phase}"
        for action in ("create", "update", "delete", "read", "import", "rollback")
        for phase in ("started", "progress", "completed", "failed", "skipped")
    ),
    "stack.created",
    "stack.deleted",
    "changeset.resource",
    *(
        f"state.deployment.{word}"
        for word in ("created", "updated", "redeployed", "destroy_requested")
    ),
)


def misspelt_types(types: Iterable[str]) -> list[str]:
    """A hint for each type that is unknown but similar to a known one."""
    hints = []
    for type in types:
        stem = type.removesuffix(".*")
        known = {*KNOWN_TYPES, *(each.partition(".")[0] for each in KNOWN_TYPES)}
        known |= {each.rpartition(".")[0] for each in KNOWN_TYPES}
        hint = suggestion(stem, known) if stem not in known else ""
        if hint:
            hints.append(f"Deploylog knows no event type {type!r}{hint}")
    return hints


class _Scopes(msgspec.Struct, frozen=True, kw_only=True):
    """What the scopes of an event say, each empty if they do not."""

    stack_id: str = ""
    deployment: str = ""
    environment: str = ""
    stack: str = ""


def _scopes_of(event: LoggedEvent) -> _Scopes:
    paths = [segments(Scope(path)) for path in event.scopes.split()]
    inside = next((p for p in paths if len(p) >= 4 and (p[0], p[2]) == ("project", "stack")), ())
    state = next((p for p in paths if len(p) == 4 and p[0] == "state"), ())
    return _Scopes(
        stack_id=inside[3] if inside else "",
        deployment=inside[5] if len(inside) == 6 and inside[4] == "deployment" else "",
        environment=state[2] if state else "",
        stack=state[3] if state else "",
    )


#: Deployments that are looked up at once.
_AT_ONCE = 100


class Places:
    """The stack, environment and version of each event, which are looked up at the server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: By id; ``None`` for a deployment that is not found.
        self._deployments: dict[str, DeploymentState | None] = {}
        #: The names of stacks by id; an empty one is not known.
        self._stacks: dict[str, str] = {}

    async def of_all(self, events: Sequence[LoggedEvent]) -> list[Place]:
        """Where the events happened."""
        found = [_scopes_of(event) for event in events]
        await self._load({scopes.deployment for scopes in found if scopes.deployment})
        return [await self._place(scopes) for scopes in found]

    async def _place(self, scopes: _Scopes) -> Place:
        known = self._deployments.get(scopes.deployment)
        if known is not None:
            return Place(
                stack=known.stack,
                environment=known.environment or "",
                version=known.version or "",
                deployment=known.id,
            )
        stack = scopes.stack or (await self._name(scopes.stack_id) if scopes.stack_id else "")
        return Place(stack=stack, environment=scopes.environment, deployment=scopes.deployment)

    async def _load(self, ids: set[str]) -> None:
        unknown = sorted(ids - self._deployments.keys())
        for start in range(0, len(unknown), _AT_ONCE):
            some = unknown[start : start + _AT_ONCE]
            params = [("limit", str(_AT_ONCE)), *(("deployment", id) for id in some)]
            found: Sequence[DeploymentState] = ()
            # Without an answer, events are shown without what it would say.
            with suppress(ClientError, ServerUnreachable):
                found = (await self._client.deployments(params)).deployments
            self._deployments |= dict.fromkeys(some) | {each.id: each for each in found}

    async def _name(self, id: str) -> str:
        if id not in self._stacks:
            with suppress(ClientError, ServerUnreachable):
                stacks = await self._client.stacks([("deleted", "true")])
                self._stacks |= {stack.id: stack.name for stack in stacks}
            self._stacks.setdefault(id, "")
        return self._stacks[id]


async def hint_project(client: Client, project: str | None, found: Collection[object]) -> None:
    """Say so if nothing was found because there is no such project."""
    if project is None or found:
        return
    try:
        projects = await client.projects()
    except (ClientError, ServerUnreachable):
        return
    if project not in projects:
        log_line(plain(f"there is no project {project!r}{suggestion(project, projects)}"))
