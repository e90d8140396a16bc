"""The egress filter: which addresses deliveries may connect to.

A subscriber chooses the URL, and this service sends the request, from a network where it may reach
more than the subscriber can (SSRF). Therefore the address is checked where the socket is made, in
``resolver``, after the name was resolved: a name may resolve to another address the next time.
"""

import re
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import msgspec
from yarl import URL

from deploylog.errors import InvalidSettings, InvalidSubscription

#: The maximum length of a URL, in characters.
MAX_URL_LENGTH = 2048

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

#: Global unicast IPv6 (RFC 4291). Outside of it are loopback, link-local, fc00::/7, multicast, and
#: IPv4 in IPv6: mapped, compatible, NAT64.
_GLOBAL_6 = IPv6Network("2000::/3")

#: Its special-purpose networks.
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

#: ISATAP (RFC 5214): in any network, an IPv4 address follows these 32 bits. The mask leaves out two
#: bits of the first byte, which may have any value.
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFCFFFFFF

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})\.?")

#: What a resolver may parse as a number, and thus as a whole address (WHATWG URL, "ends in a
#: number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Shown to users: it does not contain the address, which may be a secret.
NOT_PUBLIC = "the address is not public, and delivery_allowed_networks does not include it"


class AddressBlocked(OSError):
    """The egress filter blocks this address. The message does not contain it."""


class Networks(msgspec.Struct, frozen=True):
    """The networks that an operator allows beside all public addresses."""

    allowed: tuple[Network, ...] = ()

    def may_reach(self, address: Address) -> bool:
        """Whether the address is global unicast, or in an allowed network.

        An IPv6 address that contains an IPv4 address is neither, unless an allowed IPv6 network
        includes it: a translator elsewhere decides where it leads.
        """
        return is_global(address) or any(address in network for network in self.allowed)


def parse_networks(text: str) -> Networks:
    """Parse ``127.0.0.0/8, ::1/128``, separated by commas or spaces; raises InvalidSettings."""
    return Networks(tuple(map(_parse_network, text.replace(",", " ").split())))


def _parse_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        example = "write it as 10.1.0.0/16 or ::1/128"
        message = f"delivery_allowed_networks: {text!r} is not a network: {example}"
        raise InvalidSettings(message) from None


def is_global(address: Address) -> bool:
    """Whether it is a global unicast address."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    if (int(address) >> 32) & _ISATAP_MASK == _ISATAP:
        return False
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


def check_url(text: str, networks: Networks) -> str:
    """Return the canonical URL of a receiver; raises InvalidSubscription, which does not show it.

    A host name is checked only when a request resolves it.
    """
    return str(parse_url(text, networks))


def parse_url(text: str, networks: Networks) -> URL:
    """Parse and check the URL of a receiver, as ``check_url`` does."""
    if len(text) > MAX_URL_LENGTH:
        raise _invalid(f"exceeds {MAX_URL_LENGTH} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise _invalid("must not contain spaces, control characters or backslashes")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        # The cause would show the URL.
        raise _invalid("is not valid") from None
    if url.scheme not in ("http", "https"):
        raise _invalid("must start with http:// or https://")
    if "@" in url.raw_authority:
        raise _invalid("must not contain credentials")
    if not host or not port:
        raise _invalid("has no host" if not host else "has no port")
    _check_host(host.lower(), networks)
    return url.with_fragment(None)


def _check_host(host: str, networks: Networks) -> None:
    address = literal_address(host)
    if address is not None:
        if not networks.may_reach(address):
            raise InvalidSubscription(NOT_PUBLIC, field="url")
        return
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise _invalid("has an invalid host name")
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Such as 2130706433, 0x7f.1 or 0177.0.0.1, which resolvers parse as an address.
        raise _invalid("has a number as its host, or an address in another notation")
    if labels[-1] == "localhost" and not any(networks.may_reach(each) for each in _LOOPBACK):
        raise InvalidSubscription(NOT_PUBLIC, field="url")


def _invalid(problem: str) -> InvalidSubscription:
    return InvalidSubscription(f"url {problem}", field="url")


@lru_cache(maxsize=1024)
def literal_address(host: str) -> Address | None:
    """The host as an address, or ``None`` if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
