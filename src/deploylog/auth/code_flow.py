"""Sign-in of people: the authorization code flow of OpenID Connect, with PKCE (RFC 7636)."""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import msgspec

from deploylog.auth.bearer import BearerTokens, InvalidToken, parse_principal
from deploylog.auth.oidc import (
    Issuer,
    IssuerHttp,
    IssuerUnavailable,
    Metadata,
    SigningKeys,
    fetch_metadata,
    post_form,
)
from deploylog.errors import Unauthenticated, Unavailable
from deploylog.events.access import Principal

#: Seconds in which a person must have signed in with the issuer.
SIGN_IN_SECONDS = 600

#: Seconds for which the issuer's URLs are remembered, so that visitors cannot make us ask often.
_METADATA_SECONDS = 60

_LOGGER = logging.getLogger(__name__)


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """This service, as the issuer knows it."""

    id: str
    #: Empty for a public client.
    secret: str
    #: What it asks for, separated by spaces.
    scopes: str


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that has started, which the browser must bring back."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str

    @property
    def challenge(self) -> str:
        """The form in which the issuer gets the verifier first."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def start_sign_in(redirect_uri: str) -> SignIn:
    """A new sign-in, after which the issuer sends the browser to ``redirect_uri``."""
    return SignIn(
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        redirect_uri=redirect_uri,
    )


class CodeFlow:
    """Sends people to the issuer, and learns who they are when they return."""

    def __init__(
        self,
        issuer: Issuer,
        client: Client,
        http: IssuerHttp,
        keys: SigningKeys,
        *,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` gives ns since 1970."""
        # An ID token is for the client, not for the API.
        self._issuer = msgspec.structs.replace(issuer, audience=client.id)
        self._client = client
        self._http = http
        self._tokens = BearerTokens(self._issuer, keys, clock=clock)
        self._clock = clock
        self._metadata: tuple[Metadata, float] | None = None

    async def authorization_url(self, sign_in: SignIn) -> str:
        """Where the person signs in; raises Unavailable."""
        url = (await self._published()).authorization
        if url is None:
            raise Unavailable("the token issuer publishes no authorization_endpoint")
        query = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": sign_in.redirect_uri,
            "scope": self._client.scopes,
            "state": sign_in.state,
            "nonce": sign_in.nonce,
            "code_challenge": sign_in.challenge,
            "code_challenge_method": "S256",
        }
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    async def redeem(self, sign_in: SignIn, code: str) -> Principal:
        """Exchange the code for the person; raises Unauthenticated or Unavailable."""
        token = await self._exchange(sign_in, code)
        try:
            claims = await self._tokens.claims(token)
            if not hmac.compare_digest(str(claims.get("nonce")).encode(), sign_in.nonce.encode()):
                raise InvalidToken("the nonce is another sign-in's")
            return parse_principal(claims, self._issuer, now=self._clock())
        except InvalidToken as error:
            _LOGGER.info("rejected an ID token: %s", error)
            raise Unauthenticated(reason=error.reason) from None

    async def _exchange(self, sign_in: SignIn, code: str) -> str:
        """The ID token for the code."""
        url = (await self._published()).token
        if url is None:
            raise Unavailable("the token issuer publishes no token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": sign_in.redirect_uri,
            "client_id": self._client.id,
            "code_verifier": sign_in.verifier,
        }
        if self._client.secret:
            form["client_secret"] = self._client.secret
        try:
            token = (await post_form(self._http, url, form)).get("id_token")
        except IssuerUnavailable as failure:
            # An issuer answers 400 to a code that is not its own, too.
            _LOGGER.warning("cannot exchange a code with the token issuer: %s", failure)
            raise Unauthenticated from None
        if not isinstance(token, str):
            raise Unauthenticated
        return token

    async def _published(self) -> Metadata:
        now = asyncio.get_running_loop().time()
        if self._metadata is None or now >= self._metadata[1]:
            try:
                found = await fetch_metadata(self._http, self._issuer)
            except IssuerUnavailable as failure:
                _LOGGER.warning("cannot fetch metadata from the token issuer: %s", failure)
                raise Unavailable("the token issuer does not respond") from None
            self._metadata = found, now + _METADATA_SECONDS
        return self._metadata[0]


@asynccontextmanager
async def open_code_flow(
    issuer: Issuer, client: Client, *, clock: Callable[[], int]
) -> AsyncIterator[CodeFlow]:
    """Sign people in with ``issuer`` inside the block; ``clock`` gives ns."""
    # Imported here: few services have an issuer, and aiohttp would be a quarter of a start.
    from deploylog.auth.issuer_http import open_http

    async with open_http() as http, asyncio.TaskGroup() as tasks:
        keys = SigningKeys(issuer, http, tasks, clock=clock)
        try:
            yield CodeFlow(issuer, client, http, keys, clock=clock)
        finally:
            keys.close()
