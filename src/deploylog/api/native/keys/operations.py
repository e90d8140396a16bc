"""The operations on keys."""

from deploylog.api.api import Resource
from deploylog.api.native.keys.endpoints import Keys
from deploylog.api.native.keys.wire import AddedKeyBody, KeyList, NewKeyBody
from deploylog.api.native.paths import KEYS as PATH
from deploylog.api.operation import Body, Operation, path_parameter

KEYS = Resource(
    endpoints=Keys,
    operations=(
        Operation(
            id="listKeys",
            method="GET",
            path=PATH,
            endpoint=Keys.list,
            summary="List the keys that you administer, including revoked ones",
            tag="keys",
            answers=(Body(help="The keys, oldest first.", type=KeyList),),
        ),
        Operation(
            id="addKey",
            method="POST",
            path=PATH,
            endpoint=Keys.add,
            summary="Add an API key; its secret is shown this once",
            tag="keys",
            request=(
                Body(type=NewKeyBody, example={"name": "ci", "grants": ["write:project/acme"]}),
            ),
            answers=(Body(help="The key.", status=201, type=AddedKeyBody),),
        ),
        Operation(
            id="revokeKey",
            method="DELETE",
            path=f"{PATH}/{{id}}",
            endpoint=Keys.revoke,
            summary="Revoke a key",
            tag="keys",
            parameters=(path_parameter("id", "The key's id."),),
            answers=(Body(help="Revoked.", status=204, media=""),),
        ),
    ),
)
