"""Which deployments: by the names that people use, and by what the catalog stores."""

import difflib
from collections.abc import Iterable

import msgspec

from deploylog.deployments.catalog import Status


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Deployments as people name them: values of one field are ORed, fields are ANDed."""

    project: str | None = None
    stacks: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    #: Ids, or the first characters of ids.
    deployments: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    versions: tuple[str, ...] = ()
    #: The first digits of commits.
    commits: tuple[str, ...] = ()
    #: All of these.
    labels: tuple[tuple[str, str], ...] = ()
    #: Ids of the change sets that they apply.
    plans: tuple[str, ...] = ()

    @property
    def is_of_deployments(self) -> bool:
        """Whether it selects some deployments of a stack and environment, not all."""
        return bool(
            self.deployments
            or self.statuses
            or self.versions
            or self.commits
            or self.labels
            or self.plans
        )

    def __bool__(self) -> bool:
        return self != ALL_NAMES


ALL_NAMES = Names()


class DeploymentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Every condition that is given holds; see ``Names``."""

    project: str | None = None
    #: Ids of stacks; ``None`` means any.
    stacks: tuple[str, ...] | None = None
    environments: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    versions: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    plans: tuple[str, ...] = ()
    #: Started at this time (ns) or later.
    since: int | None = None
    #: Says what it restores, or what made it necessary.
    is_explained: bool = False
    #: Only what is deployed now: of each stack that exists and each environment, the completed
    #: deployment that ended last, among those whose operation deploys something.
    current: bool = False


ANY = DeploymentFilter()


def suggestion(name: str, known: Iterable[str]) -> str:
    """``: did you mean 'web'?``, or nothing if no known name is similar."""
    names = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return f": did you mean {names[near[0]]!r}?" if near else ""
