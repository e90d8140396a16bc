"""``deploylog keys`` in a process of its own, and checks of the keys that it adds."""

import os
from pathlib import Path

from deploylog.auth.api_keys import ApiKeys
from deploylog.auth.bluelink import BluelinkSignatures, sign
from deploylog.auth.encryption import read_encryptor
from deploylog.auth.huawei import HuaweiScheme
from deploylog.auth.request_signing import RequestSignatures
from deploylog.auth.sigv4 import AwsScheme
from deploylog.auth.source_secrets import SourceSecrets
from deploylog.auth.store import SourceKind
from deploylog.errors import Unauthenticated
from deploylog.events.access import Principal
from deploylog.store import open_store
from support.backends import empty_store_url_at
from support.cli import Result
from support.clocks import Clock, WallClock
from support.factories import Commits, now
from support.preloaded import preloaded
from support.presenting import presented, presented_raw
from support.servers import EVENTS
from support.signing import signed_by_botocore, signed_by_huawei
from support.webhooks import signature

_DATE = 1767225600


class Keys:
    """``deploylog keys``, in a process of its own, with a file of encryption keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key_file = directory / "key_file"
        self.store = empty_store_url_at(directory / "log.db")

    def __call__(self, *args: str, stdin: str = "", **environ: str) -> Result:
        return self.run("keys", *args, stdin=stdin, **environ)

    def delete_subscription(self, id: str) -> Result:
        """Run ``deploylog subscriptions delete`` on the store itself."""
        return self.run("subscriptions", "delete", id, "--store", self.store)

    def run(self, *args: str, stdin: str = "", **environ: str) -> Result:
        code, out, err = preloaded().run(
            args,
            stdin=stdin.encode(),
            cwd=self.directory,
            environ={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "COLUMNS": "200",
                "DEPLOYLOG_STORE": self.store,
                "DEPLOYLOG_SECRET_KEY_FILE": str(self.key_file),
                **environ,
            },
        )
        return Result(code, out.decode(), err.decode())

    def write_encryption_keys(self, *texts: str) -> None:
        self.key_file.write_text("".join(texts))

    async def signed_by(self, id: str, secret: str) -> Principal | None:
        """Return the principal of a request that Bluelink's client signs with this pair."""
        encryptor = read_encryptor(str(self.key_file))
        value = sign(secret, f"{id},bluelink-date={_DATE}".encode())
        header = f'keyId="{id}", headers="bluelink-date", signature="{value}"'
        headers = {"bluelink-signature-v1": header, "bluelink-date": str(_DATE)}
        async with open_store(self.store, observer=Commits()) as store:
            signatures = BluelinkSignatures(
                store.credentials, encryptor, clock=WallClock(_DATE), monotonic=Clock()
            )
            return await signatures.principal(presented(headers))

    async def accepts(self, kind: str, id: str, secret: str) -> bool:
        """Whether the server accepts a request that the vendor's client signs with this pair."""
        url = f"http://a{EVENTS}"
        sign = signed_by_huawei if kind == "huawei" else signed_by_botocore
        headers = [(name, value.encode()) for name, value in sign((id, secret), "GET", url).items()]
        scheme = HuaweiScheme() if kind == "huawei" else AwsScheme()
        async with open_store(self.store, observer=Commits()) as store:
            signatures = RequestSignatures(
                scheme,
                store.credentials,
                read_encryptor(str(self.key_file)),
                store.signatures,
                clock=now,
                monotonic=Clock(),
            )
            try:
                return await signatures.principal(presented_raw(headers)) is not None
            except Unauthenticated:
                return False

    async def verifies(self, source: SourceKind, secret: str) -> bool:
        """Whether the server accepts a webhook that the source signs with this secret."""
        body = b"{}"
        headers = [(n, v.encode()) for n, v in signature(source, secret, body).items()]
        path = f"/log/v1/ingest/{source}"
        async with open_store(self.store, observer=Commits()) as store:
            secrets = SourceSecrets(
                store.credentials, read_encryptor(str(self.key_file)), clock=Clock()
            )
            request = presented_raw(headers, method="POST", path=path, body=body)
            return await secrets.principal(request) is not None

    async def principal_of(self, key: str) -> Principal | None:
        """Return the principal of this API key."""
        async with open_store(self.store, observer=Commits()) as store:
            keys = ApiKeys(store.credentials, clock=Clock())
            return await keys.principal(presented({"x-api-key": key}))
