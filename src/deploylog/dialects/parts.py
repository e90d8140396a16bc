"""What the composition root hands to every dialect."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from deploylog.bodies import BodyLimits
from deploylog.service import EventService

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts a dialect may use, and the limits it keeps."""

    service: EventService
    #: ns since 1970.
    clock: Callable[[], int]
    #: Told how many events went out on a stream, and to which position.
    sent: Callable[[int, int], None]
    limits: BodyLimits
    max_batch_events: int
    #: Whether the RFS dialect refuses parameters it does not know.
    rfs_strict: bool
