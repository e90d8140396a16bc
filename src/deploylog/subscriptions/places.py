"""What a subscription is about, by names, and by what deployments carry."""

import re
from collections.abc import Sequence

import msgspec

from deploylog.deployments.catalog import check_name
from deploylog.deployments.details import Details, check_details
from deploylog.deployments.filters import Names
from deploylog.errors import Forbidden, InvalidInput, InvalidSubscription
from deploylog.events.access import Principal
from deploylog.events.scope import ROOT, Scope, scope

#: Scopes, and so combinations of names, that a subscription may have.
MAX_COMBINATIONS = 100

#: Versions, commits and labels that a subscription may name, of each kind.
MAX_VALUES = 100

_COMMIT = re.compile(r"[0-9a-f]{4,64}")


class Places(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Values of one field are ORed, fields are ANDed. A stack created later counts too."""

    project: str | None = None
    stacks: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    #: Only events of deployments that carry one of these versions.
    versions: tuple[str, ...] = ()
    #: The first digits of commits, of which a deployment contains one.
    commits: tuple[str, ...] = ()
    #: A deployment has all of these.
    labels: tuple[tuple[str, str], ...] = ()

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
        by_environment_alone = self.project is None and bool(self.environments)
        return by_stack_alone or by_environment_alone or self.is_of_deployments

    @property
    def is_of_deployments(self) -> bool:
        """Whether it selects by what a deployment carries."""
        return bool(self.versions or self.commits or self.labels)

    def selects(self, details: Details) -> bool:
        """Whether a deployment with these details is one of them."""
        shas = [commit.sha for commit in details.commits]
        return (
            (not self.versions or details.version in self.versions)
            and (not self.commits or any(sha.startswith(self.commits) for sha in shas))
            and set(self.labels) <= details.labels.items()
        )

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The parameters of a query that select the same."""
        named = {
            "project": (self.project,) if self.project is not None else (),
            "stack": self.stacks,
            "environment": self.environments,
            "version": self.versions,
            "commit": self.commits,
            "label": tuple(f"{name}={value}" for name, value in self.labels),
        }
        return tuple((name, value) for name, values in named.items() for value in values)


EVERYWHERE = Places()


def places_of(names: Names) -> Places:
    """The places of names that select neither single deployments nor statuses."""
    return Places(
        project=names.project,
        stacks=names.stacks,
        environments=names.environments,
        versions=names.versions,
        commits=tuple(digits.lower() for digits in names.commits),
        labels=names.labels,
    )


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
    _check_carried(places)
    paths = [ROOT]
    if places.project is not None:
        paths = [scope("project", places.project), scope("state", places.project)]
    if not any(principal.visibility.overlaps(path) for path in paths):
        raise Forbidden(f"{principal.name} may not read {places.project or 'anything'}")


def _check_carried(places: Places) -> None:
    """Raise InvalidSubscription for what no deployment can carry."""
    named = (("version", places.versions), ("commit", places.commits), ("label", places.labels))
    for field, values in named:
        _check_number(field, values)
    for sha in places.commits:
        if not _COMMIT.fullmatch(sha):
            message = f"commit: {sha[:80]!r} is not the first 4 to 64 hexadecimal digits of one"
            raise InvalidSubscription(message, field="commit")
    try:
        check_details(Details(labels=dict(places.labels)))
    except InvalidInput as error:
        raise InvalidSubscription(error.message, field="label") from error
    for version in places.versions:
        try:
            check_details(Details(version=version))
        except InvalidInput as error:
            raise InvalidSubscription(error.message, field="version") from error


def _check_number(field: str, values: Sequence[object]) -> None:
    if len(values) > MAX_VALUES:
        raise InvalidSubscription(f"{field} must have at most {MAX_VALUES} values", field=field)
