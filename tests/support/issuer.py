"""An OpenID Connect issuer in a process of its own, which a test can tell to misbehave."""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from yarl import URL

CLIENT = ("web", "s3cret")

#: The keys that it begins with: id, and the algorithm that each is for.
KEYS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")

_LARGE = 2 << 20


def new_private_key(algorithm: str, bits: int = 2048) -> Any:
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(65537, bits)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])


def public_jwk(key: Any, algorithm: str, **fields: object) -> dict[str, object]:
    """What the issuer publishes of a private key."""
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, **fields}


def unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    """A token without its signature, up to the last dot."""
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


class State:
    """How the issuer is, until it is told otherwise."""

    def __init__(self) -> None:
        self.private = {algorithm: new_private_key(algorithm) for algorithm in KEYS}
        self.algorithms = {algorithm: algorithm for algorithm in KEYS}
        self.reset()

    def reset(self) -> None:
        self.published = list(KEYS)
        #: Fields put over what is published: of the metadata, and of keys by id.
        self.metadata: dict[str, Any] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        #: Instead of the answer of each path: its status.
        self.statuses: dict[str, int] = {}
        self.large: set[str] = set()
        self.raw: dict[str, str] = {}
        self.fetches: dict[str, int] = {}
        self.is_down = False
        #: What ID tokens say besides, and what was asked for with each code that is not used yet.
        self.person: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}


class Site:
    """Its endpoints."""

    def __init__(self, state: State) -> None:
        self._state = state

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._misbehave])
        for path in (
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/realms/acme",
            "/realms/acme/.well-known/openid-configuration",
        ):
            application.router.add_get(path, self._metadata)
        application.router.add_get("/jwks", self._jwks)
        application.router.add_get("/authorize", self._authorize)
        application.router.add_post("/token", self._token)
        for name in ("reset", "rotate", "set", "sign", "fetches"):
            application.router.add_post(f"/control/{name}", getattr(self, f"_{name}"))
        return application

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path, state = request.path, self._state
        if path.startswith("/control/"):
            return await handler(request)
        state.fetches[path] = state.fetches.get(path, 0) + 1
        if state.is_down:
            return web.Response(status=503)
        if path in state.statuses:
            # A redirect leads to what would have been the answer.
            return web.Response(status=state.statuses[path], headers={"Location": "/jwks"})
        if path in state.large:
            return web.json_response({"keys": [], "padding": "x" * _LARGE})
        if path in state.raw:
            return web.Response(text=state.raw[path])
        return await handler(request)

    async def _metadata(self, request: web.Request) -> web.Response:
        url = f"http://{request.host}"
        issuer = f"{url}/realms/acme" if "/realms/acme" in request.path else url
        metadata = {
            "issuer": issuer,
            "jwks_uri": f"{url}/jwks",
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
        }
        return web.json_response({**metadata, **self._state.metadata})

    async def _jwks(self, request: web.Request) -> web.Response:
        state = self._state
        keys = [
            {
                **public_jwk(state.private[id], state.algorithms[id], kid=id, use="sig"),
                **state.fields.get(id, {}),
            }
            for id in state.published
        ]
        return web.json_response({"keys": keys})

    async def _authorize(self, request: web.Request) -> web.Response:
        """The sign-in of a person, who does so at once."""
        asked, code = dict(request.query), secrets.token_hex(8)
        assert asked["code_challenge_method"] == "S256"
        self._state.codes[code] = asked
        back = URL(asked["redirect_uri"]).with_query(code=code, state=asked["state"])
        return web.Response(status=302, headers={"Location": str(back)})

    def _person(self, form: Any, issuer: str) -> web.Response:
        """The ID token for a code, which may be used once and only with its verifier."""
        asked = self._state.codes.pop(str(form.get("code")), {})
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        shown = (challenge, form.get("redirect_uri"), form.get("client_id"))
        if shown != tuple(map(asked.get, ("code_challenge", "redirect_uri", "client_id"))):
            return web.json_response({"error": "invalid_grant"}, status=400)
        issued = int(time.time())
        claims = {
            "iss": issuer,
            "sub": "u-1",
            "aud": asked["client_id"],
            "iat": issued,
            "exp": issued + 300,
            "nonce": asked["nonce"],
            **self._state.person,
        }
        token = self._signed({}, claims, "RS256")
        return web.json_response({"access_token": "-", "token_type": "Bearer", "id_token": token})

    async def _token(self, request: web.Request) -> web.Response:
        """Client credentials, as RFC 6749 has them, and the codes of people."""
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != CLIENT:
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("grant_type") == "authorization_code":
            return self._person(form, f"http://{request.host}")
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        issued = int(time.time())
        claims = {
            "iss": f"http://{request.host}",
            "sub": CLIENT[0],
            "aud": "deploylog",
            "iat": issued,
            "exp": issued + 300,
            "deploylog_grants": "admin:/",
        }
        token = self._signed({}, claims, "RS256")
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 300})

    async def _reset(self, request: web.Request) -> web.Response:
        self._state.reset()
        return web.json_response({})

    async def _set(self, request: web.Request) -> web.Response:
        for name, value in (await request.json()).items():
            setattr(self._state, name, set(value) if name == "large" else value)
        return web.json_response({})

    async def _rotate(self, request: web.Request) -> web.Response:
        """A new key of an algorithm, published beside the others; its id."""
        asked = await request.json()
        id, algorithm = secrets.token_hex(4), asked["algorithm"]
        self._state.private[id] = new_private_key(algorithm, asked.get("bits", 2048))
        self._state.algorithms[id] = algorithm
        self._state.published.append(id)
        return web.json_response(id)

    async def _sign(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response(self._signed(asked["header"], asked["claims"], asked["key"]))

    def _signed(self, header: dict[str, Any], claims: dict[str, Any], id: str) -> str:
        """A token with just this header and these claims, signed whatever they say."""
        algorithm = self._state.algorithms[id]
        whole = {"alg": algorithm, "kid": id, "typ": "JWT", **header}
        named = {name: value for name, value in whole.items() if value is not None}
        text = unsigned(named, claims)
        key = self._state.private[id]
        signature = jwt.get_algorithm_by_name(algorithm).sign(text[:-1].encode(), key)
        return text + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    async def _fetches(self, request: web.Request) -> web.Response:
        return web.json_response(self._state.fetches)


class RunningIssuer:
    """An issuer that listens, and what a test tells it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def reset(self) -> None:
        """Be as at the start."""
        await self._control("reset", {})

    async def set(self, **state: object) -> None:
        """Change how it is; see ``State``."""
        await self._control("set", state)

    async def rotate(self, algorithm: str = "RS256", bits: int = 2048) -> str:
        """Publish a new key beside the others; its id."""
        return str(await self._control("rotate", {"algorithm": algorithm, "bits": bits}))

    async def sign(self, header: dict[str, object], claims: dict[str, object], key: str) -> str:
        """A token; a ``None`` in the header leaves something out."""
        return str(await self._control("sign", {"header": header, "claims": claims, "key": key}))

    async def fetches(self) -> dict[str, int]:
        """How often each path was asked for."""
        return dict(await self._control("fetches", {}))

    async def jwks(self) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/jwks") as answer:
            return await answer.json()

    async def token(self) -> str:
        """One by client credentials."""
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT[0],
            "client_secret": CLIENT[1],
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/token", data=form) as answer,
        ):
            return str((await answer.json())["access_token"])

    async def _control(self, name: str, asked: object) -> Any:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/control/{name}", json=asked) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.json()


@contextmanager
def running_issuer() -> Iterator[RunningIssuer]:
    """An issuer on a free port of loopback."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the issuer did not start"
        yield RunningIssuer(url)
    finally:
        process.kill()
        process.communicate()


async def _serve() -> None:
    runner = web.AppRunner(Site(State()).application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
