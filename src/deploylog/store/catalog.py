"""Catalog changes: what events do to stacks, deployments and change sets, decided without SQL.

A backend loads the rows that ``catalog_lookups`` names, lets ``CatalogChanges`` decide, and writes
its ``CatalogWrites``, in the transaction that records the events.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from deploylog.deployments.catalog import Counts, Deployment, DeploymentRef, Stack
from deploylog.deployments.details import completed
from deploylog.deployments.projection import (
    Change,
    ChangesetEnded,
    Count,
    DeploymentEnded,
    DeploymentProgressed,
    DeploymentStarted,
    ResourceCounted,
    StackCreated,
    StackDeleted,
    project,
    state_event,
    states_of,
)
from deploylog.errors import InvalidEvent, StackExists
from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope


class StackRow(msgspec.Struct, frozen=True):
    """A stack that is in the store."""

    id: str
    project: str
    name: str
    is_deleted: bool


class ChangesetRow(msgspec.Struct, frozen=True):
    """A change set that is in the store and still staging."""

    id: str
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]


class CatalogLookups(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that decide what changes do."""

    #: Ids of stacks, deleted ones included.
    stacks: Sequence[str] = ()
    #: Project and name of stacks that are not deleted.
    names: Sequence[tuple[str, str]] = ()
    #: Ids of deployments. The states that they deploy to are needed too.
    deployments: Sequence[str] = ()
    #: States, by their scopes.
    states: Sequence[Scope] = ()
    #: Ids of change sets.
    changesets: Sequence[str] = ()


class CatalogRows(msgspec.Struct, frozen=True, kw_only=True):
    """What ``CatalogLookups`` found."""

    stacks: Sequence[StackRow] = ()
    #: ``Deployment.stack`` is empty where the stack is not in the store.
    deployments: Sequence[Deployment] = ()
    #: The states that something was deployed to.
    states: Sequence[Scope] = ()
    changesets: Sequence[ChangesetRow] = ()


class EndedChangeset(msgspec.Struct, frozen=True):
    """How a change set ended."""

    id: str
    status: str
    ended: int
    message: str | None


#: Counts go to the deployment of a place that is for exactly these groups.
Counted = Mapping[tuple[DeploymentRef, tuple[str, ...]], Mapping[Count, int]]


class CatalogWrites(msgspec.Struct, frozen=True, kw_only=True):
    """What to write, in this order: a name must be free before a new stack takes it."""

    #: Id of stacks in the store, and when they were deleted.
    deleted_stacks: Sequence[tuple[str, int]]
    #: In their final state: some may be deleted or have ended already.
    new_stacks: Sequence[Stack]
    new_deployments: Sequence[Deployment]
    #: Deployments in the store, with a new status, end, message, operation or details.
    changed_deployments: Sequence[Deployment]
    #: Increments of the counts of deployments, new ones included.
    counted: Counted
    ended_changesets: Sequence[EndedChangeset]
    #: States that something is deployed to, new or not.
    states: Sequence[Scope]


def catalog_lookups(changes: Iterable[Change]) -> CatalogLookups:
    """The rows that decide what ``changes`` do; counts, the most frequent changes, need none."""
    stacks: dict[str, None] = {}
    names: dict[tuple[str, str], None] = {}
    deployments: dict[str, None] = {}
    states: dict[Scope, None] = {}
    changesets: dict[str, None] = {}
    for change in changes:
        if isinstance(change, StackCreated):
            stacks[change.stack.id] = None
            names[change.stack.project, change.stack.name] = None
        elif isinstance(change, StackDeleted):
            stacks[change.place.stack_id] = None
        elif isinstance(change, DeploymentStarted):
            stacks[change.deployment.stack_id] = None
            deployments[change.deployment.id] = None
            states |= dict.fromkeys(states_of(change.deployment.scopes))
        elif (
            isinstance(change, DeploymentEnded | DeploymentProgressed)
            and change.place.deployment_id is not None
        ):
            deployments[change.place.deployment_id] = None
        elif isinstance(change, ChangesetEnded):
            changesets[change.id] = None
    return CatalogLookups(
        stacks=tuple(stacks),
        names=tuple(names),
        deployments=tuple(deployments),
        states=tuple(states),
        changesets=tuple(changesets),
    )


class CatalogChanges:
    """The changes of one transaction, applied to the rows of the store."""

    def __init__(self, rows: CatalogRows) -> None:
        self._stacks = {row.id: row for row in rows.stacks}
        self._deployments = {deployment.id: deployment for deployment in rows.deployments}
        # By the scopes, which name the change set: they are what was authorized.
        self._changesets = {row.scopes: row for row in rows.changesets}
        self._states = set(rows.states)
        #: The projects of this transaction's new stacks by id, and the names that are taken. A name
        #: that is given up in this transaction is free in the next one.
        self._created: dict[str, str] = {}
        self._names = {(row.project, row.name) for row in rows.stacks if not row.is_deleted}
        self._admitted: list[Change] = []
        #: Deployments that ended, each with the operation that its end names.
        self._ended: dict[str, str | None] = {}
        #: Deployments whose details were completed.
        self._progressed: dict[str, None] = {}
        self._deleted_stacks: list[tuple[str, int]] = []
        self._new_stacks: dict[str, Stack] = {}
        self._new_deployments: dict[str, None] = {}
        self._counted: dict[tuple[DeploymentRef, tuple[str, ...]], dict[Count, int]] = {}
        self._ended_changesets: list[EndedChangeset] = []
        self._deployed: dict[Scope, None] = {}

    def admit(self, changes: Sequence[Change]) -> None:
        """Accept ``changes``, for ``apply`` to apply with the others.

        Raises StackExists or InvalidEvent, and accepts none, when one of them conflicts with the
        rows or with a change that was accepted before.
        """
        names: set[tuple[str, str]] = set()
        created: dict[str, str] = {}
        for change in changes:
            if isinstance(change, StackCreated):
                stack = change.stack
                self._check_stack(stack, names, created)
                names.add((stack.project, stack.name))
                created[stack.id] = stack.project
            elif isinstance(change, DeploymentStarted):
                self._check_deployment(change.deployment, created)
        self._names |= names
        self._created |= created
        self._admitted += changes

    def _check_stack(
        self, stack: Stack, names: set[tuple[str, str]], created: Mapping[str, str]
    ) -> None:
        name = (stack.project, stack.name)
        is_taken = (
            name in self._names
            or name in names
            or stack.id in self._stacks
            or stack.id in self._created
            or stack.id in created
        )
        if is_taken:
            raise StackExists(f"stack {stack.name!r} of project {stack.project!r} exists already")

    def _check_deployment(self, deployment: Deployment, created: Mapping[str, str]) -> None:
        id = deployment.stack_id
        row = self._stacks.get(id)
        projects = (row.project if row else None, self._created.get(id), created.get(id))
        if deployment.project not in projects:
            raise InvalidEvent(
                f"project {deployment.project!r} has no stack with id {id!r}", field="scopes"
            )

    def apply(self) -> list[NewEvent]:
        """Apply what was admitted; return what the deployments that ended did to their states."""
        self.replay(self._admitted)
        events = [self._state_event(id, ended_as) for id, ended_as in self._ended.items()]
        return [event for event in events if event is not None]

    def replay(self, changes: Iterable[Change]) -> None:
        """Apply changes without checking them for conflicts."""
        for change in changes:
            if isinstance(change, ResourceCounted):
                counts = self._counted.setdefault((change.place, change.groups), {})
                counts[change.count] = counts.get(change.count, 0) + 1
            elif isinstance(change, StackCreated):
                self._create_stack(change.stack)
            elif isinstance(change, StackDeleted):
                self._delete_stack(change)
            elif isinstance(change, DeploymentStarted):
                self._start_deployment(change.deployment)
            elif isinstance(change, DeploymentProgressed):
                self._progress_deployment(change)
            elif isinstance(change, DeploymentEnded):
                self._end_deployment(change)
            elif isinstance(change, ChangesetEnded):
                self._end_changeset(change)
            else:
                self._deploy(change.scopes)

    def _create_stack(self, stack: Stack) -> None:
        self._stacks[stack.id] = StackRow(stack.id, stack.project, stack.name, is_deleted=False)
        self._new_stacks[stack.id] = stack

    def _delete_stack(self, change: StackDeleted) -> None:
        """Only the first deletion counts, and only in the stack's own project: the event's scope is
        what was authorized.
        """
        row = self._stacks.get(change.place.stack_id)
        if row is None or row.is_deleted or row.project != change.place.project:
            return
        self._stacks[row.id] = replace(row, is_deleted=True)
        if row.id in self._new_stacks:
            self._new_stacks[row.id] = replace(self._new_stacks[row.id], deleted=change.time)
        else:
            self._deleted_stacks.append((row.id, change.time))

    def _start_deployment(self, deployment: Deployment) -> None:
        if deployment.id in self._deployments:
            return
        stack = self._stacks.get(deployment.stack_id)
        started = replace(deployment, stack=stack.name if stack else "")
        self._deployments[deployment.id] = started
        self._new_deployments[deployment.id] = None

    def _end_deployment(self, change: DeploymentEnded) -> None:
        """As for stacks: the first end counts, and another project's deployment does not end."""
        deployment = self._running(change.place)
        if deployment is None:
            return
        self._ended[deployment.id] = change.operation
        is_for_the_same = change.groups == deployment.groups
        self._deployments[deployment.id] = replace(
            deployment,
            status=change.status,
            ended=change.time,
            message=change.message if is_for_the_same else None,
            details=(
                completed(deployment.details, change.details)
                if is_for_the_same
                else deployment.details
            ),
            operation=(
                deployment.operation if deployment.operation is not None else change.operation
            ),
        )

    def _progress_deployment(self, change: DeploymentProgressed) -> None:
        deployment = self._running(change.place)
        if deployment is not None and change.groups == deployment.groups:
            details = completed(deployment.details, change.details)
            self._deployments[deployment.id] = replace(deployment, details=details)
            self._progressed[deployment.id] = None

    def _running(self, place: DeploymentRef) -> Deployment | None:
        """The deployment in its own place, unless it has ended."""
        deployment = self._deployments.get(place.deployment_id or "")
        if (
            deployment is None
            or deployment.ended is not None
            or (deployment.project, deployment.stack_id) != (place.project, place.stack_id)
        ):
            return None
        return deployment

    def _end_changeset(self, change: ChangesetEnded) -> None:
        """The first end counts; after it the change set is no longer staging."""
        row = self._changesets.pop(change.scopes, None)
        if row is not None:
            message = change.message if change.groups == row.groups else None
            ended = EndedChangeset(row.id, change.status, change.time, message)
            self._ended_changesets.append(ended)

    def _deploy(self, scopes: Sequence[Scope]) -> None:
        self._states.update(scopes)
        self._deployed |= dict.fromkeys(scopes)

    def _state_event(self, id: str, ended_as: str | None) -> NewEvent | None:
        deployment = self._deployments[id]
        states = states_of(deployment.scopes)
        is_first = self._states.isdisjoint(states[:1])
        event = state_event(self._with_counts(deployment), ended_as=ended_as, is_first=is_first)
        # At once: the next deployment may be to the same state.
        change = project(event) if event is not None else None
        if change is not None:
            self.replay([change])
        return event

    def _with_counts(self, deployment: Deployment) -> Deployment:
        place = DeploymentRef(deployment.project, deployment.stack_id, deployment.id)
        more = self._counted.get((place, deployment.groups), {})
        counts = deployment.counts
        return replace(
            deployment,
            counts=Counts(
                added=counts.added + more.get("added", 0),
                changed=counts.changed + more.get("changed", 0),
                destroyed=counts.destroyed + more.get("destroyed", 0),
                failed=counts.failed + more.get("failed", 0),
            ),
        )

    def writes(self) -> CatalogWrites:
        ids = (dict.fromkeys(self._ended) | self._progressed).keys() - self._new_deployments.keys()
        changed = [self._deployments[id] for id in sorted(ids)]
        return CatalogWrites(
            deleted_stacks=self._deleted_stacks,
            new_stacks=tuple(self._new_stacks.values()),
            new_deployments=[self._deployments[id] for id in self._new_deployments],
            changed_deployments=changed,
            counted=self._counted,
            ended_changesets=self._ended_changesets,
            states=tuple(self._deployed),
        )
