"""The servers to measure, each in a process of its own, with a fresh store and port."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from cryptography.fernet import Fernet

from bench.http1 import HOST, Client, get

ROOT = Path(__file__).resolve().parent.parent

#: A store that was copied, or is of an older version, is indexed first.
_START_SECONDS = 180
_STOP_SECONDS = 15

_NGINX = """
{user}
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
error_log stderr warn;
load_module {module};
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    client_body_buffer_size 64k;
    nchan_shared_memory_size 256M;
    server {{
        listen {host}:{port} backlog=2048;
        location = /pub {{
            nchan_publisher;
            nchan_channel_id bench;
            nchan_message_buffer_length 10000;
            nchan_message_timeout 10m;
        }}
        location = /sub {{
            nchan_subscriber eventsource;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


class Unavailable(Exception):
    """A server cannot be started; the message says what is missing."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running server."""

    port: int
    #: The directory of its files.
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.directory / "deploylog.db"

    def kill(self) -> None:
        """Kill it, as a crash would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@asynccontextmanager
async def deploylog(
    directory: Path | None = None,
    *,
    store: str | None = None,
    delivers: bool = False,
    program: tuple[str, ...] = ("-m", "deploylog"),
    options: tuple[str, ...] = (),
) -> AsyncIterator[Server]:
    """Run Deploylog on the store in ``directory``, on the one at the URL ``store``, or a fresh one.

    With ``delivers`` it can store secrets, and call endpoints on this machine. ``program`` is what
    Python runs, ``options`` are more of ``serve``.
    """
    with TemporaryDirectory(prefix="deploylog-bench-") as fresh:
        folder = directory or Path(fresh)
        command = (*program, "serve", *options)
        server = _start_deploylog(folder, store, delivers=delivers, command=command)
        try:
            await _wait_for(server, _is_ready)
            yield server
        finally:
            _stop(server)


@asynccontextmanager
async def nchan() -> AsyncIterator[Server]:
    """Run nginx with nchan: ``POST /pub`` publishes to the readers of ``GET /sub``."""
    with TemporaryDirectory(prefix="nchan-bench-") as fresh:
        server = _start_nginx(Path(fresh))
        try:
            await _wait_for(server, _is_listening)
            yield server
        finally:
            _stop(server)


@asynccontextmanager
async def sink() -> AsyncIterator[Server]:
    """Run a receiver of webhooks, see ``bench.sink``."""
    port = free_port()
    command = (sys.executable, "-m", "bench.sink", str(port))
    with TemporaryDirectory(prefix="sink-bench-") as fresh:
        async with running(command, Path(fresh), port, path="/count") as server:
            yield server


@asynccontextmanager
async def listening(
    command: tuple[str, ...],
    directory: Path,
    port: int,
    *,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[Server]:
    """Run a server, as this user, that is ready once it accepts connections."""
    server = _start(command, directory, port, dict(os.environ), user=user)
    try:
        await _wait_for(server, _is_listening)
        yield server
    finally:
        _stop(server, stop)


def find_program(name: str, package: str, *, beside: Path | None = None) -> str:
    """The path of a program; raises Unavailable, naming the package that has it."""
    folders = (str(beside or ""), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")
    program = shutil.which(name, path=os.pathsep.join(filter(None, folders)))
    if program is None:
        raise Unavailable(f"{name} is not here: install the package {package}")
    return program


@asynccontextmanager
async def running(
    command: tuple[str, ...], directory: Path, port: int, *, path: str
) -> AsyncIterator[Server]:
    """Run a server that returns 200 on ``path`` once it is ready."""
    server = _start(command, directory, port, environment())
    try:
        await _wait_for(server, lambda server: _answers(server, path))
        yield server
    finally:
        _stop(server)


def _start_deploylog(
    directory: Path, store: str | None, *, delivers: bool, command: tuple[str, ...]
) -> Server:
    port = free_port()
    url = store or f"sqlite:///{directory / 'deploylog.db'}"
    command = (sys.executable, *command, "--port", str(port), "--store", url)
    if delivers:
        key_file = directory / "encryption.key"
        if not key_file.exists():
            key_file.write_text(Fernet.generate_key().decode())
        command += (
            "--secret-key-file",
            str(key_file),
            "--delivery-allowed-networks",
            "127.0.0.0/8",
        )
        command += ("--delivery-concurrency", "64")
    return _start(command, directory, port, environment())


def environment() -> dict[str, str]:
    """The environment of a process that runs modules of this repository."""
    folders = (os.environ.get("PYTHONPATH"), str(ROOT), str(ROOT / "src"))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


def _start_nginx(directory: Path) -> Server:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    module = _nchan_module(nginx) if nginx else None
    if not nginx or not module:
        raise Unavailable("nchan is not installed: install nginx and libnginx-mod-nchan")
    port = free_port()
    # A worker without root privileges could not enter the directory, which is root's.
    user = "user root;" if os.geteuid() == 0 else ""
    text = _NGINX.format(directory=directory, module=module, port=port, host=HOST, user=user)
    config = directory / "nginx.conf"
    config.write_text(text)
    command = (nginx, "-c", str(config), "-p", str(directory), "-e", "stderr")
    return _start(command, directory, port, dict(os.environ))


def _nchan_module(nginx: str) -> Path | None:
    built = subprocess.run((nginx, "-V"), capture_output=True, text=True, check=True).stderr
    folders = [word.partition("=")[2] for word in built.split() if "--modules-path=" in word]
    found = (Path(folder, "ngx_nchan_module.so") for folder in folders)
    return next((module for module in found if module.exists()), None)


def _start(
    command: tuple[str, ...],
    directory: Path,
    port: int,
    env: dict[str, str],
    user: str | None = None,
) -> Server:
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=env,
            cwd=directory,
            start_new_session=True,
            user=user,
        )
    return Server(port=port, directory=directory, process=process)


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])


async def _wait_for(server: Server, check: Callable[[Server], Coroutine[Any, Any, bool]]) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await check(server):
                if server.process.poll() is not None:
                    raise Unavailable(f"the server exited at once:\n{_log_of(server)}")
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise Unavailable(f"the server is not ready:\n{_log_of(server)}") from error


async def _is_ready(server: Server) -> bool:
    return await _answers(server, "/readyz")


async def _answers(server: Server, path: str) -> bool:
    try:
        client = await Client.open(server.port)
        answer = await client.ask(get(path))
    except ConnectionError:
        return False
    client.close()
    return answer.status == 200


async def _is_listening(server: Server) -> bool:
    try:
        (await Client.open(server.port)).close()
    except ConnectionError:
        return False
    return True


def _log_of(server: Server) -> str:
    return (server.directory / "server.log").read_text(errors="replace")[-2000:]


def _stop(server: Server, how: signal.Signals = signal.SIGTERM) -> None:
    if server.process.poll() is not None:
        return
    server.process.send_signal(how)
    try:
        server.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        raise
