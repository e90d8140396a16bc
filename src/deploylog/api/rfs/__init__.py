"""The RFS API: ListStackEvents of Huawei Cloud's Resource Formation Service."""

from deploylog.api.api import Api
from deploylog.api.rfs.errors import respond
from deploylog.api.rfs.operations import ERROR, STACK_EVENTS
from deploylog.api.rfs.settings import RfsSettings

API = Api(
    title="RFS: Huawei Cloud's ListStackEvents",
    prefixes=("/v1/",),
    settings=RfsSettings,
    resources=(STACK_EVENTS,),
    respond=respond,
    error=ERROR,
    security={
        "authToken": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Auth-Token",
            "description": "An API key or a token, as Huawei Cloud's clients send one.",
        },
        "huaweiSignature": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "A signature of the whole request with a key pair, as Huawei Cloud's"
            " clients make it: SDK-HMAC-SHA256. The header X-Sdk-Date must be there and signed.",
        },
    },
)
