"""How long a page of 50 takes while the log grows from 10⁴ to 10⁷ events, and what counting takes.

Each case is asked of the store, as the service asks it, and where the native API has a parameter
for it over HTTP too (``http``). The cases take turns, so that each meets the same load of the
machine; what each answer holds is checked. The files were written some time ago: what the system
still has of them in its cache is what a service would find.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import msgspec

from bench import filled, servers
from bench.http1 import Client, UnexpectedAnswer, get
from bench.report import OURS, Report, fdatasync_us, percentile
from deploylog.events.access import Visibility
from deploylog.events.event import Event
from deploylog.events.filters import AnyOf, Field, Filter
from deploylog.events.scope import Scope
from deploylog.events.store import Query
from deploylog.events.text import parse_text
from deploylog.store import open_store
from deploylog.store.contract import Store

PAGE = 50
_PROJECT = Scope(f"project/{filled.PROJECT}")
_RANGE = 600
_BUCKETS = 100
#: The groups of the reader of many: half of all that there are.
READER_GROUPS = [f"team-{number}" for number in range(0, filled.GROUPS, 2)]
#: Seconds after which a case is asked no more in this round.
_LONGEST = 8.0
_FEWEST = 5
#: As the service does: a busy loop would starve the threads that read.
_SWITCH_SECONDS = 0.0003

Ask = Callable[[], Awaitable[None]]


class PageCase(msgspec.Struct, frozen=True, kw_only=True):
    """A page to ask for."""

    name: str
    query: Query
    size: int = PAGE
    matches: Callable[[Event], bool] = lambda _: True
    #: The same question to the native API.
    parameters: dict[str, Any] | None = None


class CountCase(msgspec.Struct, frozen=True, kw_only=True):
    """Something to count; ``check`` is told the answer."""

    name: str
    ask: Callable[[Store], Awaitable[Any]]
    check: Callable[[Any], bool]


class _Found(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    events: list[_Found]


def page_cases(events: int) -> list[PageCase]:
    """Every page of the table, of a log of so many events."""
    middle = events // 2
    since = (filled.FIRST_TIME + middle) * filled.SECOND
    until = since + _RANGE * filled.SECOND
    number = middle // 2 * 2 + 1
    while number % 10 != 1 or number % 25 >= filled.STACKS:
        number += 2
    unique = f"i-0{number:016x}"

    def query(*conditions: AnyOf, **also: Any) -> Query:
        filter = also.pop("filter", Filter(all_of=conditions))
        return Query(scope=_PROJECT, filter=filter, limit=PAGE, **also)

    def equals(field: Field, value: str) -> AnyOf:
        return AnyOf(field=field, values=(value,))

    def text(words: str) -> Query:
        return query(filter=Filter(phrases=parse_text(words)))

    def times(moment: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment // filled.SECOND))

    return [
        PageCase(name="newest", query=query(), parameters={}),
        PageCase(
            name="half-way down",
            query=query(before=middle),
            matches=lambda event: event.position < middle,
        ),
        PageCase(
            name="half-way up, oldest first",
            query=query(after=middle, order="oldest"),
            matches=lambda event: event.position > middle,
        ),
        PageCase(
            name="rare type",
            query=query(equals("type", filled.RARE_TYPE)),
            matches=lambda event: event.type == filled.RARE_TYPE,
            parameters={"type": filled.RARE_TYPE},
        ),
        PageCase(
            name="rare actor",
            query=query(equals("actor", filled.RARE_ACTOR)),
            matches=lambda event: event.actor == filled.RARE_ACTOR,
            parameters={"actor": filled.RARE_ACTOR},
        ),
        PageCase(
            name="no such actor",
            query=query(equals("actor", "nobody")),
            size=0,
            parameters={"actor": "nobody"},
        ),
        PageCase(
            name="two commons that never meet",
            query=query(equals("resource_type", "aws_instance"), equals("resource_name", "assets")),
            size=0,
            parameters={"resourcetype": "aws_instance", "resourcename": "assets"},
        ),
        PageCase(
            name="narrow time in the middle",
            query=query(filter=Filter(since=since, until=until)),
            matches=lambda event: since <= event.time < until,
            parameters={"since": times(since), "until": times(until)},
        ),
        PageCase(
            name="text: one id",
            query=text(unique),
            size=1,
            matches=lambda event: unique in (event.message or ""),
        ),
        PageCase(
            name="text: two common words",
            query=text("complete web"),
            matches=lambda event: "complete" in (event.message or ""),
        ),
        PageCase(
            name="text: a phrase",
            query=text('"creation complete after 13s"'),
            matches=lambda event: "Creation complete after 13s" in (event.message or ""),
        ),
        PageCase(
            name="reader of 50 groups",
            query=query(visibility=Visibility(scopes=(_PROJECT,), groups=frozenset(READER_GROUPS))),
            matches=lambda event: not event.groups or event.groups[0] in READER_GROUPS,
        ),
    ]


def worst_case() -> PageCase:
    """Beyond the table: a phrase that is nowhere, of words that are together everywhere."""
    phrase = '"complete creation"'
    return PageCase(
        name="text: a phrase that is nowhere, of common words",
        query=Query(filter=Filter(phrases=parse_text(phrase)), limit=PAGE),
        size=0,
    )


def count_cases(events: int) -> list[CountCase]:
    """What is counted over the whole log."""
    everything = Query()
    completed = Query(
        filter=Filter(all_of=(AnyOf(field="type", values=("resource.create.completed",)),))
    )
    odd = events // 2 - sum(number % 2 for number in filled.rare_numbers(events, 2))
    mallorys = len(filled.rare_numbers(events, 3))
    first = filled.FIRST_TIME * filled.SECOND
    width = -(-events // _BUCKETS) * filled.SECOND
    edges = [first + bucket * width for bucket in range(_BUCKETS + 1)]
    return [
        CountCase(
            name="count of everything",
            ask=lambda store: store.log.count(everything),
            check=lambda found: bool(found == events),
        ),
        CountCase(
            name="count of a type",
            ask=lambda store: store.log.count(completed),
            check=lambda found: bool(found == odd),
        ),
        CountCase(
            name="top 10 types",
            ask=lambda store: store.log.facets(everything, "type", 10),
            check=lambda found: found.total == events and found.values == 3,
        ),
        CountCase(
            name="top 10 actors",
            ask=lambda store: store.log.facets(everything, "actor", 10),
            check=lambda found: [each.count for each in found.top] == [events - mallorys, mallorys],
        ),
        CountCase(
            name="top 10 actors of a type",
            ask=lambda store: store.log.facets(completed, "actor", 10),
            check=lambda found: bool(found.total == odd),
        ),
        CountCase(
            name="histogram of 100 buckets",
            ask=lambda store: store.log.histogram(everything, edges),
            check=lambda found: sum(found) == events and len(found) == _BUCKETS,
        ),
    ]


async def measure(report: Report, run: int, events: int, queries: int) -> None:
    """One round over the store of so many events."""
    directory = filled.directory_of(events)
    wait = fdatasync_us(directory)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        async with open_store(filled.url_of(directory), observer=filled.Unobserved()) as store:
            took = await take_turns(asks_of(store, events), queries)
    finally:
        sys.setswitchinterval(before)
    async with servers.deploylog(directory) as server:
        client = await Client.open(server.port)
        asked = {
            f"http: {case.name}": _http_page(client, case)
            for case in page_cases(events)
            if case.parameters is not None
        }
        took |= await take_turns(asked, queries)
        client.close()
    for name, each in took.items():
        add_figures(report, f"{name}, {events:,}", OURS, run, each, wait)


def asks_of(store: Store, events: int) -> dict[str, Ask]:
    """Every question to a store of so many events."""
    return {f"page: {case.name}": _page(store, case) for case in page_cases(events)} | {
        f"count: {case.name}": _count(store, case) for case in count_cases(events)
    }


async def measure_worst(report: Report, run: int, events: int) -> None:
    """The worst question there is, asked a few times."""
    directory = filled.directory_of(events)
    async with open_store(
        filled.url_of(directory), observer=filled.Unobserved(), query_seconds=600
    ) as store:
        case = worst_case()
        await take_turns({"count": _count(store, count_cases(events)[0])}, 1)
        start = time.perf_counter()
        await _page(store, case)()
        took = {case.name: [(time.perf_counter() - start) * 1e3]}
    add_figures(report, f"worst: {case.name}, {events:,}", OURS, run, took[case.name], 0)


def add_figures(
    report: Report, case: str, subject: str, run: int, took: Sequence[float], wait: float
) -> None:
    ranked = sorted(took)
    figures = {"p50_ms": percentile(ranked, 0.5), "p99_ms": percentile(ranked, 0.99)}
    report.add(case, subject, run, **figures, queries=len(took), fdatasync_us=wait)


async def take_turns(cases: dict[str, Ask], queries: int) -> dict[str, list[float]]:
    """The milliseconds of each question of each case, after one that does not count."""
    for ask in cases.values():
        await ask()
    took: dict[str, list[float]] = {name: [] for name in cases}
    spent = dict.fromkeys(cases, 0.0)
    for _ in range(queries):
        for name, ask in cases.items():
            if spent[name] > _LONGEST and len(took[name]) >= _FEWEST:
                continue
            start = time.perf_counter()
            await ask()
            seconds = time.perf_counter() - start
            spent[name] += seconds
            took[name].append(seconds * 1e3)
        await asyncio.sleep(0)
    return took


def _page(store: Store, case: PageCase) -> Ask:
    async def ask() -> None:
        page = await store.log.read(case.query)
        if len(page) != case.size or not all(map(case.matches, page)):
            raise UnexpectedAnswer(f"{case.name}: {len(page)} events, or one not asked for")
        ordered = page if case.query.order == "oldest" else page[::-1]
        if any(newer.position <= older.position for older, newer in pairwise(ordered)):
            raise UnexpectedAnswer(f"{case.name}: not in order")

    return ask


def _http_page(client: Client, case: PageCase) -> Ask:
    parameters = {"scope": _PROJECT, "limit": PAGE} | (case.parameters or {})
    request = get(f"/log/v1/events?{urlencode(parameters, safe='/')}")

    async def ask() -> None:
        body = await client.expect(200, request)
        found = msgspec.json.decode(body, type=_Page).events
        if len(found) != case.size:
            raise UnexpectedAnswer(f"{case.name} over HTTP: {len(found)} events")

    return ask


def _count(store: Store, case: CountCase) -> Ask:
    async def ask() -> None:
        found = await case.ask(store)
        if not case.check(found):
            raise UnexpectedAnswer(f"{case.name}: {found!r:.300}")

    return ask
