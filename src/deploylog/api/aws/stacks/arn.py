"""What a stack is called: its name, and the ARN that names it even when it is deleted."""

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

#: The length of a UUID.
_ID = 36

#: What ParallelCluster names stacks for, and the scopes that producers may record them in.
Kind = Literal["image", "cluster"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Arn(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a stack's ARN that it is looked up by."""

    text: str
    region: str
    name: str
    #: What tells stacks of one name apart.
    id: str

    @property
    def names(self) -> tuple[str, ...]:
        """What the catalogue may call the stack: the second where the first was taken."""
        return self.name, f"{self.name[: MAX_NAME_LENGTH - 1 - _ID]}/{self.id[:_ID]}"


def parse_arn(text: str) -> Arn | None:
    """The ARN of a stack; ``None`` if it is none."""
    match = _ARN.fullmatch(text)
    if match is None:
        return None
    return Arn(text=text, region=match["region"], name=match["name"], id=match["id"])


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where stacks that have no ARN of their own are said to be."""

    region: str
    #: 12 digits.
    account: str

    def arn_of(self, stack: Stack) -> str:
        """The ARN of a stack of ours."""
        return self._arn(stack.name, _uuid(stack.id))

    def arn_in(self, scope: Scope, name: str) -> str:
        """The ARN of what was only ever recorded in ``scope``."""
        return self._arn(name, _uuid(scope))

    def _arn(self, name: str, id: str) -> str:
        return f"arn:aws:cloudformation:{self.region}:{self.account}:stack/{name}/{id}"


def _uuid(text: str) -> str:
    """``text`` itself if it is a UUID, else one that stands for it."""
    try:
        return str(UUID(text))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"urn:deploylog:{text}"))


def is_stack_of(stack: Stack, arn: str) -> bool:
    """Whether a collector made this stack for the one of CloudFormation that has the ARN."""
    return stack.id == catalogue_id(stack.project, arn)


def kinds_of(scopes: tuple[Scope, ...]) -> set[Kind]:
    """What a stack in these scopes is the stack of, as far as they say."""
    first = {segments(path)[0] for path in scopes if path}
    return {kind for kind in KINDS if kind in first}
