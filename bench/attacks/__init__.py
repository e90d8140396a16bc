"""The attacks, each one coroutine that takes a ``Target``: add yours to ``ATTACKS``."""

from collections.abc import Awaitable, Callable

from bench.attacks import edge
from bench.attacks.target import Target

Attack = Callable[[Target], Awaitable[None]]

ATTACKS: tuple[Attack, ...] = (
    edge.signature_names,
    edge.header_lines,
    edge.long_header,
    edge.silent_connections,
    edge.slow_bodies,
    edge.malformed_requests,
    edge.form_fields,
    edge.batch_of_numbers,
    edge.escape_subscriptions,
)
