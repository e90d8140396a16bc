"""How long a reader waits for a page, in a log of a million events.

The log has 20 stacks of one project, with four of five events, and five other projects, event
by event in turn. One event in 20,000 is a ``resource.create.failed``, one in 20,000 mallory's.
The cases take turns, so that each meets the same load of the machine. The content of each page is
checked. The file has just been written, so most of it is in the cache of the system.
"""

import argparse
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import msgspec
import uvloop

from bench import servers
from bench.http1 import Answer, Client, Load, UnexpectedAnswer, get, post
from bench.report import OURS, Report, fdatasync_us, percentile
from bench.samples import NDJSON, Deployment, open_deployment, resource_event

_PROJECT = "acme"
_STACKS = 20
_OTHER_PROJECTS = 5
_RARE_EVERY = 20_000
_RARE_TYPE = "resource.create.failed"
_RARE_ACTOR = "mallory"
_RARE_TYPE_STEP, _RARE_ACTOR_STEP = 7919, 7907
_PAGE = 50
_LARGEST_PAGE = 1_000
_BATCH = 500
_IN_FLIGHT = 8
#: Events built at a time, so that a million requests need not be in memory.
_SHARE = 50_000
#: The events' times: one every second, from here on.
_FIRST_TIME = datetime(2026, 11, 1, tzinfo=UTC)
_RANGE = timedelta(minutes=10)


class _Event(msgspec.Struct):
    id: str
    type: str
    scopes: str
    time: datetime
    actor: str | None = None


class _Page(msgspec.Struct):
    events: list[_Event]
    next: str | None = None


class _Stack(msgspec.Struct):
    scopes: list[str]


class _Stacks(msgspec.Struct):
    stacks: list[_Stack]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A page to request."""

    name: str
    #: The parameters of each request, used in turn.
    parameters: Sequence[dict[str, Any]]
    #: The number of events it may have.
    sizes: range
    matches: Callable[[_Event], bool] = lambda _: True


async def fill(port: int, events: int) -> None:
    """Record ``events`` events."""
    client = await Client.open(port)
    queried = [await open_deployment(client, _PROJECT, f"stack-{n}") for n in range(_STACKS)]
    others = [await open_deployment(client, f"other-{n}", "web") for n in range(_OTHER_PROJECTS)]
    client.close()
    for start in range(0, events, _SHARE):
        numbers = range(start, min(events, start + _SHARE))
        await Load(list(_requests(queried + others, numbers)), _recorded).run(port, _IN_FLIGHT)


def _requests(deployments: Sequence[Deployment], numbers: range) -> Iterator[bytes]:
    for start in range(0, len(numbers), _BATCH):
        events = (_event(deployments, number) for number in numbers[start : start + _BATCH])
        body = b"\n".join(map(msgspec.json.encode, events))
        yield post("/log/v1/events?source=terraform", body, NDJSON)


def _event(deployments: Sequence[Deployment], number: int) -> dict[str, Any]:
    deployment = deployments[number % len(deployments)]
    special = {"scopes": deployment.scopes[0], "time": _time(number)}
    if _is_rare(number, _RARE_TYPE_STEP):
        special["type"] = _RARE_TYPE
    if _is_rare(number, _RARE_ACTOR_STEP):
        special["actor"] = _RARE_ACTOR
    return resource_event(deployment, number, **special)


def _is_rare(number: int, step: int) -> bool:
    """Whether ``number`` is one of every ``_RARE_EVERY``, at changing offsets, for every stack."""
    turn, place = divmod(number, _RARE_EVERY)
    return place == (turn + 1) * step % _RARE_EVERY


def _rare_events(events: int, step: int) -> int:
    """How many events of the project are rare in this way."""
    turns = range(-(-events // _RARE_EVERY))
    numbers = (turn * _RARE_EVERY + (turn + 1) * step % _RARE_EVERY for turn in turns)
    stacks = _STACKS + _OTHER_PROJECTS
    return sum(number < events and number % stacks < _STACKS for number in numbers)


def _time(number: int) -> str:
    return (_FIRST_TIME + timedelta(seconds=number)).isoformat()


def _recorded(answer: Answer) -> None:
    if answer.status != 201:
        raise UnexpectedAnswer(f"{answer.status}: {answer.body[:500]!r}")


async def cases(client: Client, events: int) -> list[Case]:
    """Return the cases for a log of ``events`` events."""
    project = {"scope": f"project/{_PROJECT}", "limit": _PAGE}
    body = await client.expect(200, get(f"/log/v1/stacks?project={_PROJECT}"))
    stacks = [each.scopes[0] for each in msgspec.json.decode(body, type=_Stacks).stacks]
    deep = await _id_at_depth(client, events // 2)
    since = _FIRST_TIME + timedelta(seconds=events // 2)
    until = since + _RANGE
    full, empty = _exactly(_PAGE), _exactly(0)
    failed = _exactly(_rare_events(events, _RARE_TYPE_STEP))
    mallorys = _exactly(_rare_events(events, _RARE_ACTOR_STEP))
    return [
        Case(name="newest page", parameters=[project], sizes=full),
        Case(
            name=f"{events // 2:,} deep",
            parameters=[project | {"before": deep}],
            sizes=full,
            matches=lambda event: event.id < deep,
        ),
        Case(
            name="rare type",
            parameters=[project | {"type": _RARE_TYPE}],
            sizes=failed,
            matches=lambda event: event.type == _RARE_TYPE,
        ),
        Case(
            name="rare type, one stack",
            parameters=[{"scope": stack, "type": _RARE_TYPE} for stack in stacks],
            sizes=range(failed.stop),
            matches=lambda event: event.type == _RARE_TYPE,
        ),
        Case(
            name="rare actor",
            parameters=[project | {"actor": _RARE_ACTOR}],
            sizes=mallorys,
            matches=lambda event: event.actor == _RARE_ACTOR,
        ),
        Case(
            name="nothing: unknown actor",
            parameters=[project | {"actor": "absent"}],
            sizes=empty,
        ),
        # Each of the two is found in every fifth event, but never both.
        Case(
            name="nothing: two common values",
            parameters=[project | {"resourcetype": "aws_instance", "resourcename": "assets"}],
            sizes=empty,
        ),
        Case(
            name="time range in the middle",
            parameters=[project | {"since": since.isoformat(), "until": until.isoformat()}],
            sizes=full,
            matches=lambda event: since <= event.time < until,
        ),
    ]


def _exactly(events: int) -> range:
    return range(min(events, _PAGE), min(events, _PAGE) + 1)


async def _id_at_depth(client: Client, depth: int) -> str:
    """Return the id of the event with ``depth`` newer ones in the project."""
    parameters: dict[str, Any] = {"scope": f"project/{_PROJECT}", "limit": _LARGEST_PAGE}
    for _ in range(max(1, depth // _LARGEST_PAGE)):
        body = await client.expect(200, _request(parameters))
        page = msgspec.json.decode(body, type=_Page)
        if page.next is None:
            raise UnexpectedAnswer(f"the project has fewer than {depth} events")
        parameters["before"] = page.next
    return str(parameters["before"])


def _request(parameters: dict[str, Any]) -> bytes:
    return get(f"/log/v1/events?{urlencode(parameters, safe='/')}")


async def measure(client: Client, wanted: Sequence[Case], requests: int) -> dict[str, list[float]]:
    """The milliseconds that every request of each case took."""
    took: dict[str, list[float]] = {case.name: [] for case in wanted}
    for turn in range(requests):
        for case in wanted:
            request = _request(case.parameters[turn % len(case.parameters)])
            start = time.perf_counter()
            body = await client.expect(200, request)
            took[case.name].append((time.perf_counter() - start) * 1e3)
            _check(case, msgspec.json.decode(body, type=_Page).events)
    return took


def _check(case: Case, events: Sequence[_Event]) -> None:
    if len(events) not in case.sizes:
        raise UnexpectedAnswer(f"{case.name}: {len(events)} events")
    scope = f"project/{_PROJECT}/"
    if not all(case.matches(event) and event.scopes.startswith(scope) for event in events):
        raise UnexpectedAnswer(f"{case.name}: an event that was not asked for")
    if any(newer.id <= older.id for newer, older in pairwise(events)):
        raise UnexpectedAnswer(f"{case.name}: not newest first")


@asynccontextmanager
async def _filled(directory: Path, events: int) -> AsyncIterator[int]:
    """The port of a server whose store in ``directory`` has the events, once filled."""
    mark = directory / f"filled-{events}"
    if not mark.exists() and (directory / "deploylog.db").exists():
        raise servers.Unavailable(f"{directory} has a store, but not one of {events} events")
    async with servers.deploylog(directory) as server:
        if not mark.exists():
            await fill(server.port, events)
            mark.touch()
        yield server.port


async def run(directory: Path, events: int, requests: int) -> None:
    """Fill the store, measure, print."""
    report = Report("query")
    async with _filled(directory, events) as port:
        client = await Client.open(port)
        wanted = await cases(client, events)
        wait = fdatasync_us(directory)
        for name, took in (await measure(client, wanted, requests)).items():
            ranked = sorted(took)
            p50, p99 = percentile(ranked, 0.5), percentile(ranked, 0.99)
            report.add(name, OURS, 1, p50_ms=p50, p99_ms=p99, fdatasync_us=wait)
        client.close()
    report.print_table()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=200, help="of each case")
    parser.add_argument(
        "--keep", type=Path, metavar="PATH", help="reuse the store in this directory"
    )
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="query-bench-") as fresh:
        directory = arguments.keep or Path(fresh)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            uvloop.run(run(directory.resolve(), arguments.events, arguments.requests))
        except servers.Unavailable as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
