"""Which stack to collect: the one that has the name now, and the one that had it before."""

from contextlib import suppress

import msgspec

from deploylog.client import Client, Log, StackState, Timing
from deploylog.client.collect.cloudformation import (
    CloudFormation,
    CloudFormationError,
    FoundStack,
)
from deploylog.client.collect.collector import Collector, PollOptions, StackReader
from deploylog.client.collect.recorded import RecordedStack
from deploylog.client.retry import RetryPolicy, retry, same_timeout
from deploylog.errors import DeploylogError
from deploylog.events.scope import Scope, scope
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import name_in
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import catalogue_id

#: The tags of stacks that AWS ParallelCluster creates, and the kind of scope that each names.
_TAGS = {"parallelcluster:image_id": "image", "parallelcluster:cluster-name": "cluster"}


class CollectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The stack to collect, and where its events belong."""

    #: Name or ARN.
    stack: str
    project: str
    image: str | None = None
    cluster: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def is_arn(self) -> bool:
        """Whether ``stack`` is an ARN, so that it never means another stack later."""
        return self.stack.startswith("arn:")

    def context(self, arn: str, tags: dict[str, str]) -> StackContext:
        """Return what all events of the stack have in common."""
        return StackContext(
            project=self.project,
            arn=arn,
            scopes=self._scopes(tags),
            groups=self.groups,
            tags=tags,
        )

    def _scopes(self, tags: dict[str, str]) -> tuple[Scope, ...]:
        names = {kind: tags[tag] for tag, kind in _TAGS.items() if tags.get(tag)}
        given = {"image": self.image, "cluster": self.cluster}
        names |= {kind: name for kind, name in given.items() if name}
        return tuple(scope(kind, name) for kind, name in sorted(names.items()))


class StackCollection:
    """Collects the stack that a name or an ARN stands for."""

    def __init__(
        self,
        options: CollectOptions,
        cloudformation: CloudFormation,
        client: Client,
        *,
        poll: PollOptions,
        retry_timeout: float,
        timing: Timing,
        log: Log,
    ) -> None:
        """``retry_timeout`` is for requests to the server, in seconds."""
        self._options = options
        self._cloudformation = cloudformation
        self._client = client
        self._poll = poll
        self._timeout = same_timeout(retry_timeout)
        self._timing = timing
        self._log = log
        self._unknown: set[str] = set()

    async def run(self) -> Operation | None:
        """Return the last operation of the stack; raises DeploylogError if there is no stack."""
        done: str | None = None
        while True:
            found = await self._cloudformation.find(self._options.stack)
            earlier = await self._finish_earlier(found)
            if found is not None and found.arn != done:
                operation = await self._collect(found, self._poll)
                done = found.arn
                if self._options.is_arn or not self._poll.follow:
                    return operation
                self._log(
                    f"{self._options.stack} was deleted; waiting for a new stack of that name"
                )
            elif not self._poll.follow or self._options.is_arn:
                if earlier is None:
                    raise DeploylogError(f"CloudFormation has no stack {self._options.stack!r}")
                return earlier
            elif done is None:
                done = ""
                self._log(f"CloudFormation has no stack {self._options.stack!r} yet; waiting")
            await self._timing.sleep(self._poll.interval)

    async def _collect(self, found: FoundStack, poll: PollOptions) -> Operation | None:
        context = self._options.context(found.arn, found.tags)
        return await Collector(
            context,
            StackReader(self._cloudformation, found.arn),
            RecordedStack(self._client, context.stack_scope, self._new_policy()),
            poll=poll,
            timing=self._timing,
            log=self._log,
        ).run()

    async def _finish_earlier(self, found: FoundStack | None) -> Operation | None:
        """Collect a deleted stack that had the name before to its end, which frees the name."""
        options = self._options
        name = name_in(options.stack) if options.is_arn else options.stack
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
        return await self._collect(earlier, msgspec.structs.replace(self._poll, follow=False))

    async def _find_earlier(self, arn: str) -> FoundStack | None:
        """Return the stack, unless another account or region has it or it was deleted long ago."""
        found: FoundStack | None = None
        with suppress(CloudFormationError):
            found = await self._cloudformation.find(arn)
        if found is None and arn not in self._unknown:
            self._unknown.add(arn)
            self._log(f"CloudFormation no longer has {arn}, which was not collected to its end")
        return found

    async def _known(self, name: str) -> StackState | None:
        """Return the stack that has the name in the catalog."""
        params = [("project", self._options.project)]
        stacks = await retry(lambda: self._client.stacks(params), self._new_policy())
        return next((stack for stack in stacks if stack.name == name), None)

    async def _arn_of(self, known: StackState) -> str | None:
        own = scope("project", known.project, "stack", known.id)
        recorded = RecordedStack(self._client, own, self._new_policy())
        return await recorded.arn(known.project, known.id)

    def _new_policy(self) -> RetryPolicy:
        return RetryPolicy(self._timeout, self._timing, log=self._log)
