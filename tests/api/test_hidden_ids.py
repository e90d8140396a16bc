"""A request that names a hidden object, by id or by name, is answered as if it did not exist."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deploylog.store.contract import Store
from support.factories import stack_created
from support.plans import new_plan
from support.servers import DEPLOYMENTS, EVENTS, LINES, Local, running
from support.subscribers import Headers, add_key

CHANGESETS = "/log/v1/changesets"


class World:
    """A service, an administrator, and a writer of the project without its groups."""

    def __init__(self, service: Local, admin: Headers, writer: Headers) -> None:
        self.service = service
        self.admin = admin
        self.writer = writer

    async def open(self, headers: Headers, **fields: object) -> Any:
        body = {"project": "acme", "stack": "web", "groups": ["ops"], **fields}
        return await self.service.post(body, "application/json", DEPLOYMENTS, headers=headers)

    async def append(self, headers: Headers, id: str, **attributes: object) -> Any:
        event = {"type": "deployment.log", "source": "terraform", **attributes}
        path = f"{EVENTS}?deployment={id}"
        return await self.service.post(json.dumps(event), LINES, path, headers=headers)


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    async with running(store) as service:
        _, admin = await add_key(store, "admin:/", groups=("ops",), name="admin")
        _, writer = await add_key(store, "read:/", "write:project/acme", name="writer")
        yield World(service, admin, writer)


async def hidden(world: World, **fields: object) -> str:
    """A deployment that the writer cannot see, which ended with a message and a count."""
    opened = await world.open(world.admin, actor="ann", operation="apply", **fields)
    id: str = opened.json["id"]
    resource = {"resourcetype": "x", "resourcename": "y"}
    await world.append(world.admin, id, type="resource.create.completed", **resource)
    await world.append(world.admin, id, type="deployment.failed", message="a secret reason")
    return id


@pytest.mark.parametrize(
    "guess",
    [{}, {"groups": []}, {"actor": "bob"}, {"actor": "ann", "operation": "plan"},
     {"actor": "ann", "operation": "apply", "groups": ["ops", "dev"]}, {"stack": "other"}],
)  # fmt: skip
async def test_the_id_of_a_hidden_deployment_is_reported_as_taken_only(
    world: World, guess: dict[str, object]
):
    id = await hidden(world)

    response = await world.open(world.writer, id=id, **guess)

    assert response.status == 409
    assert response.json["detail"] == f"the id {id} is already in use: choose another"


async def test_an_opener_that_cannot_see_its_deployment_gets_its_first_response_again(world: World):
    id, request = str(uuid.uuid4()), {"actor": "ci", "started": "2026-01-01T00:00:00Z"}
    first = await world.open(world.writer, id=id, **request)
    await world.append(world.admin, id, type="deployment.failed", message="a secret reason")

    again = await world.open(world.writer, id=id, **request)

    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert (await world.service.get(f"{DEPLOYMENTS}/{id}", headers=world.writer)).status == 404


async def test_an_opener_appends_to_a_deployment_that_it_cannot_see(world: World):
    opened = await world.open(world.writer, actor="ci")

    response = await world.append(world.writer, opened.json["id"])

    assert response.status == 201


async def test_an_event_for_others_does_not_reveal_the_actor_of_a_hidden_deployment(world: World):
    id = await hidden(world)
    response = await world.append(world.writer, id, groups="*")
    [receipt] = response.ids

    event = await world.service.get(f"{EVENTS}/{receipt}", headers=world.writer)

    assert event.status == 200
    assert "actor" not in event.json


async def test_a_refusal_does_not_name_the_environment_of_a_hidden_deployment(world: World):
    id, nobodys = await hidden(world, environment="prod"), str(uuid.uuid4())

    responses = [await world.append(world.writer, each) for each in (id, nobodys)]

    assert [response.status for response in responses] == [404, 404]
    assert responses[0].body.replace(id.encode(), b"") == responses[1].body.replace(
        nobodys.encode(), b""
    )


@pytest.mark.parametrize("spelled", [str.lower, str.upper])
async def test_hidden_and_missing_have_the_same_message(world: World, spelled: Any):
    hidden_run = await hidden(world)
    staged = await stage(world, world.admin, group="ops")
    nobodys = str(uuid.uuid4())

    for known, path in (
        (hidden_run, f"{DEPLOYMENTS}/{{}}"),
        (hidden_run, f"{DEPLOYMENTS}/{{}}/wait"),
        (hidden_run, f"{DEPLOYMENTS}?before={{}}"),
        (staged.json["id"], f"{CHANGESETS}/{{}}"),
        (staged.json["id"], f"{CHANGESETS}/{{}}/changes"),
        (staged.json["id"], f"{CHANGESETS}?before={{}}"),
        (staged.json["id"], "/v1/deployments/changes/{}"),
    ):
        responses = [
            await world.service.get(path.format(spelled(id)), headers=world.writer)
            for id in (known, nobodys)
        ]
        result = [
            (response.status, response.body.decode().replace(spelled(id), "ID"))
            for response, id in zip(responses, (known, nobodys), strict=True)
        ]
        assert result[0] == result[1], path
        assert result[0][0] in (400, 404)


async def test_staging_for_a_hidden_stack_reveals_nothing_of_it(world: World, store: Store):
    hidden_stack = str(uuid.uuid4())
    started = stack_created("web", id=hidden_stack)
    await store.log.append([msgspec.structs.replace(started, groups=("ops",))])

    responses = [await stage(world, world.writer, stack=name) for name in ("web", "nothing")]

    assert [response.status for response in responses] == [202, 202]
    result = [
        response.body.decode().replace(response.json["id"], "ID").replace(name, "NAME")
        for response, name in zip(responses, ("web", "nothing"), strict=True)
    ]
    assert without_time(result[0]) == without_time(result[1])
    id = responses[0].json["id"]
    stored = (await world.service.get(f"{CHANGESETS}/{id}", headers=world.admin)).json
    assert (stored["stack_id"], stored["groups"]) == (hidden_stack, ["ops"])


@pytest.mark.parametrize("milliseconds", [-1, 0, 1])
@pytest.mark.parametrize("place", ["header", "query"])
async def test_a_cursor_at_a_hidden_event_does_not_reveal_its_time(
    world: World, milliseconds: int, place: str
):
    await event(world, "first")
    secret = await event(world, "secret", groups="ops")
    await event(world, "last")
    guess = off_by(secret, milliseconds)
    headers, query = world.writer, "from=now"
    if place == "header":
        headers = headers | {"Last-Event-ID": guess}
    else:
        query = f"after={guess}"

    async with world.service.stream(query, headers=headers) as stream:
        frames = [await stream.next() for _ in range(3)]

    gap, *events = frames
    assert (gap.event, gap.data["reason"]) == ("gap", "unknown")
    assert [frame.data["subject"] for frame in events] == ["first", "last"]


@pytest.mark.parametrize("milliseconds", [-1, 0, 1])
async def test_a_hidden_event_is_not_found_by_guessing_its_id(world: World, milliseconds: int):
    guess = off_by(await event(world, "secret", groups="ops"), milliseconds)

    response = await world.service.get(f"{EVENTS}/{guess}", headers=world.writer)

    assert response.status == 404
    assert response.json["detail"] == "There is no such event."


def off_by(id: str, milliseconds: int) -> str:
    """The id of another moment."""
    return str(uuid.UUID(int=uuid.UUID(id).int + (milliseconds << 80)))


async def event(world: World, subject: str, **attributes: str) -> str:
    body = {"type": "a.b", "source": "x", "scopes": "project/acme", "subject": subject}
    response = await world.service.post(json.dumps(body | attributes), headers=world.admin)
    [id] = response.ids
    return str(id)


async def stage(world: World, headers: Headers, **query: str) -> Any:
    request = "&".join(f"{name}={value}" for name, value in query.items())
    body, path = new_plan(), f"{CHANGESETS}?project=acme&{request}"
    return await world.service.post(body, "application/json", path, headers=headers)


def without_time(text: str) -> Any:
    return {name: value for name, value in json.loads(text).items() if name != "created"}
