"""The events that create a stack and open a deployment."""

import msgspec

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.deployments.details import Details, details_json
from deploylog.deployments.lifecycle import DEPLOYMENT_STARTED
from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.scope import Scope, deployment_scope, stack_scope, state_scope


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment to open, in a stack that exists or is about to."""

    id: str
    project: str
    stack: str
    stack_id: str
    #: When it started, in ns.
    started: int
    environment: str | None = None
    tool: str | None = None
    operation: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    details: Details = Details()
    #: Who says that it started.
    source: str = SOURCE

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of its events: its own, and that of the state that it deploys to."""
        own = deployment_scope(self.project, self.stack_id, self.id)
        if self.environment is None:
            return (own,)
        return (own, state_scope(self.project, self.environment, self.stack))

    @property
    def data(self) -> dict[str, object]:
        """What its start says."""
        fields = {
            "stack": self.stack,
            "tool": self.tool,
            "operation": self.operation,
            "environment": self.environment,
        }
        named = {name: value for name, value in fields.items() if value is not None}
        return named | details_json(self.details)


def opened(opening: Opening) -> Deployment:
    """The deployment once it is open."""
    return Deployment(
        id=opening.id,
        project=opening.project,
        stack_id=opening.stack_id,
        stack=opening.stack,
        status="running",
        started=opening.started,
        ended=None,
        tool=opening.tool,
        operation=opening.operation,
        environment=opening.environment,
        actor=opening.actor,
        message=None,
        counts=Counts(),
        scopes=opening.scopes,
        groups=opening.groups,
        details=opening.details,
    )


def stack_created(opening: Opening, *, now: int) -> NewEvent:
    """The creation of the deployment's stack, at ``now`` (ns) or when the deployment started."""
    return NewEvent(
        type="stack.created",
        source=SOURCE,
        scopes=(stack_scope(opening.project, opening.stack_id),),
        # A recorded run of the past needs a stack that existed when it started.
        time=min(opening.started, now),
        producer_id=f"{opening.stack_id}/created",
        subject=opening.stack,
        actor=opening.actor,
        message=f"Stack {opening.stack} created",
        data=_raw({"name": opening.stack}),
    )


def deployment_started(opening: Opening) -> NewEvent:
    """The start of the deployment."""
    what = (opening.operation or "deployment").capitalize()
    return NewEvent(
        type=DEPLOYMENT_STARTED,
        source=opening.source,
        scopes=opening.scopes,
        time=opening.started,
        producer_id=f"{opening.id}/started",
        subject=opening.stack,
        groups=opening.groups,
        actor=opening.actor,
        message=f"{what} of {opening.stack} started",
        data=_raw(opening.data),
    )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
