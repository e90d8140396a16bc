"""What a subscription is about, by the names of projects, stacks and environments."""

import msgspec

from deploylog.deployments.catalog import check_name
from deploylog.errors import Forbidden, InvalidInput, InvalidSubscription
from deploylog.events.access import Principal
from deploylog.events.scope import ROOT, Scope, scope

#: Scopes, and so combinations of names, that a subscription may have.
MAX_COMBINATIONS = 100


class Places(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Values of one field are ORed, fields are ANDed. A stack created later counts too."""

    project: str | None = None
    stacks: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != EVERYWHERE

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Scopes that contain all of it, and only it unless ``is_dynamic``.

        Raises InvalidSubscription when there are too many.
        """
        if self.project is None:
            return ()
        if not self.environments:
            return (scope("project", self.project),)
        stacks: list[tuple[str, ...]] = [(name,) for name in self.stacks] or [()]
        found = tuple(
            scope("state", self.project, environment, *stack)
            for environment in self.environments
            for stack in stacks
        )
        if len(found) > MAX_COMBINATIONS:
            message = f"more than {MAX_COMBINATIONS} combinations of stack and environment"
            raise InvalidSubscription(message, field="environment")
        return found

    @property
    def is_dynamic(self) -> bool:
        """Whether the scopes alone do not select it: stacks have ids, and projects are added."""
        by_stack_alone = bool(self.stacks) and not self.environments
        return by_stack_alone or (self.project is None and bool(self.environments))


EVERYWHERE = Places()


def check_places(principal: Principal, places: Places) -> None:
    """Raise InvalidSubscription for a name that nothing can have, or Forbidden."""
    named = (("stack", places.stacks), ("environment", places.environments))
    project = (places.project,) if places.project is not None else ()
    for field, names in (("project", project), *named):
        for name in names:
            try:
                check_name(field, name)
            except InvalidInput as error:
                raise InvalidSubscription(error.message, field=field) from error
    paths = [ROOT]
    if places.project is not None:
        paths = [scope("project", places.project), scope("state", places.project)]
    if not any(principal.visibility.overlaps(path) for path in paths):
        raise Forbidden(f"{principal.name} may not read {places.project or 'anything'}")
