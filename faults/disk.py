"""Fill the disk, lose it and make it read-only while the service records, on either store.

The store is on a file system of its own (ext4 on a loop device), which only root can make. While
nothing can be recorded, appends are refused with 507 or 503 and ``Retry-After`` in the words of
each API, and reads go on. Once the cause is gone, the service records by itself. After that it is
killed. The next one must have everything that was acknowledged, by the rules of ``bench.crash``.
"""

import asyncio
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
from bench import servers
from bench.crash import Writer, examine, read_log
from bench.http1 import HOST
from bench.samples import NDJSON

from faults.database import Database
from faults.findings import as_text
from faults.patient import PatientWriter
from faults.suite import Outcome, Suite, Trial

_WRITERS = 4
_LARGEST_BATCH = 8
_MIB = 1 << 20

#: Bytes of the file system by store.
_SIZES = {"sqlite": 48 * _MIB, "postgresql": 400 * _MIB}

#: Seconds to record before a fault and after it.
_RECORD_SECONDS = 1.0

#: Seconds in which the service must refuse, and record again.
_REFUSE_SECONDS, _RECOVER_SECONDS = 25, 30

_ESCAPE_EVENT = {
    "type": "CREATE_STATE_ENVIRONMENT",
    "state_project": "p",
    "state_environment": "ci",
    "username": "a",
}


class _Write(msgspec.Struct, frozen=True):
    """A request that records something."""

    path: str
    body: object
    type: str
    #: The status when the disk is full.
    full: int

    def send(
        self, http: aiohttp.ClientSession
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send it."""
        data, headers = msgspec.json.encode(self.body), {"Content-Type": self.type}
        return http.post(self.path, data=data, headers=headers)


_NATIVE = _Write(
    "/log/v1/events",
    {"type": "a.b", "source": "s", "scopes": "project/x", "message": "x" * 10_000},
    NDJSON,
    507,
)

#: One of each API that has any.
_WRITES: Mapping[str, _Write] = {
    "native": _NATIVE,
    "bluelink": _Write("/v1/deployments/changes/cleanup", {}, "application/json", 503),
    "escape": _Write("/internal/create-event", _ESCAPE_EVENT, "application/json", 503),
}

#: A request of each API that reads.
_READS = (
    "/log/v1/events?scope=project/crash",
    "/log/v1/events/count?scope=project/crash",
    "/log/v1/deployments?project=x",
    "/api/v1/events/query/",
    "/healthz",
)


class Place(msgspec.Struct, frozen=True):
    """Where a store is, and how to break that."""

    url: str
    #: By name: what breaks it, and what mends it.
    faults: Mapping[str, tuple[Callable[[], None], Callable[[], None]]]
    #: Makes what a killed service needs, such as a file system that can be written again.
    repair: Callable[[], None]


async def run(trial: Trial) -> Outcome:
    """Each fault, one after another, each on a store of its own."""
    figures: dict[str, float | int | str] = {}
    found: list[str] = []
    for name in _FAULTS[trial.store]:
        case = _Case(name, trial)
        found += [f"{name}: {each}" for each in await case.run()]
        figures |= {f"{name}_{figure}": value for figure, value in case.figures.items()}
    return Outcome(figures=figures, findings=found)


class _Case:
    """One fault."""

    def __init__(self, fault: str, trial: Trial) -> None:
        self._fault = fault
        self._trial = trial
        self._choice = random.Random(trial.seed)
        self.figures: dict[str, float | int | str] = {}

    async def run(self) -> list[str]:
        """Break, mend and examine; return what was found."""
        with TemporaryDirectory(prefix="faults-disk-") as name:
            # PostgreSQL runs as another user.
            (folder := Path(name)).chmod(0o755)
            with _PLACES[self._trial.store](folder) as place:
                return await self._run(folder, place)

    async def _run(self, folder: Path, place: Place) -> list[str]:
        (logs := folder / "logs").mkdir()
        serve = partial(servers.deploylog, logs, store=place.url)
        writers: list[Writer] = []
        found: list[str] = []
        async with serve(program=self._trial.program) as server:
            async with _writing(server.port, self._choice, writers):
                found += await self._break_and_mend(server.port, place)
            server.kill()
        place.repair()
        async with serve() as server:
            client_log = await read_log(server.port)
        self.figures["acknowledged"] = sum(len(writer.receipts) for writer in writers)
        return found + as_text(examine(client_log, writers))

    async def _break_and_mend(self, port: int, place: Place) -> list[str]:
        break_, mend = place.faults[self._fault]
        await asyncio.sleep(_RECORD_SECONDS)
        async with _session(port) as http:
            await asyncio.to_thread(break_)
            found = await self._refusals(http)
            found += await self._reads(http)
            await asyncio.to_thread(mend)
            if (self._trial.store, self._fault) not in _UNMENDED:
                found += await self._recovers(http)
        await asyncio.sleep(_RECORD_SECONDS)
        return found

    async def _refusals(self, http: aiohttp.ClientSession) -> list[str]:
        """Send to each API until it refuses, and look at what it says."""
        found = []
        for api, write in _WRITES.items():
            answer = await _refusal(http, write)
            if answer is None:
                found.append(f"{api} records on")
                continue
            self.figures[api] = answer.status
            wanted = write.full if self._fault == "full" else 503
            if answer.status != wanted:
                found.append(f"{api} answers {answer.status} instead of {wanted}: {answer.text}")
            if not answer.retry_after.isdigit():
                found.append(f"{api} says not when to come back")
            if not _is_of(api, answer.text):
                found.append(f"{api} does not answer in its own words: {answer.text}")
        return found

    async def _reads(self, http: aiohttp.ClientSession) -> list[str]:
        """Reads go on where the store can be read; elsewhere they are refused properly."""
        wanted = {503} if (self._trial.store, self._fault) in _UNREADABLE else {200}
        found = []
        for path in _READS:
            async with http.get(path) as answer:
                text = await answer.text()
                if answer.status not in (wanted if path != "/healthz" else {200}):
                    found.append(f"{path} answers {answer.status}: {text[:200]}")
        return found

    async def _recovers(self, http: aiohttp.ClientSession) -> list[str]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        if not await _until(_RECOVER_SECONDS, lambda: _answers(http, {201})):
            answer = await _refusal(http, _NATIVE)
            why = answer.text if answer is not None else "not any more"
            return [f"appends are refused although the cause is gone: {why}"]
        self.figures["recovered_after_seconds"] = round(loop.time() - start, 1)
        return []


def _is_of(api: str, text: str) -> bool:
    """Whether an error is in the API's own words."""
    match api:
        case "native":
            return "urn:deploylog:problem:store-" in text
        case "bluelink":
            return text.startswith('{"message":')
        case _:
            return not text.startswith("{")


class _Answer(msgspec.Struct, frozen=True):
    """A refusal."""

    status: int
    retry_after: str
    text: str


async def _refusal(http: aiohttp.ClientSession, write: _Write) -> _Answer | None:
    """The first refusal; until then what is small may find room."""
    end = time.monotonic() + _REFUSE_SECONDS
    while time.monotonic() < end:
        async with write.send(http) as answer:
            text = (await answer.text())[:300]
            if answer.status >= 400:
                return _Answer(answer.status, answer.headers.get("Retry-After", ""), text)
    return None


async def _answers(http: aiohttp.ClientSession, statuses: set[int]) -> bool:
    """Whether an append gets one of these statuses."""
    async with _NATIVE.send(http) as answer:
        return answer.status in statuses


async def _until(seconds: float, fact: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(int(seconds / 0.1)):
        if await fact():
            return True
        await asyncio.sleep(0.1)
    return False


@asynccontextmanager
async def _session(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{HOST}:{port}") as http:
        yield http


@asynccontextmanager
async def _writing(port: int, choice: random.Random, writers: list[Writer]) -> AsyncIterator[None]:
    """Let writers write inside the block; those that go on until all is recorded may not end."""
    patient = [
        PatientWriter(n, choice, "key" if n % 2 else "ids", largest=_LARGEST_BATCH)
        for n in range(_WRITERS)
    ]
    writers += patient
    tasks = [asyncio.create_task(each.write(port)) for each in patient]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Places


class FileSystem:
    """An ext4 file system in a file, which is seen at another place."""

    def __init__(self, folder: Path, size: int) -> None:
        self._image, self._mounted = folder / "image", folder / "mounted"
        self.place = folder / "place"
        self._size = size

    def create(self) -> None:
        """Make it, and mount it."""
        with self._image.open("wb") as image:
            image.truncate(self._size)
        for each in (self._mounted, self.place):
            each.mkdir()
        _run("mkfs.ext4", "-q", "-m", "0", self._image)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self._mounted)
        self.appear()
        self.place.chmod(0o777)

    def fill(self) -> None:
        """Leave no room."""
        file = os.open(self._mounted / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for size in (_MIB, 4096):
                _write_until_full(file, bytes(size))
            os.fsync(file)
        finally:
            os.close(file)

    def make_room(self) -> None:
        """Undo ``fill``."""
        (self._mounted / "filler").unlink()

    def disappear(self) -> None:
        """Leave nothing where the store was; who has files open keeps them."""
        _run("umount", "--lazy", self.place)

    def appear(self) -> None:
        """Undo ``disappear``."""
        _run("mount", "--bind", self._mounted, self.place)

    def protect(self) -> None:
        """Let nobody write, as the kernel does after an error of the disk."""
        device = subprocess.check_output(["findmnt", "-no", "SOURCE", self._mounted], text=True)
        trigger = Path("/sys/fs/ext4", Path(device.strip()).name, "trigger_fs_error")
        trigger.write_text("faults.disk")

    def repair(self) -> None:
        """Check the file system, and mount it again."""
        self.close()
        subprocess.run(["e2fsck", "-p", "-f", self._image], check=False, capture_output=True)
        self._mount()

    def close(self) -> None:
        """Unmount it."""
        for each in (self.place, self._mounted):
            if os.path.ismount(each):
                _run("umount", each)


def _write_until_full(file: int, data: bytes) -> None:
    try:
        while True:
            os.write(file, data)
    except OSError:
        return


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise servers.Unavailable(f"{command[0]} failed, does it need root? {done.stderr}")


@contextmanager
def _file_system(folder: Path, store: str) -> Iterator[FileSystem]:
    system = FileSystem(folder, _SIZES[store])
    try:
        system.create()
        yield system
    finally:
        system.close()


def _nothing() -> None:
    pass


@contextmanager
def _sqlite(folder: Path) -> Iterator[Place]:
    with _file_system(folder, "sqlite") as system:
        yield Place(
            f"sqlite:///{system.place / 'deploylog.db'}",
            {
                "full": (system.fill, system.make_room),
                "gone": (system.disappear, system.appear),
                "readonly": (system.protect, _nothing),
            },
            system.repair,
        )


@contextmanager
def _postgresql(folder: Path) -> Iterator[Place]:
    with ExitStack() as opened:
        system = opened.enter_context(_file_system(folder, "postgresql"))
        (home := system.place / "server").mkdir()
        (log := folder / "wal").mkdir()
        server = Database(home, log=log)
        server.create()
        server.start()
        opened.callback(server.stop)
        yield Place(
            server.url,
            {
                "full": (system.fill, partial(_make_room, system, server)),
                "gone": (server.stop, server.start),
                "readonly": (partial(_protect, server, "on"), partial(_protect, server, "off")),
            },
            _nothing,
        )


def _make_room(system: FileSystem, server: Database) -> None:
    system.make_room()
    # A server that could not write its own log has given up.
    server.revive()


def _protect(server: Database, value: str) -> None:
    server.run(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    server.run("SELECT pg_reload_conf()")


_PLACES = {"sqlite": _sqlite, "postgresql": _postgresql}

_FAULTS = {"sqlite": ("full", "gone", "readonly"), "postgresql": ("full", "gone", "readonly")}

#: Store and fault, where only a restart mends it.
_UNMENDED = {("sqlite", "readonly")}

#: Store and fault, where nothing can be read meanwhile.
_UNREADABLE = {("postgresql", "gone")}

SUITE = Suite(
    name="disk",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={"sqlite": ("refusal",), "postgresql": ("refusal",)},
)

if __name__ == "__main__":
    SUITE.main()
