"""The caller of a request, where what it does is recorded."""

import msgspec
from starlette.requests import Request

from deploylog.events.access import Principal


def caller_of(request: Request, principal: Principal) -> Principal:
    """The principal, with the address that it asks from; a unix socket has none."""
    address = request.client.host if request.client is not None else None
    return msgspec.structs.replace(principal, address=address)
