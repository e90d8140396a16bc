"""What every API may use: the services, the clock, and the limits that all of them share."""

import os
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from deploylog.api.http.body import BodyLimits
from deploylog.api.http.body_budget import BodyBudget
from deploylog.auth.key_service import KeyService
from deploylog.deployments.endings import DeploymentEndings
from deploylog.deployments.measuring import DoraService
from deploylog.deployments.reporting import DeploymentReports
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.events.access import Principal
from deploylog.events.outlet import Sent
from deploylog.events.retention import Retention
from deploylog.events.service import EventService
from deploylog.ingest.cloudformation.sns import SnsMessage
from deploylog.subscriptions.reconcile import SubscriptionGroups
from deploylog.subscriptions.service import SubscriptionService

Handler = Callable[[Request], Awaitable[ASGIApp]]


class Topics(Protocol):
    """The known SNS topics. Every method raises Unavailable when SNS does not answer."""

    async def authenticate(self, message: SnsMessage, project: str | None) -> tuple[Principal, str]:
        """Who sent it, and for which project; ``project`` is the one that was asked for.

        Raises Forbidden for an unknown topic, a project of another topic or an old message, and
        Unauthenticated for a message without a valid signature.
        """
        ...

    async def confirm(self, message: SnsMessage) -> None:
        """Confirm the subscription that an admitted message asks for; raises InvalidInput."""
        ...


class ApiContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the server gives to every API. Nothing here belongs to one API alone."""

    events: EventService
    deployments: DeploymentService
    dora: DoraService
    keys: KeyService
    reports: DeploymentReports
    endings: DeploymentEndings
    staging: Staging
    retention: Retention
    subscriptions: SubscriptionService
    subscription_groups: SubscriptionGroups
    topics: Topics
    #: ns since 1970.
    clock: Callable[[], int]
    #: Counts the events that streams sent.
    sent: Sent
    limits: BodyLimits
    #: Counts the bytes of all request bodies in memory.
    bodies: BodyBudget
    #: Requests per second of each principal; 0 is no limit.
    max_requests_per_second: float = 0
    #: Whether a file is the store's own, which no client may read.
    reserved: Callable[[os.stat_result], bool]
    #: Signs page tokens; the same in every process of this log.
    page_token_key: bytes
