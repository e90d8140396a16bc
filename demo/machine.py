"""Machines of a cluster, and the processes on them."""

import asyncio
import os
import shutil
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

HOST = "127.0.0.1"

#: Seconds that anything may take to start.
PATIENCE = 60


class ClusterFailed(Exception):
    """The cluster cannot run, or a part of it did not start."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where processes run: this machine, unless something else stands for one."""

    address: str = HOST
    #: What comes before each command.
    prefix: tuple[str, ...] = ()

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}"


THIS_MACHINE = Machine()


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


async def get_json(url: str, headers: Mapping[str, str] = {}, *, seconds: float = 2.0) -> Any:
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as http,
        http.get(url) as response,
    ):
        response.raise_for_status()
        return await response.json(content_type=None)


async def until(fact: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
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
