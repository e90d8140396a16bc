"""The names of stacks, of which events have ids, and hints about misspelt names."""

from collections.abc import Collection, Iterable

from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import Client, ClientError, LoggedEvent, ServerUnreachable
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


class Places:
    """The stack and environment of each event, with names that are looked up at the server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: The names of stacks by id; an empty one is not known.
        self._stacks: dict[str, str] = {}

    async def of(self, event: LoggedEvent) -> Place:
        """Where the event happened."""
        scopes = [segments(Scope(path)) for path in event.scopes.split()]
        inside = next((s for s in scopes if len(s) >= 4 and s[0] == "project"), ())
        state = next((s for s in scopes if len(s) == 4 and s[0] == "state"), ())
        is_stack = len(inside) >= 4 and inside[2] == "stack"
        stack = state[3] if state else await self._name(inside[3]) if is_stack else ""
        has_deployment = is_stack and len(inside) == 6 and inside[4] == "deployment"
        return Place(
            stack=stack,
            environment=state[2] if state else "",
            deployment=inside[5] if has_deployment else "",
        )

    async def _name(self, id: str) -> str:
        if id not in self._stacks:
            await self._load()
            self._stacks.setdefault(id, "")
        return self._stacks[id]

    async def _load(self) -> None:
        try:
            stacks = await self._client.stacks([("deleted", "true")])
        except (ClientError, ServerUnreachable):
            # Events are shown without the names.
            return
        self._stacks |= {stack.id: stack.name for stack in stacks}


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
