"""Bluelink's streams over real sockets: byte for byte, and in every situation a client meets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from deploylog.auth.api_keys import make_key
from deploylog.deployments.changeset import (
    Changes,
    Changeset,
    ResourceChange,
    encode,
    encode_changes,
)
from deploylog.events.access import parse_grant
from deploylog.events.event import Event, NewEvent, Resource
from deploylog.events.scope import deployment_scope
from deploylog.events.store import IdempotencyKey
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from support.factories import (
    deployment_event,
    new_event,
    now,
    stack_created,
    unique,
    untouched_changeset,
)
from support.servers import Frame, Local, Stream, parse_frame, running
from support.waiting import PATIENCE, until

CHANGES = "/v1/deployments/changes"
INSTANCES = "/v1/deployments/instances"

#: Times before and after all events of these tests.
LONG_AGO = "00000000-0001-7000-8000-000000000000"
FAR_AHEAD = "7fffffff-ffff-7fff-bfff-ffffffffffff"

ENDS = {
    "changeset.completed": "changeStagingComplete",
    "changeset.drift": "driftDetected",
    "changeset.failed": "error",
}


async def start_changeset(store: Store, **fields: Any) -> Changeset:
    """A new change set, whose events the test records."""
    return await store.changesets.add(
        untouched_changeset(**fields),
        encode_changes(Changes()),
        request=IdempotencyKey(key=unique(), fingerprint=b""),
        since=0,
    )


def of(started: Changeset, type: str, data: object, **fields: Any) -> NewEvent:
    event = new_event(type, scopes=tuple(started.scopes), **fields)
    return msgspec.structs.replace(event, data=msgspec.Raw(encode(data)))


async def emit(store: Store, started: Changeset, number: int) -> list[str]:
    """Record events of ``number`` resources; return their ids."""
    changes = [
        ResourceChange(name=f"t.a[{n}]", address=f"t.a[{n}]", type="t", action="create")
        for n in range(number)
    ]
    events = [of(started, "changeset.resource", change) for change in changes]
    return [event.id for event in await store.log.append(events)]


async def end(store: Store, started: Changeset, type: str = "changeset.completed") -> str:
    """End the change set; the id of the event."""
    [event] = await store.log.append([of(started, type, Changes(), message="so")])
    return event.id


async def aged(seconds: float) -> None:
    """Wait until all events are at least this old."""
    then = now()
    await until(lambda: now() - then > seconds * SECOND)


@asynccontextmanager
async def follow_instance(
    server: Local, path: str, last_id: str | None = None, *, key: str = ""
) -> AsyncIterator[Stream]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    if key:
        headers["Bluelink-Api-Key"] = key
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE)
    async with server.http.get(path, headers=headers, timeout=timeout) as response:
        assert response.status == 200, await response.read()
        yield Stream(response)


async def ids_of(stream: Stream, number: int) -> list[str | None]:
    """The ids of the next events that have one."""
    ids: list[str | None] = []
    while len(ids) < number:
        frame = await stream.next()
        if frame.id is not None:
            ids.append(frame.id)
    return ids


async def whole(server: Local, path: str, last_id: str | None = None) -> list[Frame]:
    """Everything up to the clean end."""
    frames = []
    async with follow_instance(server, path, last_id) as stream:
        while (frame := await stream.block()) is not None:
            frames.append(frame)
    return frames


async def whole_ids(server: Local, path: str, last_id: str | None = None) -> list[str]:
    return [frame.id for frame in await whole(server, path, last_id) if frame.id]


def stream_of(started: Changeset) -> str:
    return f"{CHANGES}/{started.id}/stream"


# Bytes


class Raw:
    """The bytes of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def head(self) -> list[bytes]:
        """The status line and the headers, but for the date and the server's name."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        return [each for each in lines if each and not each.startswith((b"date:", b"server:"))]

    async def chunk(self) -> bytes:
        """The next chunk; empty for the last one."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self._reader.readline(), 16)
            chunk = await self._reader.readexactly(size + 2)
        assert chunk.endswith(b"\r\n")
        return chunk[:-2]

    async def rest(self) -> bytes:
        """All bytes until the connection is closed."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()


@asynccontextmanager
async def raw(server: Local, path: str, *headers: str) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    request = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Accept: text/event-stream",
        *headers,
        "",
        "",
    ]
    writer.write("\r\n".join(request).encode())
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


HEAD = [
    b"HTTP/1.1 200 OK",
    b"content-type: text/event-stream",
    b"cache-control: no-cache",
    b"connection: keep-alive",
    b"transfer-encoding: chunked",
]


async def test_a_stream_equals_the_engines_but_for_the_position_of_the_id(server: Local):
    change_set = await start_changeset(server.store)
    time = 1_767_225_600 * SECOND
    created = ResourceChange(name="bucket", address="bucket", type="t/x", action="delete")
    [first, last] = await server.store.log.append(
        [
            of(change_set, "changeset.resource", created, time=time),
            of(change_set, "changeset.completed", Changes(), time=time),
        ]
    )

    async with raw(server, f"{stream_of(change_set)}?stream=messages") as connection:
        head = await connection.head()
        chunks = [await connection.chunk() for _ in range(3)]

    assert sorted(head) == sorted(HEAD)
    assert head[0] == HEAD[0]
    start = (
        "event: resourceChanges\n"
        'data: {"resourceName":"bucket","removed":true,"new":false,"changes":'
    )
    assert chunks[0].startswith(start.encode())
    end = f',"removalPolicy":"delete","timestamp":1767225600}}\nid: {first.id}\n\n'
    assert chunks[0].endswith(end.encode())
    assert chunks[0].count(b"\n") == 4
    assert chunks[1].startswith(b'event: changeStagingComplete\ndata: {"changes":{')
    assert chunks[1].endswith(f'}},"timestamp":1767225600}}\nid: {last.id}\n\n'.encode())
    assert chunks[2] == b""


async def test_headers_are_sent_at_once_and_then_heartbeats(store: Store):
    async with running(store, heartbeat_seconds=0.05) as server:
        change_set = await start_changeset(store)
        async with raw(server, stream_of(change_set), "Last-Event-ID: x") as connection:
            head = await connection.head()
            beats = [await connection.chunk() for _ in range(3)]
            await emit(store, change_set, 1)
            chunk = await connection.chunk()
            while chunk == b":\n":
                chunk = await connection.chunk()

    assert sorted(head) == sorted(HEAD)
    assert beats == [b":\n"] * 3
    assert chunk.startswith(b"event: resourceChanges\n")


async def test_each_frame_is_one_chunk(server: Local):
    change_set = await start_changeset(server.store)
    ids = await emit(server.store, change_set, 50)
    ids.append(await end(server.store, change_set, "changeset.failed"))

    async with raw(server, stream_of(change_set)) as connection:
        await connection.head()
        chunks = [await connection.chunk() for _ in range(52)]

    assert [parse_frame(chunk).id for chunk in chunks[:-1]] == ids
    assert [chunk.count(b"\n\n") for chunk in chunks] == [1] * 50 + [2, 0]
    assert chunks[50].startswith(b"event: heartbeat\ndata: {}\n\nevent: error\n")


async def test_an_incomplete_stream_is_aborted_when_the_service_stops(
    server: Local,
):
    change_set = await start_changeset(server.store)
    await server.store.log.append([stack_created("web")])

    for path in (stream_of(change_set), f"{INSTANCES}/web/stream"):
        async with raw(server, path) as connection:
            await connection.head()
            await server.until(lambda: server.hub.readers == 1)
            for reader in list(server.hub._readers):
                reader.close()
            assert await connection.rest() == b""
        await server.until(lambda: server.hub.readers == 0)


async def test_a_stream_is_aborted_when_the_credential_is_revoked(server: Local):
    key, secret = make_key(name="ci", groups=(), grants=[parse_grant("admin:/")], now=now())
    await server.store.credentials.add(key)
    change_set = await start_changeset(server.store)

    async with follow_instance(server, stream_of(change_set), key=secret) as stream:
        [id] = await emit(server.store, change_set, 1)
        assert await ids_of(stream, 1) == [id]
        await server.store.credentials.revoke(key.id, now())
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.block()


# A change set, in every situation


@pytest.mark.parametrize("type", ENDS)
async def test_a_finished_change_set_is_streamed_to_its_end(server: Local, type: str):
    change_set = await start_changeset(server.store)
    ids = [*await emit(server.store, change_set, 3), await end(server.store, change_set, type)]

    frames = await whole(server, stream_of(change_set))

    assert [frame.id for frame in frames if frame.id] == ids
    assert frames[-1].event == ENDS[type]


async def test_old_events_are_left_out_except_the_end(store: Store):
    early, late = await start_changeset(store), await start_changeset(store)
    await emit(store, early, 3)
    await emit(store, late, 3)
    early_end = await end(store, early)
    await aged(1.1)
    recent = [*await emit(store, late, 2), await end(store, late)]

    async with running(store, bluelink_recent_seconds=1) as server:
        assert await whole_ids(server, stream_of(early)) == [early_end]
        assert await whole_ids(server, stream_of(late)) == recent


async def test_all_events_are_recent_with_a_setting_of_zero(store: Store):
    change_set = await start_changeset(store)
    ids = [*await emit(store, change_set, 3), await end(store, change_set)]

    async with running(store, bluelink_recent_seconds=0) as server:
        assert await whole_ids(server, stream_of(change_set)) == ids


async def test_an_unfinished_change_set_is_streamed_from_its_start_and_then_live(store: Store):
    async with running(store, bluelink_recent_seconds=1) as server:
        change_set = await start_changeset(store)
        ids = await emit(store, change_set, 3)
        await aged(1.1)
        async with follow_instance(server, stream_of(change_set)) as stream:
            seen = await ids_of(stream, 3)
            ids += await emit(store, change_set, 2)
            seen += await ids_of(stream, 2)
            ids.append(await end(store, change_set))
            seen += await ids_of(stream, 1)
            assert await stream.block() is None

    assert seen == ids


async def test_a_change_set_is_resumed_after_any_of_its_events(store: Store):
    change_set = await start_changeset(store)
    ids = [*await emit(store, change_set, 6), await end(store, change_set)]
    await aged(1.1)

    async with running(store, bluelink_recent_seconds=1) as server:
        path = stream_of(change_set)
        rests = [await whole_ids(server, path, id) for id in ids]

    assert rests == [*(ids[cut + 1 :] for cut in range(6)), ids[-1:]]


async def test_an_unfinished_change_set_is_resumed_after_any_of_its_events(server: Local):
    change_set = await start_changeset(server.store)
    ids = await emit(server.store, change_set, 4)

    for cut in range(4):
        async with follow_instance(server, stream_of(change_set), ids[cut]) as stream:
            assert await ids_of(stream, 3 - cut) == ids[cut + 1 : 4]
            live = await emit(server.store, change_set, 1)
            assert (await ids_of(stream, len(ids) - 3))[-1:] == live
        ids += live


async def test_after_the_end_the_end_is_sent_again(server: Local):
    change_set, other = await start_changeset(server.store), await start_changeset(server.store)
    last = await end(server.store, change_set)
    [later] = await emit(server.store, other, 1)

    for id in (last, last.upper(), later, FAR_AHEAD):
        assert await whole_ids(server, stream_of(change_set), id) == [last]


async def test_the_id_of_another_channel_is_a_position_in_the_log(server: Local):
    change_set, other = await start_changeset(server.store), await start_changeset(server.store)
    await emit(server.store, change_set, 2)
    [elsewhere] = await emit(server.store, other, 1)
    rest = [*await emit(server.store, change_set, 2), await end(server.store, change_set)]

    assert await whole_ids(server, stream_of(change_set), elsewhere) == rest


async def test_an_id_of_another_log_counts_by_its_time(store: Store):
    change_set = await start_changeset(store)
    early = await emit(store, change_set, 2)
    await aged(0.01)
    between = now() // 1_000_000
    await aged(0.01)
    late = [*await emit(store, change_set, 2), await end(store, change_set)]

    async with running(store) as server:
        path = stream_of(change_set)
        v7 = f"{between:012x}"
        id = f"{v7[:8]}-{v7[8:]}-7000-8000-000000000000"
        assert await whole_ids(server, path, id) == late
        assert await whole_ids(server, path, LONG_AGO) == early + late
        assert await whole_ids(server, path, FAR_AHEAD) == late[-1:]


async def test_a_future_time_means_now_for_an_unfinished_change_set(server: Local):
    change_set = await start_changeset(server.store)
    await emit(server.store, change_set, 2)

    async with follow_instance(server, stream_of(change_set), FAR_AHEAD) as stream:
        await server.until(lambda: server.hub.readers == 1)
        live = await emit(server.store, change_set, 1)
        assert await ids_of(stream, 1) == live


@pytest.mark.parametrize(
    "id", ["x", "0", "not-a-uuid", "01a1fc46-f892-78da-b64", "\xff", "1" * 1000]
)
async def test_text_that_is_no_id_streams_all_events(store: Store, id: str):
    change_set = await start_changeset(store)
    ids = [*await emit(store, change_set, 2), await end(store, change_set)]
    await aged(1.1)

    async with running(store, bluelink_recent_seconds=1) as server:
        assert await whole_ids(server, stream_of(change_set), id) == ids
        assert await whole_ids(server, stream_of(change_set), "") == ids[-1:]


async def test_a_change_set_whose_end_is_pruned_is_not_found(server: Local):
    change_set = await start_changeset(server.store)
    last = await end(server.store, change_set)
    await aged(0.01)
    await server.store.log.prune(now())

    for headers in ({}, {"Last-Event-ID": last}, {"Last-Event-ID": "x"}):
        response = await server.get(stream_of(change_set), headers=headers)
        assert response.status == 404
        assert response.json == {"message": "Not found"}


async def test_a_pruned_cursor_causes_a_gap_and_then_the_rest(server: Local):
    change_set = await start_changeset(server.store)
    old = await emit(server.store, change_set, 3)
    await aged(0.01)
    await server.store.log.prune(now())
    rest = [*await emit(server.store, change_set, 2), await end(server.store, change_set)]

    gap, *frames = await whole(server, stream_of(change_set), old[0])

    assert (gap.event, gap.id) == ("gap", None)
    assert gap.raw.startswith(b'event: gap\ndata: {"message":')
    assert [frame.id for frame in frames] == rest


async def test_a_change_sets_stream_has_staging_events_only(server: Local):
    change_set = await start_changeset(server.store)
    await server.store.log.append([of(change_set, "changeset.child", {}), of(change_set, "x.y", 1)])
    last = await end(server.store, change_set)

    assert await whole_ids(server, stream_of(change_set)) == [last]


async def test_many_clients_see_the_same(server: Local):
    change_set = await start_changeset(server.store)
    path = stream_of(change_set)
    readers = [asyncio.create_task(whole(server, path)) for _ in range(30)]
    await server.until(lambda: server.hub.readers == 30)

    ids = await emit(server.store, change_set, 100)
    ids.append(await end(server.store, change_set))

    for seen in await asyncio.gather(*readers):
        assert [frame.id for frame in seen] == ids
    await server.until(lambda: server.hub.readers == 0)


# An instance, in every situation

WEB = f"{INSTANCES}/web/stream"


async def deploy(
    store: Store, id: str, *types: str, operation: str = "apply", **fields: Any
) -> list[Event]:
    """Events of a deployment of the stack ``web``; without ``types``, a whole one."""
    result = types or ("started", "create", "completed")
    return list(await store.log.append([_deployed(id, each, operation, fields) for each in result]))


def _deployed(id: str, type: str, operation: str, fields: dict[str, Any]) -> NewEvent:
    scopes = (deployment_scope("acme", "stack-1", id),)
    if type == "create":
        return new_event("resource.create.completed", scopes=scopes, resource="a", **fields)
    data = {"operation": operation} if type == "started" else None
    return new_event(f"deployment.{type}", scopes=scopes, data=data, **fields)


@pytest.fixture
async def web(server: Local) -> Local:
    """A server with a stack ``web``."""
    await server.store.log.append([stack_created("web")])
    return server


def ids(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events]


async def test_a_finished_deployment_is_streamed_to_its_end(web: Local):
    await deploy(web.store, "1")
    second = await deploy(web.store, "2")

    frames = await whole(web, WEB)

    assert [frame.id for frame in frames] == ids(second)
    assert [(frame.event, frame.data["status"]) for frame in frames] == [
        ("instanceUpdate", 13),
        ("resource", 2),
        ("finish", 14),
    ]
    assert frames[-1].data["endOfStream"] is True
    assert await whole_ids(web, f"{INSTANCES}/STACK-1/stream?stream=messages") == ids(second)


async def test_only_the_finish_of_an_old_deployment_is_sent(store: Store):
    await store.log.append([stack_created("web")])
    events = await deploy(store, "1")
    await aged(1.1)

    async with running(store, bluelink_recent_seconds=1) as server:
        assert await whole_ids(server, WEB) == ids(events[-1:])
        assert await whole_ids(server, WEB, "x") == ids(events)


async def test_a_running_deployment_is_streamed_from_its_start_and_then_live(store: Store):
    await store.log.append([stack_created("web")])
    await deploy(store, "1")
    events = await deploy(store, "2", "started", "create")
    await aged(1.1)

    settings: dict[str, Any] = {"bluelink_recent_seconds": 1}
    async with running(store, **settings) as server, follow_instance(server, WEB) as stream:
        seen = await ids_of(stream, 2)
        events += await deploy(store, "2", "failed", message="no")
        finish = await stream.next()
        assert await stream.block() is None

    assert [*seen, finish.id] == ids(events)
    assert (finish.data["status"], finish.data["failureReasons"]) == (15, ["no"])


async def test_an_instance_without_deployments_waits_for_one(web: Local):
    await deploy(web.store, "0", operation="plan")

    async with follow_instance(web, WEB) as stream:
        await web.until(lambda: web.hub.readers == 1)
        await deploy(web.store, "1", operation="refresh")
        events = await deploy(web.store, "2")
        frames = [await stream.next() for _ in range(3)]
        assert await stream.block() is None

    assert [frame.id for frame in frames] == ids(events)
    assert [frame.data["status"] for frame in frames] == [0, 2, 2]


async def test_an_instance_is_resumed_after_any_event_to_the_next_finish(web: Local):
    first = await deploy(web.store, "1")
    await deploy(web.store, "0", operation="plan")
    second = await deploy(web.store, "2")
    result = ids(first + second)

    rests = [await whole_ids(web, WEB, id) for id in result]

    assert rests == [result[1:3], result[2:3], result[3:], result[4:], result[5:], result[5:]]


async def test_after_the_newest_finish_it_is_sent_again_unless_a_deployment_runs(web: Local):
    first = await deploy(web.store, "1")
    [plan] = await deploy(web.store, "0", "started", operation="plan")
    await deploy(web.store, "0", "failed", operation="plan")

    for id in (first[-1].id, plan.id, FAR_AHEAD):
        assert await whole_ids(web, WEB, id) == [first[-1].id]
    running = await deploy(web.store, "2", "started")
    async with follow_instance(web, WEB, first[-1].id) as stream:
        assert await ids_of(stream, 1) == ids(running)
        finish = await deploy(web.store, "2", "completed")
        assert await ids_of(stream, 1) == ids(finish)
        assert await stream.block() is None


async def test_a_destroy_is_streamed_as_a_destroy(web: Local):
    await deploy(web.store, "1")
    await deploy(web.store, "2", operation="destroy")

    frames = await whole(web, WEB)

    assert [frame.data["status"] for frame in frames] == [7, 2, 8]


async def test_a_deployment_whose_finish_is_pruned_still_finishes(web: Local):
    events = await deploy(web.store, "1")
    await aged(0.01)
    await web.store.log.prune(now())

    [finish] = await whole(web, WEB)
    gap, again = await whole(web, WEB, events[0].id)

    assert (finish.event, finish.id, finish.data["status"]) == ("finish", None, 2)
    assert (gap.event, again.data) == ("gap", finish.data)


async def test_a_stream_continues_while_its_stack_grows(web: Local):
    """A cursor before any finish, and two deployments that start concurrently."""
    async with follow_instance(web, WEB, LONG_AGO) as stream:
        await web.until(lambda: web.hub.readers == 1)
        first = await deploy(web.store, "1", "started")
        second = await deploy(web.store, "2", "started", "create", "completed")
        frames = [await stream.next() for _ in range(4)]
        assert await stream.block() is None

    assert [frame.id for frame in frames] == ids(first + second)


# A finish that is for others

OPS = ("ops",)

#: The finish that a principal without groups gets, although its event is hidden.
UNSEEN = ("finish", None)


async def outsider(store: Store) -> str:
    """The key of a principal without groups."""
    key, secret = make_key(name="x", groups=(), grants=[parse_grant("read:/")], now=now())
    await store.credentials.add(key)
    return secret


async def stream_to(
    server: Local, key: str, last_id: str | None = None
) -> list[tuple[str | None, str | None, int]]:
    """The frames of an instance's stream, up to its end."""
    result = []
    async with follow_instance(server, WEB, last_id, key=key) as stream:
        while (frame := await stream.block()) is not None:
            result.append((frame.event, frame.id, frame.data["status"]))
    return result


async def test_a_hidden_finish_is_sent_without_its_event(web: Local):
    key = await outsider(web.store)
    staged = await deploy(web.store, "1", "started", "create")
    await deploy(web.store, "1", "failed", groups=OPS, message="secret")

    fresh = await stream_to(web, key)
    resumed = [await stream_to(web, key, event.id) for event in staged]
    ahead = await stream_to(web, key, FAR_AHEAD)

    [started, created] = staged
    finish = (*UNSEEN, 3)
    assert fresh == [
        ("instanceUpdate", started.id, 0), ("resource", created.id, 2), finish,
    ]  # fmt: skip
    assert resumed == [[("resource", created.id, 2), finish], [finish]]
    assert ahead == [finish]


async def test_the_finish_of_an_older_deployment_is_not_sent_instead(web: Local):
    key = await outsider(web.store)
    first = await deploy(web.store, "1")
    [started] = await deploy(web.store, "2", "started")
    await deploy(web.store, "2", "completed", groups=OPS)

    assert await stream_to(web, key, first[-1].id) == [
        ("instanceUpdate", started.id, 13), (*UNSEEN, 14),
    ]  # fmt: skip
    assert (await stream_to(web, key, first[0].id))[-1] == ("finish", first[-1].id, 2)
    assert await stream_to(web, key, started.id) == [(*UNSEEN, 14)]


@pytest.mark.parametrize("last_id", [None, LONG_AGO, FAR_AHEAD])
async def test_a_hidden_finish_is_sent_live(store: Store, last_id: str | None):
    await store.log.append([stack_created("web")])
    key = await outsider(store)
    await deploy(store, "1", "started", operation="destroy")

    async with (
        running(store, heartbeat_seconds=0.05) as server,
        follow_instance(server, WEB, last_id, key=key) as stream,
    ):
        await server.until(lambda: server.hub.readers == 1)
        [created] = await deploy(store, "1", "create")
        while created.id not in await ids_of(stream, 1):
            pass
        await deploy(store, "1", "completed", groups=OPS)
        finish = await stream.next()
        assert await stream.block() is None

    assert (finish.event, finish.id, finish.data["status"]) == ("finish", None, 8)


async def test_a_hidden_finish_of_a_later_deployment_is_sent(store: Store):
    await store.log.append([stack_created("web")])
    key = await outsider(store)

    async with (
        running(store, heartbeat_seconds=0.05) as server,
        follow_instance(server, WEB, key=key) as stream,
    ):
        await server.until(lambda: server.hub.readers == 1)
        await deploy(store, "0", "started", operation="")
        await deploy(store, "1", "started")
        await deploy(store, "1", "completed", groups=OPS)
        frames = [await stream.next() for _ in range(3)]
        assert await stream.block() is None

    assert [frame.event for frame in frames] == ["instanceUpdate", "instanceUpdate", "finish"]


async def test_a_run_that_turns_out_to_be_a_plan_finishes_no_stream(store: Store):
    await store.log.append([stack_created("web")])
    key = await outsider(store)
    await store.log.append([deployment_event("deployment.started", id=id) for id in ("1", "2")])
    planned: dict[str, Any] = {"type": "deployment.completed", "data": {"operation": "plan"}}

    async with (
        running(store, heartbeat_seconds=0.05) as server,
        follow_instance(server, WEB, key=key) as stream,
    ):
        await stream.next()
        await store.log.append([deployment_event(**planned, id="1")])
        await store.log.append([deployment_event(**planned, id="2", groups=OPS)])
        applied = await deploy(store, "3")
        frames = [await stream.next() for _ in range(3)]
        assert await stream.block() is None

    assert [frame.id for frame in frames] == ids(applied)


# Objects that others take the place of


@pytest.mark.parametrize("cut", [None, 0, 1, 2])
async def test_the_delete_of_a_replaced_object_is_not_streamed(web: Local, cut: int | None):
    await web.store.log.append([_object("1", "create", "old")])
    events = [
        *await deploy(web.store, "2", "started"),
        *await web.store.log.append([_object("2", "create", "new")]),
        *await web.store.log.append([_object("2", "delete", "old")]),
        *await deploy(web.store, "2", "completed"),
    ]

    seen = await whole_ids(web, WEB, None if cut is None else events[cut].id)

    begin = 0 if cut is None else cut + 1
    assert seen == ids([each for each in events[begin:] if each.action != "delete"])


async def test_a_stream_starts_with_the_state_after_earlier_deployments(store: Store):
    await store.log.append([stack_created("web"), _object("1", "create", "new")])
    await deploy(store, "2", "started")
    [deposed, missing] = await store.log.append(
        [_object("2", "delete", "old"), _object("2", "delete", "new")]
    )
    await deploy(store, "2", "completed")

    async with running(store, bluelink_recent_seconds=0) as server:
        seen = await whole_ids(server, WEB)

    assert missing.id in seen
    assert deposed.id not in seen


def _object(deployment: str, action: str, id: str) -> NewEvent:
    """The resource ``a`` has, or had, an object of this id."""
    resource = Resource(type="t", name="a", id_key="id", id_value=id)
    return deployment_event(f"resource.{action}.completed", id=deployment, resource=resource)
