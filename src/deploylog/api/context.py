"""What the composition root hands to every dialect."""

import os
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from deploylog.api.http.body import BodyLimits
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.events.access import Principal
from deploylog.events.retention import Retention
from deploylog.events.service import EventService
from deploylog.ingest.cloudformation.sns import SnsMessage
from deploylog.subscriptions.reconcile import SubscriptionGroups
from deploylog.subscriptions.service import SubscriptionService

Handler = Callable[[Request], Awaitable[ASGIApp]]


class Topics(Protocol):
    """The topics of SNS that are known. All raise Unavailable when SNS does not answer."""

    async def admit(self, message: SnsMessage, project: str | None) -> tuple[Principal, str]:
        """Who sent it, and for which project; ``project`` is the one that was asked for.

        Raises Forbidden for a topic or a project that is not its own, or a message that is old,
        and Unauthenticated for one that SNS has not signed.
        """
        ...

    async def confirm(self, message: SnsMessage) -> None:
        """Confirm the subscription that an admitted message asks for; raises InvalidInput."""
        ...


class ApiContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts a dialect may use, and the limits it keeps."""

    service: EventService
    deployments: DeploymentService
    staging: Staging
    cleaning: Retention
    subscribing: SubscriptionService
    subscription_sets: SubscriptionGroups
    topics: Topics
    #: ns since 1970.
    clock: Callable[[], int]
    #: Told how many events went out on a stream, and to which position.
    sent: Callable[[int, int], None]
    limits: BodyLimits
    #: Most requests a second of each principal; 0 is no limit.
    max_requests_per_second: float = 0
    #: Whether a file is the store's own, which no client may read.
    reserved: Callable[[os.stat_result], bool]
    #: Signs the tokens of pages, the same in every process of this log.
    page_token_key: bytes
