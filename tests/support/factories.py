"""Factories: each call names only what the test is about."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.events.event import Event, NewEvent, Resource, recorded_event
from deploylog.events.filters import EVERYTHING
from deploylog.events.scope import (
    Scope,
    changeset_scope,
    deployment_scope,
    parse_scope,
    stack_scope,
)
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.subscription import Attempt, Delivery, Owner, Subscription

_numbers = count(1)

OpenStoreAgain = Callable[[], AbstractAsyncContextManager[Store]]


class Commits:
    """A ``CommitObserver`` that counts."""

    def __init__(self) -> None:
        self.commits = 0
        self.damages: list[str] = []
        self.events = 0
        self.rows = 0
        self.rows_in_vain = 0

    def committed(self, seconds: float, events: int) -> None:
        self.commits += 1
        self.events += events

    def damaged(self, reason: str) -> None:
        self.damages.append(reason)

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        self.rows += rows
        self.rows_in_vain += in_vain


def new_event(
    type: str = "resource.create.started",
    *,
    scopes: tuple[str, ...] = ("project/acme",),
    resource: Resource | str | None = None,
    data: object = None,
    source: str = "terraform",
    time: int | None = None,
    **fields: object,
) -> NewEvent:
    """An event that nobody has recorded."""
    if isinstance(resource, str):
        resource = Resource(type="terraform_data", name=resource)
    return NewEvent(
        type=type,
        source=source,
        scopes=tuple(parse_scope(path) for path in scopes),
        time=time if time is not None else now(),
        resource=resource,
        data=msgspec.Raw(msgspec.json.encode(data)) if data is not None else None,
        **fields,  # type: ignore[arg-type]
    )


def event(position: int = 1, **fields: object) -> Event:
    """An event as the log gives it."""
    id = f"00000000-0000-7000-8000-{position:012x}"
    return recorded_event(new_event(**fields), position=position, id=id, recorded=now())  # type: ignore[arg-type]


def new_events(number: int, **fields: object) -> list[NewEvent]:
    """Events that differ in their producer's id only."""
    return [new_event(producer_id=unique(), **fields) for _ in range(number)]  # type: ignore[arg-type]


def unique(prefix: str = "id") -> str:
    """A string that no other call gives."""
    return f"{prefix}-{next(_numbers)}"


def now() -> int:
    """ns since 1970."""
    return time.time_ns()


def stack_created(name: str = "web", *, id: str = "stack-1", project: str = "acme") -> NewEvent:
    """A stack begins."""
    return new_event(
        "stack.created", scopes=(stack_scope(project, id),), data={"name": name}, source="deploylog"
    )


def deployment_event(type: str, *, id: str = "deployment-1", **fields: object) -> NewEvent:
    """Something happens in a deployment of the stack that ``stack_created`` makes."""
    scope: Scope = deployment_scope("acme", "stack-1", id)
    return new_event(type, scopes=(scope,), **fields)  # type: ignore[arg-type]


def changeset(*, id: str | None = None, project: str = "acme", **fields: object) -> Changeset:
    """A change set that is still staging, and that nobody has stored."""
    id = id or str(uuid4())
    own = changeset_scope(id)
    begun: dict[str, object] = {
        "stack_id": None,
        "stack": None,
        "status": "staging",
        "destroy": False,
        "location": "plan.json",
        "tool": "terraform",
        "tool_version": None,
        "actor": None,
        "created": now(),
        "ended": None,
        "message": None,
        "totals": ChangeCounts(),
        "scopes": (own, Scope(f"project/{project}/{own}")),
        "groups": (),
    }
    return Changeset(id=id, project=project, **(begun | fields))  # type: ignore[arg-type]


def untouched_changeset(**fields: Any) -> Changeset:
    """A change set that a running service does not work on.

    It is from the future: a service that starts takes on those which are unfinished by then.
    """
    return changeset(**{"created": now() + 3600 * SECOND} | fields)


def plan_document(number: int, **fields: object) -> dict[str, object]:
    """The JSON of a plan that creates so many resources."""
    created = {"actions": ["create"], "before": None, "after": {"input": "x"}}
    resources = [
        {
            "address": f"terraform_data.many[{index}]",
            "mode": "managed",
            "type": "terraform_data",
            "name": "many",
            "index": index,
            "provider_name": "terraform.io/builtin/terraform",
            "change": created,
        }
        for index in range(number)
    ]
    return {"format_version": "1.2", "resource_changes": resources, **fields}


def subscription(*, id: str | None = None, **fields: object) -> Subscription:
    """A subscription that nobody has stored."""
    begun: dict[str, object] = {
        "name": unique("ops"),
        "kind": "webhook",
        "format": "cloudevents",
        "filter": EVERYTHING,
        "order": "strict",
        "state": "active",
        "reason": None,
        "owner": Owner(kind="anonymous", id="", name="anonymous"),
        "target": b"sealed",
        "shown": "https://example.com/…",
        "secrets": (),
        "created": now(),
        "checkpoint": 0,
    }
    return Subscription(id=id or str(uuid4()), **(begun | fields))  # type: ignore[arg-type]


def attempt(position: int = 1, **fields: object) -> Attempt:
    """An attempt that arrived."""
    begun: dict[str, object] = {
        "event": f"event-{position}",
        "started": now(),
        "latency": 1_000,
        "result": "delivered",
        "status": 200,
        "error": None,
        "response": "ok",
    }
    return Attempt(position=position, **(begun | fields))  # type: ignore[arg-type]


def delivery(subscription: Subscription, *attempts: Attempt, **fields: object) -> Delivery:
    """What became of one request."""
    checkpoint = max((each.position for each in attempts), default=0)
    begun: dict[str, object] = {"checkpoint": checkpoint}
    return Delivery(subscription=subscription.id, attempts=attempts, **(begun | fields))  # type: ignore[arg-type]


def deployment(**fields: object) -> Deployment:
    """A running deployment."""
    defaults: dict[str, object] = {
        "id": "deployment-1", "project": "acme", "stack_id": "stack-1", "stack": "web",
        "status": "running", "started": now(), "ended": None, "tool": None, "operation": None,
        "environment": None, "actor": None, "message": None, "counts": Counts(), "scopes": (),
        "groups": (),
    }  # fmt: skip
    return Deployment(**(defaults | fields))  # type: ignore[arg-type]
