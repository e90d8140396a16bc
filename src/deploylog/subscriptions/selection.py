"""Selecting events by what only the catalog knows: names, and what deployments carry."""

from collections.abc import Awaitable, Callable, Sequence

from deploylog.deployments.catalog import Deployment, Stack, deployment_ref
from deploylog.deployments.filters import Names, suggestion
from deploylog.deployments.service import DeploymentService
from deploylog.errors import InvalidFilter, InvalidSubscription, StackNotFound
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event
from deploylog.events.scope import segments
from deploylog.subscriptions.places import Places

#: Stacks with other names that are remembered.
_MAX_REMEMBERED = 10_000

#: Returns the stacks that a name has or had and that the owner may see.
FindStacks = Callable[[str | None, str], Awaitable[Sequence[Stack]]]

#: Returns the deployment with an id, if the owner may see it.
FindDeployment = Callable[[str], Awaitable[Deployment | None]]


async def check_known(deployments: DeploymentService, principal: Principal, places: Places) -> None:
    """Raise InvalidSubscription for a name that nothing has which the principal may see."""
    if places.project is not None:
        known = await deployments.projects(principal)
        if places.project not in known:
            hint = suggestion(places.project, known)
            raise _unknown(f"there is no project {places.project!r}{hint}", "project")
    names = Names(project=places.project, stacks=places.stacks, environments=places.environments)
    try:
        await deployments.names.resolve(principal, names)
    except StackNotFound as error:
        raise _unknown(error.message, "stack") from error
    except InvalidFilter as error:
        raise _unknown(error.message, error.field) from error


def _unknown(message: str, field: str | None) -> InvalidSubscription:
    return InvalidSubscription(f"{message}; allow_missing accepts it", field=field)


class PlaceSelector:
    """Selects the events of places, for one owner."""

    def __init__(
        self, places: Places, find_stacks: FindStacks, find_deployment: FindDeployment
    ) -> None:
        self._places = places
        self._find_stacks = find_stacks
        self._find_deployment = find_deployment
        #: The ids of stacks that have one of the names, and of stacks that have none. The name of a
        #: stack never changes.
        self._ids: set[str] = set()
        self._others: BoundedMap[str, None] = BoundedMap(_MAX_REMEMBERED)

    async def select(self, events: Sequence[Event]) -> list[Event]:
        """Those of these events, below the scopes of the places, that are of one of them.

        Deployments count as they are now: what the last of the events added to them is known.
        """
        carrying: dict[str | None, bool] = {}
        return [event for event in events if await self._selects(event, carrying)]

    async def _selects(self, event: Event, carrying: dict[str | None, bool]) -> bool:
        """``carrying`` has the deployments that were looked up for the same events."""
        if not await self._is_there(event):
            return False
        if not self._places.is_of_deployments:
            return True
        ref = deployment_ref(event.scopes)
        id = ref.deployment_id if ref is not None else None
        if id not in carrying:
            carrying[id] = await self._carries(id)
        return carrying[id]

    async def _carries(self, id: str | None) -> bool:
        found = await self._find_deployment(id) if id is not None else None
        return found is not None and self._places.selects(found.details)

    async def _is_there(self, event: Event) -> bool:
        """Whether the event is of one of the environments and of the stacks."""
        if self._places.environments:
            return any(self._is_state(segments(each)) for each in event.scopes)
        if not self._places.stacks:
            return True
        ref = deployment_ref(event.scopes)
        return ref is not None and await self._is_named(ref.stack_id)

    def _is_state(self, path: tuple[str, ...]) -> bool:
        """Whether a scope is the state of one of the environments, and of one of the stacks."""
        places = self._places
        return (
            len(path) >= 4
            and path[0] == "state"
            and path[2] in places.environments
            and (not places.stacks or path[3] in places.stacks)
        )

    async def _is_named(self, stack_id: str) -> bool:
        if stack_id not in self._ids and stack_id not in self._others:
            for name in self._places.stacks:
                found = await self._find_stacks(self._places.project, name)
                self._ids |= {stack.id for stack in found}
            if stack_id not in self._ids:
                self._others.put(stack_id, None)
        return stack_id in self._ids
