"""Pairs to sign with, and the vendors' own signers."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from deploylog.auth.access_keys import generate_key_pair, make_access_key
from deploylog.auth.encryption import parse_encryptor
from deploylog.auth.store import AccessKeyKind
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.servers import Answer
from support.waiting import PATIENCE


async def add_key_pair(
    store: Store, sealing_key: str, kind: AccessKeyKind, *grants: str
) -> tuple[str, str]:
    """A new key id and its secret, which may do everything unless ``grants`` say what."""
    id, secret = generate_key_pair(kind)
    granted = [parse_grant(grant) for grant in grants or ("read:/", "write:/")]
    signer = make_access_key(
        kind=kind, id=id, secret=secret, name="ann", groups=(), grants=granted,
        encryptor=parse_encryptor(sealing_key), now=now(),
    )  # fmt: skip
    await store.credentials.add(signer)
    return id, secret


def signed_by_huawei(
    pair: tuple[str, str], method: str, url: str, *, body: bytes = b"", **headers: str
) -> dict[str, str]:
    """The headers of a request that Huawei Cloud's SDK signs; it must have a home directory."""
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import Signer

    parts = urlsplit(url)
    request = SdkRequest(
        method=method,
        schema=parts.scheme,
        host=parts.netloc,
        resource_path=parts.path,
        query_params=parse_qsl(parts.query, keep_blank_values=True),
        header_params={name.replace("_", "-"): value for name, value in headers.items()},
        body=body or None,
    )
    return dict(Signer(BasicCredentials(*pair, "acme")).sign(request).header_params)


def signed_by_botocore(
    pair: tuple[str, str],
    method: str,
    url: str,
    *,
    body: bytes = b"",
    service: str = "execute-api",
    region: str = "eu-west-1",
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request that AWS's own signer for Python signs."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers or {}))
    SigV4Auth(Credentials(*pair, token), service, region).add_auth(request)
    return {"Host": urlsplit(url).netloc, **dict(request.headers.items())}


def send(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """Send exactly this: other clients write a query anew."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection.request(method, target, body=body or None, headers=dict(headers))
        response = connection.getresponse()
        received: dict[str, Any] = {n.lower(): v for n, v in response.getheaders()}
        return Answer(status=response.status, headers=received, body=response.read())
    finally:
        connection.close()
