"""Networks of machines on this one: namespaces, and a router between them that can cut them apart.

Each machine has an address of its own and reaches the others through the router, which is a
namespace, too. What is cut is lost without a word, as on a broken line. Only root can make it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

from bench.servers import Unavailable
from demo.machine import Machine

#: Addresses for tests of networks, of which each machine gets a net: RFC 2544.
_NETWORK, _PREFIX = "198.18.0.0/16", "198.18"

_ROUTER = "deploylog-router"


class Network:
    """Machines by name, and what is between them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.machines = {
            name: Machine(
                address=_address(number), prefix=("ip", "netns", "exec", _namespace(name))
            )
            for number, name in enumerate(names, 1)
        }

    def start(self) -> None:
        """Make every machine, and this one's way to them."""
        _run("ip", "netns", "add", _ROUTER)
        _run("ip", "netns", "exec", _ROUTER, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for number, name in enumerate(self.machines, 1):
            namespace = _namespace(name)
            _run("ip", "netns", "add", namespace)
            _connect(number, namespace=namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
            _run("ip", "-n", namespace, "route", "add", "default", "via", _gateway(number))
        _connect(0, namespace=None)
        _run("ip", "route", "add", _NETWORK, "via", _gateway(0))

    def stop(self) -> None:
        """Take everything away."""
        for namespace in (*map(_namespace, self.machines), _ROUTER):
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", namespace)

    def cut(self, some: Sequence[str], others: Sequence[str]) -> None:
        """Lose whatever is sent between some machines and others."""
        self._rule("add", some, others)

    def heal(self, some: Sequence[str], others: Sequence[str]) -> None:
        """End a cut."""
        self._rule("del", some, others)

    def _rule(self, verb: str, some: Sequence[str], others: Sequence[str]) -> None:
        pairs = [(one, other) for one in some for other in others]
        for one, other in chain(pairs, [(other, one) for one, other in pairs]):
            there, back = (self.machines[name].address for name in (one, other))
            _run("ip", "-n", _ROUTER, "rule", verb, "from", there, "to", back, "blackhole")


def _connect(number: int, *, namespace: str | None) -> None:
    """Lay a line between the router and a machine, or this one."""
    port, end = f"port{number}", f"dl-eth{number}"
    _run("ip", "link", "add", end, "type", "veth", "peer", "name", port, "netns", _ROUTER)
    _run("ip", "-n", _ROUTER, "addr", "add", f"{_gateway(number)}/24", "dev", port)
    _run("ip", "-n", _ROUTER, "link", "set", port, "up")
    inside = ("-n", namespace) if namespace else ()
    if namespace:
        _run("ip", "link", "set", end, "netns", namespace)
    _run("ip", *inside, "addr", "add", f"{_address(number)}/24", "dev", end)
    _run("ip", *inside, "link", "set", end, "up")


def _address(number: int) -> str:
    return f"{_PREFIX}.{number}.2"


def _gateway(number: int) -> str:
    return f"{_PREFIX}.{number}.1"


def _namespace(name: str) -> str:
    return f"deploylog-{name}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """A network of these machines inside the block. Raises Unavailable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise Unavailable("namespaces of networks need root, and the package iproute2")
    made = Network(names)
    try:
        made.start()
        yield made
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"no network can be made: {error.stderr.decode().strip()}") from error
    finally:
        made.stop()
