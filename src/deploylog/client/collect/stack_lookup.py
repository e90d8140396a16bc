"""Which stack is collected: the one that has a name now, and before it the one that had it."""

from collections.abc import Callable
from contextlib import suppress

import msgspec

from deploylog.client import Client, Say, StackState
from deploylog.client.collect.cloudformation import CloudFormation, CloudFormationError, FoundStack
from deploylog.client.collect.collector import Collector, PollOptions, StackReader
from deploylog.client.collect.recorded import Logbook
from deploylog.client.retry import RetryPolicy, retry
from deploylog.errors import DeploylogError
from deploylog.events.scope import Scope, scope
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import name_in
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import catalogue_id

#: Tags of the stacks that AWS ParallelCluster makes, and the scope that each tells.
_TAGS = {"parallelcluster:image_id": "image", "parallelcluster:cluster-name": "cluster"}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be collected, and where it belongs."""

    #: Name or ARN.
    stack: str
    project: str
    image: str | None = None
    cluster: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def is_arn(self) -> bool:
        """Whether exactly one stack is meant, not whichever has a name."""
        return self.stack.startswith("arn:")

    def frame(self, arn: str, tags: dict[str, str]) -> StackContext:
        """What all events of the stack have in common."""
        return StackContext(
            project=self.project,
            arn=arn,
            scopes=self._scopes(tags),
            groups=self.groups,
            tags=tags,
        )

    def _scopes(self, tags: dict[str, str]) -> tuple[Scope, ...]:
        named = {word: tags[tag] for tag, word in _TAGS.items() if tags.get(tag)}
        given = {"image": self.image, "cluster": self.cluster}
        named |= {word: name for word, name in given.items() if name}
        return tuple(scope(word, name) for word, name in sorted(named.items()))


class StackCollection:
    """Collects what a name or an ARN stands for."""

    def __init__(
        self,
        wanted: Wanted,
        cloudformation: CloudFormation,
        client: Client,
        *,
        persistence: Callable[[], RetryPolicy],
        pace: PollOptions,
        say: Say,
    ) -> None:
        """Read from ``cloudformation``, record with ``client``."""
        self._wanted = wanted
        self._cloudformation = cloudformation
        self._client = client
        self._persistence = persistence
        self._pace = pace
        self._say = say
        self._unknown: set[str] = set()

    async def run(self) -> Operation | None:
        """The last operation of the stack; raises DeploylogError when there is no such stack."""
        done: str | None = None
        while True:
            found = await self._cloudformation.find(self._wanted.stack)
            earlier = await self._finish_earlier(found)
            if found is not None and found.arn != done:
                operation = await self._collect(found, self._pace)
                done = found.arn
                if self._wanted.is_arn or not self._pace.follow:
                    return operation
                self._say(f"{self._wanted.stack} is deleted; waiting for another of that name")
            elif not self._pace.follow or self._wanted.is_arn:
                if earlier is None:
                    raise DeploylogError(f"CloudFormation has no stack {self._wanted.stack!r}")
                return earlier
            elif done is None:
                done = ""
                self._say(f"CloudFormation has no stack {self._wanted.stack!r} yet; waiting")
            await self._pace.sleep(self._pace.interval)

    async def _collect(self, found: FoundStack, pace: PollOptions) -> Operation | None:
        frame = self._wanted.frame(found.arn, found.tags)
        return await Collector(
            frame,
            StackReader(self._cloudformation, found.arn),
            Logbook(self._client, frame.stack_scope, self._persistence()),
            pace=pace,
            say=self._say,
        ).run()

    async def _finish_earlier(self, found: FoundStack | None) -> Operation | None:
        """Bring the stack to its end that had the name before, if it is deleted; else its name
        would never be free.
        """
        name = name_in(self._wanted.stack) if self._wanted.is_arn else self._wanted.stack
        known = await self._known(name)
        if known is None or (
            found is not None and catalogue_id(known.project, found.arn) == known.id
        ):
            return None
        arn = await self._arn_of(known)
        if arn is None or name_in(arn) != name:
            return None
        earlier = await self._find_earlier(arn)
        if earlier is None or not earlier.is_deleted:
            return None
        return await self._collect(earlier, msgspec.structs.replace(self._pace, follow=False))

    async def _find_earlier(self, arn: str) -> FoundStack | None:
        """The stack, unless it is of another account or region, or was deleted long ago."""
        found: FoundStack | None = None
        with suppress(CloudFormationError):
            found = await self._cloudformation.find(arn)
        if found is None and arn not in self._unknown:
            self._unknown.add(arn)
            self._say(f"CloudFormation does not tell of {arn}, whose end was not collected")
        return found

    async def _known(self, name: str) -> StackState | None:
        """The stack that has the name in the catalogue."""
        params = [("project", self._wanted.project)]
        stacks = await retry(lambda: self._client.stacks(params), self._persistence())
        return next((stack for stack in stacks if stack.name == name), None)

    async def _arn_of(self, known: StackState) -> str | None:
        own = scope("project", known.project, "stack", known.id)
        return await Logbook(self._client, own, self._persistence()).arn(known.project, known.id)
