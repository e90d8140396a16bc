"""Names: what the names of projects, stacks, environments and deployments select."""

import re
from collections.abc import Sequence

from deploylog.deployments.catalog import Stack
from deploylog.deployments.filters import DeploymentFilter, Names, suggestion
from deploylog.deployments.store import Catalog
from deploylog.errors import DeploymentNotFound, Forbidden, InvalidFilter, StackNotFound
from deploylog.events.access import Principal
from deploylog.events.scope import Scope, scope

#: Scopes, and so deployments, that names may select for a filter of events.
MAX_SELECTED = 100

#: The first characters of an id that may stand for it.
_PREFIX = re.compile(r"[0-9a-f-]{4,36}")


class NameResolver:
    """Finds what names select, among what a principal may see."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def scopes(self, principal: Principal, names: Names) -> tuple[Scope, ...]:
        """The scopes of the events of what ``names`` selects.

        Raises StackNotFound, DeploymentNotFound or InvalidFilter if that is nothing.
        """
        stacks = await self._known_stacks(principal, names)
        if names.is_of_deployments:
            return await self._deployment_scopes(principal, _filter_of(names, stacks))
        if names.environments:
            return await self._state_scopes(principal, names, stacks)
        if stacks is not None:
            return _bounded([stack.scopes[0] for stack in stacks])
        return (scope("project", names.project),) if names.project is not None else ()

    async def _deployment_scopes(
        self, principal: Principal, where: DeploymentFilter
    ) -> tuple[Scope, ...]:
        found = await self._catalog.deployments(
            principal.visibility, where=where, limit=MAX_SELECTED + 1, caller=principal.identity
        )
        if not found:
            raise DeploymentNotFound("no deployment matches the filter")
        return _bounded([each.scopes[0] for each in found])

    async def _state_scopes(
        self, principal: Principal, names: Names, stacks: Sequence[Stack] | None
    ) -> tuple[Scope, ...]:
        places: list[tuple[str, ...]]
        if stacks is not None:
            places = [(stack.project, stack.name) for stack in stacks]
        elif names.project is not None:
            places = [(names.project,)]
        else:
            found = await self._catalog.projects(principal.visibility, caller=principal.identity)
            places = [(project,) for project in found]
        pairs = [(place, environment) for place in places for environment in names.environments]
        return _bounded(
            [scope("state", place[0], environment, *place[1:]) for place, environment in pairs]
        )

    async def resolve(self, principal: Principal, names: Names) -> DeploymentFilter:
        """The filter of the names; raises StackNotFound, Forbidden or InvalidFilter."""
        return _filter_of(names, await self._known_stacks(principal, names))

    async def _known_stacks(self, principal: Principal, names: Names) -> list[Stack] | None:
        """The stacks that are named, if any are; raises as ``resolve`` does."""
        if names.project is not None and names.stacks:
            require_readable(principal, scope("project", names.project))
        stacks = await self._named(principal, names) if names.stacks else None
        if names.environments:
            await self._check_environments(principal, names)
        return stacks

    async def _named(self, principal: Principal, names: Names) -> list[Stack]:
        """The visible stacks with these names; raises StackNotFound if one has none."""
        stacks = await self._catalog.stacks(
            principal.visibility, project=names.project, caller=principal.identity
        )
        known = {stack.name for stack in stacks}
        for name in names.stacks:
            if name not in known:
                place = f"project {names.project!r} has" if names.project else "there is"
                raise StackNotFound(f"{place} no stack {name!r}{suggestion(name, known)}")
        return [stack for stack in stacks if stack.name in names.stacks]

    async def _check_environments(self, principal: Principal, names: Names) -> None:
        known = await self._catalog.environments(
            principal.visibility, project=names.project, caller=principal.identity
        )
        for name in names.environments:
            if name not in known:
                raise InvalidFilter(
                    f"no deployment has the environment {name!r}{suggestion(name, known)}",
                    field="environment",
                )


def _filter_of(names: Names, stacks: Sequence[Stack] | None) -> DeploymentFilter:
    return DeploymentFilter(
        project=names.project,
        stacks=tuple(stack.id for stack in stacks) if stacks is not None else None,
        environments=names.environments,
        deployments=tuple(map(_check_prefix, names.deployments)),
        statuses=names.statuses,
        versions=names.versions,
        commits=tuple(sha.lower() for sha in names.commits),
        labels=names.labels,
        plans=tuple(id.lower() for id in names.plans),
    )


def require_readable(principal: Principal, path: Scope) -> None:
    """Raise Forbidden unless the principal may read something in ``path``."""
    if not principal.visibility.overlaps(path):
        raise Forbidden(f"{principal.name} may not read {path}")


def _bounded(scopes: list[Scope]) -> tuple[Scope, ...]:
    if len(scopes) > MAX_SELECTED:
        raise InvalidFilter(f"more than {MAX_SELECTED} stacks or deployments match: name fewer")
    return tuple(scopes)


def _check_prefix(id: str) -> str:
    if not _PREFIX.fullmatch(id.lower()):
        raise InvalidFilter(
            f"{id[:64]!r} is not the id of a deployment, or its first 4 or more characters",
            field="deployment",
        )
    return id.lower()
