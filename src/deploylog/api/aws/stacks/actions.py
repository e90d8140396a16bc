"""What each deployment did to its stack, in CloudFormation's terms."""

from collections.abc import Iterable

from deploylog.api.aws.stacks.stack_events import Action, action_of
from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment, Stack
from deploylog.deployments.service import DeploymentService
from deploylog.errors import DeploymentNotFound
from deploylog.events.access import Principal

#: Deployments per read while searching for a mutating one.
_PAGE = 20


class StackActions:
    """The actions of one stack's deployments, as far as a principal may see them."""

    def __init__(self, deployments: DeploymentService, principal: Principal, stack: Stack) -> None:
        self._deployments = deployments
        self._principal = principal
        self._stack = stack

    async def actions(self, ids: Iterable[str]) -> dict[str, Action | None]:
        """The action of each deployment, by id; deployments of other stacks are left out."""
        found = [await self._deployment(id) for id in ids]
        return {each.id: await self.action(each) for each in found if each is not None}

    async def action(self, deployment: Deployment) -> Action | None:
        """The deployment's action; ``None`` if it changed nothing."""
        if deployment.operation in NON_MUTATING_OPERATIONS:
            return None
        return action_of(deployment, await self.last(before=deployment.id))

    async def last(self, *, before: str | None = None) -> Deployment | None:
        """The last mutating deployment, or the last one before deployment ``before``."""
        while True:
            found = await self._deployments.deployments_of(
                self._principal, self._stack.id, before=before, limit=_PAGE
            )
            for deployment in found:
                if deployment.operation not in NON_MUTATING_OPERATIONS:
                    return deployment
            if len(found) < _PAGE:
                return None
            before = found[-1].id

    async def _deployment(self, id: str) -> Deployment | None:
        try:
            deployment = await self._deployments.deployment(self._principal, id)
        except DeploymentNotFound:
            return None
        return deployment if deployment.stack_id == self._stack.id else None
