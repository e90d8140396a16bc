"""One table says who may see which event. Every surface gives that answer, over real HTTP: queries,
full text, histories, streams, webhooks, Slack, and whatever is counted.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploylog.store.contract import Store
from support.fake_slack import CHANNEL, TOKEN, FakeSlack, fake_slack
from support.receivers import Receiver, receiving
from support.servers import DEPLOYMENTS, EVENTS, Local, running
from support.sessions import session_of
from support.subscribers import (
    LOOPBACK,
    Headers,
    add_key,
    caught_up,
    document,
    encryption_key_file,
    subscribe,
)

QUERY = "/api/v1/events/query"

#: Grants, and groups.
PRINCIPALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "admin": (("admin:/",), ("g", "other")),
    "g": (("read:/",), ("g",)),
    "other": (("read:/",), ("other",)),
    "inventory": (("read:inventory",), ("g",)),
}


class Row(msgspec.Struct, frozen=True):
    """An event, and who may see it. ``deployment`` stands for the scope of one."""

    name: str
    type: str
    scopes: tuple[str, ...]
    groups: tuple[str, ...]
    seen_by: str


RELEASE = "inventory/ip/ia/1.0"
PUBLIC_GROUP = "admin g other inventory"

ROWS = (
    Row("i1", "inventory.release.uploaded", (RELEASE,), (), PUBLIC_GROUP),
    Row("i2", "inventory.application.created", ("inventory/ip/ia",), ("*",), PUBLIC_GROUP),
    Row("i3", "inventory.release.uploaded", (RELEASE,), ("g",), "admin g inventory"),
    Row("i4", "inventory.project.created", ("inventory/ip",), ("other",), "admin other"),
    Row("s1", "state.deployment.updated", ("state/sp/se/web",), (), "admin g other"),
    Row("s2", "state.environment.created", ("state/sp/se",), ("g",), "admin g"),
    Row("s3", "state.deployment.updated", ("state/sp/se/web",), ("g", "other"), "admin g other"),
    Row("b1", "state.project.created", ("inventory/ip", "state/sp"), ("g",), "admin g inventory"),
    Row("m1", "image.build.completed", ("image/base",), ("other",), "admin other"),
    Row("d1", "resource.create.completed", ("deployment open",), (), "admin g other"),
    Row("d2", "resource.create.completed", ("deployment g",), ("g",), "admin g"),
    Row("d3", "resource.create.failed", ("deployment g",), ("other",), "admin other"),
    # The last one is for all, so that whoever has come to it has come to the end.
    Row("end", "inventory.project.created", ("inventory/end",), (), PUBLIC_GROUP),
)  # fmt: skip

#: Names of what lies where each of the nine queries looks, newest first.
ESCAPE = {
    "/": "end b1 s3 s2 s1 i4 i3 i2 i1",
    "/inventory/": "end b1 i4 i3 i2 i1",
    "/inventory/ip/": "b1 i4 i3 i2 i1",
    "/inventory/ip/ia/": "i3 i2 i1",
    "/inventory/ip/ia/1.0/": "i3 i1",
    "/project/": "b1 s3 s2 s1",
    "/project/sp/": "b1 s3 s2 s1",
    "/project/sp/se/": "s3 s2 s1",
    "/project/sp/se/deployment?deployment=web": "s3 s1",
}
ALL = " ".join(row.name for row in ROWS)

#: Deployments by their stack: who may see them, and what is counted as added and failed. What is
#: for other groups than the deployment is counted for nobody.
STACKS = {"open": ("admin g other", 1, 0), "g": ("admin g", 1, 0)}

#: By stack, the resources that are listed there, newest first.
RFS = {"open": "d1", "g": "d3 d2"}

#: The id of the resources of all rows that have one.
SHARED_ID = "i-shared"

SEEN_BY = {row.name: row.seen_by.split() for row in ROWS}


class World:
    """The service, somebody who asks, and where somebody's subscriptions deliver to."""

    def __init__(self, service: Local, principal: str, headers: Headers) -> None:
        self.service = service
        self.principal = principal
        self.headers = headers
        self.ids: dict[str, str] = {}

    def seen(self, names: str) -> list[str]:
        """Those of the names that the table shows to the principal."""
        return [name for name in names.split() if self.principal in SEEN_BY[name]]

    async def get(self, path: str) -> Any:
        answer = await self.service.get(path, headers=self.headers)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture(params=PRINCIPALS)
async def world(
    request: pytest.FixtureRequest, store: Store, tmp_path: Path, slack: FakeSlack
) -> AsyncIterator[World]:
    grants, groups = PRINCIPALS[request.param]
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
        "slack_api_url": slack.api_url,
    }
    async with running(store, **options) as service:
        _, headers = await add_key(store, *grants, groups=groups, name=request.param)
        world = World(service, request.param, headers)
        yield world


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as slack:
        yield slack


async def record(world: World, store: Store) -> None:
    """All rows, by somebody who may."""
    _, writer = await add_key(store, "admin:/", groups=("g", "other"), name="writer")
    scopes = {}
    for stack, groups in (("open", []), ("g", ["g"])):
        body = {"project": "acme", "stack": stack, "groups": groups}
        opened = await world.service.post(body, "application/json", DEPLOYMENTS, headers=writer)
        assert opened.status == 201, opened.body
        scopes[f"deployment {stack}"] = opened.json["scopes"]
    for row in ROWS:
        answer = await world.service.post(json.dumps(_event(row, scopes)), headers=writer)
        assert answer.status == 201, answer.body
        world.ids[row.name] = answer.ids[0]


def _event(row: Row, scopes: dict[str, list[str]]) -> dict[str, Any]:
    paths = [path for each in row.scopes for path in scopes.get(each, [each])]
    event: dict[str, Any] = {
        "type": row.type, "source": "matrix", "subject": f"name-{row.name}", "actor": row.name,
        "scopes": " ".join(paths), "groups": " ".join(row.groups), "message": f"told-{row.name}",
    }  # fmt: skip
    if row.type.startswith("resource."):
        event |= {
            "resourcetype": "terraform_data", "resourcename": f"name-{row.name}",
            "resourceaddress": f"address-{row.name}", "resourceidkey": "id",
            "resourceidvalue": SHARED_ID,
        }  # fmt: skip
    return {name: value for name, value in event.items() if value}


@asynccontextmanager
async def delivering(world: World, slack: FakeSlack) -> AsyncIterator[dict[str, Receiver]]:
    """Three webhooks, and two ways to Slack, all of the same owner; ends when all is delivered."""
    async with AsyncExitStack() as stack:
        receivers = {
            format: await stack.enter_async_context(receiving())
            for format in ("cloudevents", "escape", "text")
        }
        subscribed = [
            await subscribe(
                world.service, receiver.url, headers=world.headers, source="matrix", format=format
            )
            for format, receiver in receivers.items()
            if format != "text"
        ]
        text = {"q": '"told-*"', "not": {"actor": ["nobody"]}}
        subscribed.append(
            await subscribe(
                world.service, receivers["text"].url, headers=world.headers, filter=text
            )
        )
        to_slack: dict[str, Any] = {
            "kind": "slack", "source": "matrix", "order": "per_deployment",
            "headers": world.headers, "filter": {"not": {"type": ["none"]}},
        }  # fmt: skip
        subscribed += [
            await subscribe(world.service, slack.webhook_url, **to_slack),
            await subscribe(world.service, token=TOKEN, channel=CHANNEL, **to_slack),
        ]
        yield receivers
        for each in subscribed:
            await caught_up(world.service, each["id"], headers=world.headers)


# What each surface shows


async def test_every_surface_shows_what_the_table_says(
    world: World, store: Store, slack: FakeSlack
):
    async with delivering(world, slack) as receivers:
        await record(world, store)

    shown = {
        "native list": await native_list(world),
        "native get": await native_get(world),
        "native stream": await native_stream(world),
        "native stream of a text": await native_stream(world, "q=told"),
        "webhook": [each["subject"] for each in bodies(receivers["cloudevents"])],
        "webhook of a text": [each["subject"] for each in bodies(receivers["text"])],
        "webhook, as Escape": [each["username"] for each in bodies(receivers["escape"])],
        "Slack's incoming webhook": told(said_by_webhook(slack)),
        "Slack's bot": told(said_by_bot(slack)),
    } | {f"Escape {path}": await escape(world, path) for path in ESCAPE}
    in_order = [f"name-{name}" for name in world.seen(ALL)]
    assert shown == {
        "native list": in_order[::-1],
        "native get": world.seen(ALL),
        "native stream": in_order,
        "native stream of a text": in_order,
        "webhook": in_order,
        "webhook of a text": in_order,
        "webhook, as Escape": world.seen("i1 i2 i3 i4 s1 s2 s3 b1 end"),
        "Slack's incoming webhook": set(world.seen(ALL)),
        # What goes well in a deployment is told by its message, which tells how many.
        "Slack's bot": set(world.seen(ALL)) - told_by_message(world),
    } | {f"Escape {path}": world.seen(names) for path, names in ESCAPE.items()}


async def test_deployments_and_their_counts_are_displayed_to_those_who_may_see_them(
    world: World, store: Store, slack: FakeSlack
):
    async with delivering(world, slack):
        await record(world, store)

    page = await world.get(DEPLOYMENTS)
    listed = {each["stack"]: each for each in page["deployments"]}
    visible = {
        stack for stack, (seen_by, _, _) in STACKS.items() if world.principal in seen_by.split()
    }
    posted = {
        stack: [text for text in texts(slack) if text.startswith(f"Deployment of {stack}:")]
        for stack in STACKS
    }
    assert set(listed) == visible
    assert {stack for stack, said in posted.items() if said} == visible
    for stack in visible:
        _, added, failed = STACKS[stack]
        counts = listed[stack]["counts"]
        assert (counts["added"], counts["failed"]) == (added, failed)
        assert posted[stack][-1].endswith(f"{added} added, 0 changed, 0 destroyed, {failed} failed")


async def test_rfs_lists_what_the_table_says(world: World, store: Store):
    await record(world, store)

    for stack, names in RFS.items():
        answer = await world.service.get(
            f"/v1/acme/stacks/{stack}/events",
            headers={**world.headers, "Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"},
        )
        listed = answer.json.get("stack_events", [])
        found = [each["resource_name"] for each in listed if "resource_name" in each]
        assert found == [f"name-{name}" for name in world.seen(names)]
        assert (answer.status == 200) == (world.principal != "inventory")


async def test_full_text_and_histories_show_what_the_table_says(world: World, store: Store):
    await record(world, store)

    shown = {query: await listed(world, query) for query in FOUND_BY}
    assert shown == {
        query: [f"name-{name}" for name in world.seen(names)] for query, names in FOUND_BY.items()
    }


async def test_counts_are_of_what_the_table_shows(world: World, store: Store):
    await record(world, store)

    for query, names in FOUND_BY.items():
        visible = world.seen(names)
        rows = [row for row in ROWS if row.name in visible]
        assert await counted(world, query) == len(visible)
        for field, value_of in FACETS.items():
            expected = Counter(value for row in rows if (value := value_of(row)) is not None)
            facets = await world.get(
                f"{EVENTS}/facets?source=matrix&field={field}&top=1000&{query}"
            )
            assert {each["value"]: each["count"] for each in facets["top"]} == expected
            assert (facets["values"], facets["total"]) == (len(expected), len(visible))


async def test_what_is_hidden_is_nowhere_counted(world: World, store: Store):
    """Somebody who guesses everything about an event learns nothing of it."""
    await record(world, store)

    for name in (row.name for row in ROWS if world.principal not in SEEN_BY[row.name]):
        for query in GUESSES:
            guess = query.format(name=name)
            assert await listed(world, guess) == []
            assert await counted(world, guess) == 0
            facets = await world.get(f"{EVENTS}/facets?source=matrix&field=type&top=1000&{guess}")
            assert (facets["top"], facets["values"], facets["total"]) == ([], 0, 0)


async def test_how_something_was_found_is_for_readers_of_the_whole_log(world: World, store: Store):
    await record(world, store)

    for row in ROWS:
        path = f"{EVENTS}?explain=true&q=%22told-{row.name}%22"
        answer = await world.service.get(path, headers=world.headers)
        if world.principal == "inventory":
            assert answer.status == 403
            continue
        is_seen = world.principal in SEEN_BY[row.name]
        # A hidden event is neither found nor read in vain.
        assert answer.json["explain"] == {
            "segments": 1, "hits": int(is_seen), "rows": int(is_seen), "rows_in_vain": 0
        }  # fmt: skip


async def test_pages_show_what_the_table_says(world: World, store: Store):
    await record(world, store)
    cookie = await session_of(world.service, world.headers["Authorization"].split()[1])

    shown = {path: await told_on(world, path, cookie) for path in PAGES}

    assert shown == {path: set(world.seen(names)) for path, names in PAGES.items()}


async def told_on(world: World, path: str, cookie: str) -> set[str]:
    """The rows that a page tells of."""
    headers = {"cookie": cookie, "accept": "text/html"}
    answer = await world.service.get(f"/ui/{path}", headers=headers)
    assert answer.status == 200, answer.body
    assert "Sign out" in answer.body.decode()
    return set(re.findall(r"(?:told|name)-(\w+)", answer.body.decode()))


#: Pages, and the rows that they tell of.
PAGES = {
    "events": ALL,
    "audit": "i1 i2 i3 i4 s1 s2 s3 b1 end",
    "audit?project=ip": "i1 i2 i3 i4 b1",
    "audit?actor=i3": "i3",
    f"resource?resource={SHARED_ID}": "d1 d2 d3",
}

#: Queries besides the source, and the rows that they find, oldest first.
FOUND_BY = {
    "": ALL,
    "q=told": ALL,
    "q=%22told-s*%22": "s1 s2 s3",
    "q=name-i3": "i3",
    "q=released": "",
    "type!=state.*": " ".join(row.name for row in ROWS if not row.type.startswith("state.")),
    "actor!=i1&scope=inventory/ip": "i2 i3 i4 b1",
    f"resource={SHARED_ID}": "d1 d2 d3",
    f"resourceid={SHARED_ID}": "d1 d2 d3",
    "resource=address-d3": "d3",
    "resourceaddress!=address-d3&type=resource.*": "d1 d2",
}

#: What a field of a row is, or that it has none.
FACETS: dict[str, Callable[[Row], str | None]] = {
    "type": lambda row: row.type,
    "actor": lambda row: row.name,
    "subject": lambda row: f"name-{row.name}",
    "resourceaddress": lambda row: f"address-{row.name}" if row.name in "d1 d2 d3" else None,
    "resourceid": lambda row: SHARED_ID if row.name in "d1 d2 d3" else None,
}

#: What finds one row by its name.
GUESSES = (
    "q=told-{name}",
    "q=%22told-{name}%22",
    "q=name-{name}*",
    "actor={name}",
    "subject=name-{name}",
    "resource=address-{name}",
    "resourceaddress=address-{name}",
    "actor={name}&type!=nothing",
)


async def listed(world: World, query: str) -> list[str]:
    page = await world.get(f"{EVENTS}?source=matrix&limit=1000&order=oldest&{query}")
    return [each["subject"] for each in page["events"]]


async def counted(world: World, query: str) -> int:
    """What is counted, and what the histogram adds up to."""
    count = (await world.get(f"{EVENTS}/count?source=matrix&{query}"))["count"]
    histogram = await world.get(f"{EVENTS}/histogram?source=matrix&buckets=7&{query}")
    in_buckets = sum(bucket["count"] for bucket in histogram["buckets"])
    assert (histogram["total"], in_buckets) == (count, count)
    return int(count)


async def native_list(world: World) -> list[str]:
    page = await world.get(f"{EVENTS}?source=matrix&limit=1000")
    return [each["subject"] for each in page["events"]]


async def native_get(world: World) -> list[str]:
    found = {}
    for name, id in world.ids.items():
        answer = await world.service.get(f"{EVENTS}/{id}", headers=world.headers)
        found[name] = answer.status
    assert set(found.values()) <= {200, 404}
    return [name for name, status in found.items() if status == 200]


async def native_stream(world: World, filter: str = "source=matrix") -> list[str]:
    shown: list[str] = []
    query = f"from=start&{filter}"
    async with world.service.stream(query, headers=world.headers) as stream:
        while shown[-1:] != ["name-end"]:
            shown.append((await stream.next()).data["subject"])
    return shown


async def escape(world: World, path: str) -> list[str]:
    return [each["username"] for each in await world.get(QUERY + path)]


def bodies(receiver: Receiver) -> list[Any]:
    return [document(body) for _, body in receiver.requests]


def said_by_webhook(slack: FakeSlack) -> list[dict[str, Any]]:
    return [payload for method, payload in slack.requests if not method.startswith("chat.")]


def said_by_bot(slack: FakeSlack) -> list[dict[str, Any]]:
    return [payload for method, payload in slack.requests if method.startswith("chat.")]


def texts(slack: FakeSlack) -> list[str]:
    """What the bot's messages say, without their blocks."""
    return [payload["text"] for payload in said_by_bot(slack)]


def told(payloads: Sequence[dict[str, Any]]) -> set[str]:
    """The rows that are named anywhere in the messages."""
    text = json.dumps(payloads)
    return {row.name for row in ROWS if f"name-{row.name}" in text or f"told-{row.name}" in text}


def told_by_message(world: World) -> set[str]:
    return set(world.seen("d1 d2"))
