"""ARNs: they identify a stack even after it was deleted."""

import re
from typing import Literal, get_args
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from deploylog.deployments.catalog import MAX_NAME_LENGTH, Stack
from deploylog.events.scope import Scope, segments
from deploylog.ingest.cloudformation.stack_event import catalogue_id

#: AWS General Reference, Amazon Resource Names; CloudFormation API Reference, Stack.
_ARN = re.compile(
    r"arn:aws[a-z-]*:cloudformation:(?P<region>[a-z0-9-]+):[0-9]{12}:stack/(?P<name>.+)/(?P<id>[^/]+)",
    re.DOTALL,
)

#: Characters of a UUID.
_UUID_LENGTH = 36

#: The kinds of ParallelCluster's stacks, and the roots of the scopes that record them.
Kind = Literal["image", "cluster"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Arn(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a stack's ARN that are used for lookup."""

    text: str
    region: str
    name: str
    #: Distinguishes stacks of the same name.
    id: str

    @property
    def names(self) -> tuple[str, ...]:
        """The stack's possible names in the catalog: the second, if the first was taken."""
        return (
            self.name,
            f"{self.name[: MAX_NAME_LENGTH - 1 - _UUID_LENGTH]}/{self.id[:_UUID_LENGTH]}",
        )


def parse_arn(text: str) -> Arn | None:
    """Parse a stack's ARN; ``None`` if ``text`` is something else."""
    match = _ARN.fullmatch(text)
    if match is None:
        return None
    return Arn(text=text, region=match["region"], name=match["name"], id=match["id"])


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The region and account in the ARNs of stacks that have none of their own."""

    region: str
    #: 12 digits.
    account: str

    def arn_of(self, stack: Stack) -> str:
        """The ARN of a stack in the catalog."""
        return self._arn(stack.name, _uuid(stack.id))

    def arn_in(self, scope: Scope, name: str) -> str:
        """The ARN of a stack that is not in the catalog, but recorded in ``scope``."""
        return self._arn(name, _uuid(scope))

    def _arn(self, name: str, id: str) -> str:
        return f"arn:aws:cloudformation:{self.region}:{self.account}:stack/{name}/{id}"


def _uuid(text: str) -> str:
    """``text`` itself if it is a UUID, or else a UUID derived from it."""
    try:
        return str(UUID(text))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"urn:deploylog:{text}"))


def is_stack_of(stack: Stack, arn: str) -> bool:
    """Whether a collector created this stack for CloudFormation's stack of this ARN."""
    return stack.id == catalogue_id(stack.project, arn)


def kinds_of(scopes: tuple[Scope, ...]) -> set[Kind]:
    """The kinds that these scopes name."""
    first = {segments(path)[0] for path in scopes if path}
    return {kind for kind in KINDS if kind in first}
