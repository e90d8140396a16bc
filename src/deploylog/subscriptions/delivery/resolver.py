"""Names of receivers, resolved to the addresses that the egress filter allows."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from deploylog.subscriptions.delivery.egress import AddressBlocked, Networks, literal_address

#: Concurrent DNS lookups. Each has a thread until its response arrives.
MAX_LOOKUPS = 32

#: Seconds after which a lookup is given up.
LOOKUP_SECONDS = 4.0

#: ``socket.getaddrinfo``, or a replacement.
Lookup = Callable[..., Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]]

#: As in aiohttp: family, type, protocol, name, and the address of a socket.
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class LookupTimeout(OSError):
    """The name server does not respond."""


class EgressResolver(AbstractResolver):
    """Resolves names and makes sockets for addresses that the filter allows.

    A name with public and private addresses resolves to the public ones. Each lookup has a thread
    of its own, so that a silent name server delays neither other lookups nor the end of the
    process.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        lookup: Lookup = socket.getaddrinfo,
        seconds: float = LOOKUP_SECONDS,
    ) -> None:
        """``seconds`` after which a lookup is given up."""
        self._networks = networks
        self._lookup = lookup
        self._seconds = seconds
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)
        #: By name and family: a lookup that hangs takes one thread, however many requests wait.
        self._running: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The allowed addresses of the name.

        Raises AddressBlocked when it has none, LookupTimeout, or what the lookup raised.
        """
        try:
            async with asyncio.timeout(self._seconds):
                infos = await self._shared_lookup(host, family)
        except TimeoutError:
            raise LookupTimeout(f"no response within {self._seconds:g} s") from None
        allowed = [info for info in infos if self._may_reach(info[4])]
        if not allowed:
            raise AddressBlocked
        return [_result(host, port, info) for info in allowed]

    async def close(self) -> None:
        """Do nothing: a thread ends with its lookup."""

    def make_socket(self, info: AddressInfo) -> socket.socket:
        """Make a socket for this address; raises AddressBlocked.

        This is the last check, and the only one for a URL with a literal address.
        """
        family, type_, protocol, _, address = info
        if not self._may_reach(address):
            raise AddressBlocked
        return socket.socket(family, type_, protocol)

    def _may_reach(self, address: tuple[Any, ...]) -> bool:
        literal = literal_address(str(address[0]))
        return literal is not None and self._networks.may_reach(literal)

    async def _shared_lookup(self, host: str, family: int) -> list[AddressInfo]:
        key = (host, family)
        if key not in self._running:
            await self._slots.acquire()
            if key in self._running:
                # Another request has started it meanwhile.
                self._slots.release()
            else:
                self._start(key)
        # A request that is cancelled must not cancel the lookup for others.
        return await asyncio.shield(self._running[key])

    def _start(self, key: tuple[str, int]) -> None:
        """Start a lookup in a thread, which has a slot until it is done."""
        loop = asyncio.get_running_loop()
        future = self._running[key] = loop.create_future()
        future.add_done_callback(lambda done: self._on_done(key, done))
        Thread(target=self._lookup_in_thread, args=(loop, future, *key), daemon=True).start()

    def _on_done(self, key: tuple[str, int], future: asyncio.Future[list[AddressInfo]]) -> None:
        del self._running[key]
        self._slots.release()
        if not future.cancelled():
            # Retrieved, so that asyncio does not log it when all requests were cancelled.
            future.exception()

    def _lookup_in_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[list[AddressInfo]],
        host: str,
        family: int,
    ) -> None:
        try:
            infos = list(
                self._lookup(
                    host, 0, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            )
        except (OSError, ValueError) as error:
            _set_result(loop, future, error)
        else:
            _set_result(loop, future, infos)


def _set_result(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[list[AddressInfo]],
    outcome: list[AddressInfo] | Exception,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    # The loop is closed when the response arrives after the service has stopped.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)


def _result(host: str, port: int, info: AddressInfo) -> ResolveResult:
    family, _, protocol, _, address = info
    return ResolveResult(
        hostname=host,
        host=address[0],
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
