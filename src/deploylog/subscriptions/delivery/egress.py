"""The guard: which addresses may be called.

A subscriber chooses the address, and this service makes the request, from a place where it may
reach more than the subscriber can. So an address is judged where the socket is made, after the
name was resolved: what a name means may change between two looks.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from threading import Thread
from typing import Any

import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from deploylog.errors import InvalidSettings, InvalidSubscription

#: The longest address of a receiver, in characters.
MAX_URL_LENGTH = 2048

#: Names that are looked up at the same time. Each has a thread until the answer is there.
MOST_LOOKUPS = 32

#: Seconds that a look-up may take.
LOOKUP_SECONDS = 4.0

#: IPv4 that is not global unicast: IANA's special-purpose registry (RFC 6890), multicast (RFC 5771)
#: and the reserved class E. Python's ``is_global`` has changed between versions.
_SPECIAL_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' NAT; 100.100.100.200 is a cloud's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # a cloud's own agent, though the address is a public one
            "169.254.0.0/16",  # link-local; 169.254.169.254 is metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)

#: All of IPv6 that is given out as global unicast (RFC 4291). Outside lie loopback, link-local,
#: fc00::/7, multicast, and IPv4 in IPv6: mapped, compatible, NAT64.
_GLOBAL_6 = IPv6Network("2000::/3")

#: What is special within it.
_SPECIAL_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address is in it
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

#: ISATAP (RFC 5214): these 32 bits are followed by an IPv4 address, whatever the network is. Two
#: bits of the first byte may be set or not.
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFCFFFFFF

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})\.?")

#: What a resolver may take for a number: all of an address may be in it (WHATWG URL, "ends in a
#: number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: ``socket.getaddrinfo``, or what stands for it.
Lookup = Callable[..., Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]]

#: As aiohttp gives it: family, type, protocol, name, and the address of a socket.
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class AddressRefused(OSError):
    """This address may not be called. It does not say which it is: that may be a secret, too."""


class LookupTooLong(OSError):
    """The name server does not answer."""


class Networks(msgspec.Struct, frozen=True):
    """What an operator allows to be called, beside everything that is public."""

    allowed: tuple[Network, ...] = ()

    def may_reach(self, address: Address) -> bool:
        """Whether the address is a global unicast one, or in an allowed network.

        An IPv6 address that holds an IPv4 address is neither, unless a network of IPv6 allows it:
        what it leads to is decided by whoever translates it.
        """
        return is_global(address) or any(address in network for network in self.allowed)


def parse_networks(text: str) -> Networks:
    """Networks such as ``127.0.0.0/8, ::1/128``, by commas or blanks; raises InvalidSettings."""
    return Networks(tuple(map(_parse_network, text.replace(",", " ").split())))


def _parse_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        example = "one is written as 10.1.0.0/16 or ::1/128"
        raise InvalidSettings(f"{text!r} is not a network: {example}") from None


def is_global(address: Address) -> bool:
    """Whether it is a unicast address that means the same everywhere."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    if (int(address) >> 32) & _ISATAP_MASK == _ISATAP:
        return False
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


def check_url(text: str, networks: Networks) -> str:
    """The address in its canonical spelling, if it may be that of a receiver.

    Raises InvalidSubscription, which does not show it. A name is judged when it is called.
    """
    return str(parse_url(text, networks))


def parse_url(text: str, networks: Networks) -> URL:
    """The same, parsed."""
    if len(text) > MAX_URL_LENGTH:
        raise _wrong(f"is longer than {MAX_URL_LENGTH} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise _wrong("holds blanks, control characters or backslashes")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        # The cause would show it.
        raise _wrong("is not one") from None
    if url.scheme not in ("http", "https"):
        raise _wrong("is not an http or https address")
    if "@" in url.raw_authority:
        raise _wrong("names a user; it may not hold credentials")
    if not host or not port:
        raise _wrong("names no host" if not host else "has no port")
    _check_host(host.lower(), networks)
    return url.with_fragment(None)


def _check_host(host: str, networks: Networks) -> None:
    address = literal_address(host)
    if address is not None:
        if not networks.may_reach(address):
            raise _wrong("is not public, and delivery_allowed_networks does not include it")
        return
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise _wrong("has no valid host name")
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Such as 2130706433, 0x7f.1 or 0177.0.0.1, which resolvers take for an address.
        raise _wrong("has a host that is a number, or an address in another spelling")
    if labels[-1] == "localhost" and not any(networks.may_reach(each) for each in _LOOPBACK):
        raise _wrong("is not public, and delivery_allowed_networks does not include it")


def _wrong(what: str) -> InvalidSubscription:
    return InvalidSubscription(f"the address {what}", field="url")


@lru_cache(maxsize=1024)
def literal_address(host: str) -> Address | None:
    """The address that the host is, if it is written as one."""
    try:
        return ip_address(host)
    except ValueError:
        return None


class EgressResolver(AbstractResolver):
    """Resolves names and makes sockets, but only for what may be called.

    Of a name with public and private addresses, the public ones are called. A name is looked up in
    a thread of its own: one whose name server is silent holds up nobody else, nor the end of the
    process.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        lookup: Lookup = socket.getaddrinfo,
        seconds: float = LOOKUP_SECONDS,
    ) -> None:
        """Give up looking up a name after so many ``seconds``."""
        self._networks = networks
        self._lookup = lookup
        self._seconds = seconds
        self._places = asyncio.Semaphore(MOST_LOOKUPS)
        #: By name and family: a name that hangs takes one thread, however often it is asked.
        self._running: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be called; raises AddressRefused when the name has no such one,
        LookupTooLong, or what the look-up raised.
        """
        try:
            async with asyncio.timeout(self._seconds):
                infos = await self._looked_up(host, family)
        except TimeoutError:
            raise LookupTooLong(f"no answer within {self._seconds:g} s") from None
        allowed = [info for info in infos if self._may_reach(info[4])]
        if not allowed:
            raise AddressRefused
        return [_result(host, port, info) for info in allowed]

    async def close(self) -> None:
        """Nothing: a thread ends with its look-up."""

    def make_socket(self, info: AddressInfo) -> socket.socket:
        """A socket for this address; raises AddressRefused. The last gate, and for addresses that
        are written as such the only one.
        """
        family, type_, protocol, _, address = info
        if not self._may_reach(address):
            raise AddressRefused
        return socket.socket(family, type_, protocol)

    def _may_reach(self, address: tuple[Any, ...]) -> bool:
        literal = literal_address(str(address[0]))
        return literal is not None and self._networks.may_reach(literal)

    async def _looked_up(self, host: str, family: int) -> list[AddressInfo]:
        key = (host, family)
        if key not in self._running:
            await self._places.acquire()
            if key in self._running:
                # Somebody else has begun it meanwhile.
                self._places.release()
            else:
                self._begin(key)
        # Who stops waiting must not end it for the others.
        return await asyncio.shield(self._running[key])

    def _begin(self, key: tuple[str, int]) -> None:
        """Look it up in a thread, which has a place until it is done."""
        loop = asyncio.get_running_loop()
        future = self._running[key] = loop.create_future()
        future.add_done_callback(lambda done: self._ended(key, done))
        Thread(target=self._look_up, args=(loop, future, *key), daemon=True).start()

    def _ended(self, key: tuple[str, int], future: asyncio.Future[list[AddressInfo]]) -> None:
        del self._running[key]
        self._places.release()
        if not future.cancelled():
            # Nobody may be waiting any more; that is no error.
            future.exception()

    def _look_up(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[list[AddressInfo]],
        host: str,
        family: int,
    ) -> None:
        """In a thread: ask, and hand over what came of it."""
        try:
            infos = list(
                self._lookup(
                    host, 0, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            )
        except (OSError, ValueError) as error:
            _hand_over(loop, future, error)
        else:
            _hand_over(loop, future, infos)


def _hand_over(
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

    # The loop is closed when the answer comes after the end of the service.
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
