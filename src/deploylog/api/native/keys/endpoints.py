"""The endpoints of keys: parse, call the service, render."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.http.exchange import json_response
from deploylog.api.native.keys import wire
from deploylog.api.native.settings import NativeSettings


class Keys:
    """Answers for keys."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._keys = context.keys
        self._limits = context.limits.at_most(DOCUMENT_BYTES)

    async def list(self, request: Request) -> Response:
        """List keys."""
        keys = await self._keys.keys(request.state.principal)
        return _json(wire.KeyList(keys=[wire.render_key(key) for key in keys]))

    async def add(self, request: Request) -> Response:
        """Add a key."""
        principal = request.state.principal
        principal.require_anywhere("admin")
        new = wire.parse_new_key(await read_body(request, self._limits))
        grants = wire.parse_grants(new.grants)
        added = await self._keys.add(principal, name=new.name, grants=grants, groups=new.groups)
        return _json(wire.render_added(*added), status=201)

    async def revoke(self, request: Request) -> Response:
        """Revoke a key."""
        await self._keys.revoke(request.state.principal, request.path_params["id"])
        return Response(status_code=204)


def _json(body: object, *, status: int = 200) -> Response:
    # A cache must not keep a secret.
    return json_response(body, status=status, headers={"cache-control": "no-store"})
