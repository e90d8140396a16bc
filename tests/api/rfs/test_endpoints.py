"""RFS's route: the order of its checks, and paging, over a service of events."""

import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deploylog.api.context import ApiContext, Topics
from deploylog.api.http.body import BodyLimits
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.rfs import API
from deploylog.api.rfs.errors import respond
from deploylog.api.rfs.settings import RfsSettings
from deploylog.auth.key_service import KeyService
from deploylog.deployments.endings import DeploymentEndings
from deploylog.deployments.measuring import DoraService
from deploylog.deployments.reporting import DeploymentReports
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.errors import DeploylogError, DeploymentNotFound, Forbidden, StackNotFound
from deploylog.events.access import ANONYMOUS, Principal
from deploylog.events.chronology import Moment, TimePage, read_by_time
from deploylog.events.event import Event
from deploylog.events.retention import Retention
from deploylog.events.scope import contains, deployment_scope
from deploylog.events.service import EventService
from deploylog.events.store import Page, Query
from deploylog.subscriptions.reconcile import SubscriptionGroups
from deploylog.subscriptions.service import SubscriptionService

PROJECT = "acme"
STACK_ID = "0d8a4c1e-31f2-4a39-9a1c-7f1f5a1d9c11"
FIRST = "81edbb3e-00d9-42fd-94c8-59c7525d0f28"
SECOND = "5bbd0c8e-7c0b-4b7e-8a43-2c4d6f3e9a10"
FOREIGN = "c0ffee00-7c0b-4b7e-8a43-2c4d6f3e9a10"
NOBODY = "00000000-0000-0000-0000-000000000000"
REQUEST_ID = "4d5f3a1e-0c7e-4c3b-9d53-9a7f1c2b3d4e"

EVENTS = f"/v1/{PROJECT}/stacks/web/events"


class FakeService:
    """A stack ``web`` of project ``acme``, its two deployments, and another stack's."""

    def __init__(self, events: Iterable[Event] = (), *, epoch: int = 1) -> None:
        self.events = list(events)
        self.epoch = epoch

    async def require_retained(self, *positions: int | None) -> None:
        """Everything is retained."""

    async def page_by_time(
        self, principal: Principal, query: Query, *, beyond: Moment | None
    ) -> TimePage:
        return await read_by_time(partial(self.read, principal), query, beyond=beyond)

    async def stack(self, principal: Principal, project: str, name: str) -> Any:
        if project != PROJECT:
            raise Forbidden
        if name != "web":
            raise StackNotFound
        return SimpleNamespace(id=STACK_ID, project=project)

    async def deployment(self, principal: Principal, id: str) -> Any:
        stacks = {FIRST: STACK_ID, SECOND: STACK_ID, FOREIGN: "another"}
        if id not in stacks:
            raise DeploymentNotFound
        return SimpleNamespace(id=id, stack_id=stacks[id])

    async def pages(self, principal: Principal, query: Query) -> AsyncIterator[Page]:
        yield await self.read(principal, query)

    async def read(self, principal: Principal, query: Query) -> Page:
        low = query.after if query.after is not None else 0
        high = query.before if query.before is not None else 1 << 40
        found = [
            event
            for event in self.events
            if low < event.position < high
            and query.filter.matches(event)
            and any(contains(query.scope, scope) for scope in event.scopes)
        ]
        found.sort(key=lambda event: event.position, reverse=query.order == "newest")
        page = found[: query.limit]
        return Page(page, next=page[-1].position if len(page) < len(found) else None)


def recorded(position: int, type: str = "deployment.log", deployment: str = FIRST) -> Event:
    return Event(
        type=type,
        source="test",
        scopes=(deployment_scope(PROJECT, STACK_ID, deployment),),
        time=position * 1_000_000_000,
        message=str(position),
        position=position,
        id=str(position),
        recorded=0,
    )


class Authenticated:
    """Authenticates every request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with BodyBudget(1000).share() as share:
            scope.setdefault("state", {}).update(principal=ANONYMOUS, body_share=share)
            await self.app(scope, receive, send)


def context_of(service: FakeService) -> ApiContext:
    return ApiContext(
        events=cast("EventService", service),
        deployments=cast("DeploymentService", service),
        dora=cast("DoraService", None),
        keys=cast("KeyService", None),
        clock=lambda: 0,
        sent=lambda events, position, readers=1: None,
        limits=BodyLimits(sent=1000, decompressed=1000),
        bodies=BodyBudget(1000),
        # Nothing of these is RFS's.
        reports=cast("DeploymentReports", None),
        endings=cast("DeploymentEndings", None),
        staging=cast("Staging", None),
        retention=cast("Retention", None),
        subscriptions=cast("SubscriptionService", None),
        subscription_groups=cast("SubscriptionGroups", None),
        reserved=lambda file: False,
        topics=cast("Topics", None),
        page_token_key=b"",
    )


def app_of(context: ApiContext, *, strict: bool) -> ASGIApp:
    wrapped = [
        Middleware(ExceptionMiddleware, handlers={DeploylogError: respond}),
        Middleware(Authenticated),
    ]
    return Starlette(
        routes=[
            Route(each.path, endpoint, methods=[each.method], middleware=wrapped)
            for each, endpoint in API.handlers(context, RfsSettings(rfs_strict=strict))
        ]
    )


async def get(
    service: FakeService,
    target: str = EVENTS,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    strict: bool = False,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the JSON body and the headers of the response."""
    path, _, query = target.partition("?")
    sent: list[Any] = []
    request = {"client-request-id": REQUEST_ID} if headers is None else headers

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in request.items()],
    }
    await app_of(context_of(service), strict=strict)(scope, receive, send)
    start, response = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], json.loads(response["body"]), answered


async def messages(service: FakeService, target: str) -> list[str]:
    status, body, _ = await get(service, target)
    assert status == 200
    return [event["event_message"] for event in body["stack_events"]]


async def test_the_events_of_a_stack_are_listed_newest_first() -> None:
    service = FakeService([recorded(1), recorded(2, deployment=SECOND), recorded(3)])

    status, body, headers = await get(service)

    assert status == 200
    assert [event["event_message"] for event in body["stack_events"]] == ["3", "2", "1"]
    assert headers["content-type"] == "application/json;charset=UTF-8"
    assert headers["client-request-id"] == REQUEST_ID
    assert len(headers["x-request-id"]) == 32


async def test_only_the_events_of_the_deployment_are_listed() -> None:
    service = FakeService([recorded(1), recorded(2, deployment=SECOND), recorded(3)])

    assert await messages(service, f"{EVENTS}?deployment_id={SECOND}") == ["2"]


async def test_the_deployment_may_be_named_in_the_body() -> None:
    service = FakeService([recorded(1), recorded(2, deployment=SECOND)])
    body = msgspec.json.encode({"stack_id": STACK_ID, "deployment_id": SECOND})

    _, response, _ = await get(service, body=body)

    assert [event["event_message"] for event in response["stack_events"]] == ["2"]


async def test_a_stack_id_is_the_same_in_capitals() -> None:
    service = FakeService([recorded(1)])

    assert await messages(service, f"{EVENTS}?stack_id={STACK_ID.upper()}") == ["1"]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2000, 2001])
async def test_without_a_limit_all_events_are_in_one_response(count: int) -> None:
    service = FakeService(recorded(position) for position in range(1, count + 1))

    _, body, _ = await get(service)

    visible = [int(event["event_message"]) for event in body["stack_events"]]
    assert visible == list(range(count, 0, -1))
    assert body["page_info"] == {"current_count": count}


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_pages_go_to_the_end_and_back_while_events_arrive(limit: int) -> None:
    logs = [recorded(position) for position in (1, 3, 5, 7, 9, 11)]
    others = [recorded(position, "deployment.error") for position in (2, 4, 6)]
    service = FakeService(logs + others)
    target = f"{EVENTS}?filter=event_type==LOG&limit={limit}"

    pages: list[list[str]] = []
    last: dict[str, Any] = {}
    marker = None
    while not pages or marker is not None:
        query = f"&marker={marker}" if marker else ""
        _, body, _ = await get(service, target + query)
        pages.append([event["event_message"] for event in body["stack_events"]])
        last = body["page_info"]
        marker = last.get("next_marker")
        service.events.append(recorded(100 + len(pages)))

    assert [message for page in pages for message in page] == ["11", "9", "7", "5", "3", "1"]
    for page in reversed(pages[:-1]):
        _, body, _ = await get(service, f"{target}&marker={last['previous_marker']}")
        assert [event["event_message"] for event in body["stack_events"]] == page
        last = body["page_info"]


async def test_a_marker_without_a_limit_returns_a_hundred() -> None:
    service = FakeService(recorded(position) for position in range(1, 251))
    _, first, _ = await get(service, f"{EVENTS}?limit=10")

    marker = first["page_info"]["next_marker"]
    _, second, _ = await get(service, f"{EVENTS}?marker={marker}")

    assert second["page_info"]["current_count"] == 100
    assert second["stack_events"][0]["event_message"] == "240"


OTHER_PROJECT = "/v1/other/stacks/web/events"
OTHER_STACK = f"/v1/{PROJECT}/stacks/nope/events"


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (f"{OTHER_PROJECT}?limit=x", 400, "RF.10011036"),
        (OTHER_PROJECT, 403, "RF.10012507"),
        (f"{OTHER_STACK}?filter=x", 400, "RF.10011088"),
        (f"{OTHER_STACK}?stack_id={NOBODY}", 404, "RF.10013001"),
        (f"{EVENTS}?stack_id={NOBODY}&deployment_id={NOBODY}", 400, "RF.10011015"),
        (f"{EVENTS}?stack_id={STACK_ID}&deployment_id={NOBODY}&marker=x", 404, "RF.10013003"),
        (f"{EVENTS}?deployment_id={FOREIGN}", 404, "RF.10013003"),
        (f"{EVENTS}?marker=x", 400, "RF.10011038"),
    ],
)
async def test_the_first_error_is_returned(target: str, status: int, code: str) -> None:
    answered, body, headers = await get(FakeService(), target)

    assert (answered, body["error_code"]) == (status, code)
    assert headers["client-request-id"] == REQUEST_ID
    assert "x-request-id" in headers


async def test_an_unknown_parameter_is_refused_where_the_settings_are_strict() -> None:
    lenient, _, _ = await get(FakeService(), f"{EVENTS}?x=1")
    strict, body, _ = await get(FakeService(), f"{EVENTS}?x=1", strict=True)

    assert (lenient, strict, body["error_code"]) == (200, 400, "RF.10011002")


async def test_a_body_beyond_the_limit_is_too_large() -> None:
    status, body, _ = await get(FakeService(), body=b" " * 1001)

    assert (status, body["error_code"]) == (400, "RF.10011005")


async def test_a_request_without_an_id_is_refused() -> None:
    status, body, _ = await get(FakeService(), headers={})

    assert (status, body["error_code"]) == (400, "RF.10011001")


async def test_another_project_in_the_header_is_denied_before_the_stack_lookup() -> None:
    headers = {"client-request-id": REQUEST_ID, "x-project-id": "other"}

    status, body, _ = await get(FakeService(), OTHER_STACK, headers=headers)

    assert (status, body["error_code"]) == (403, "RF.10012507")
    assert body["encoded_authorization_message"]


async def test_a_marker_from_before_a_restore_is_refused() -> None:
    events = [recorded(1), recorded(2), recorded(3)]
    _, body, _ = await get(FakeService(events, epoch=1), f"{EVENTS}?limit=1")
    marker = body["page_info"]["next_marker"]

    status, body, _ = await get(FakeService(events, epoch=2), f"{EVENTS}?limit=1&marker={marker}")

    assert (status, body["error_code"]) == (400, "RF.10011038")
    assert await messages(FakeService(events, epoch=1), f"{EVENTS}?limit=1&marker={marker}") == [
        "2"
    ]
