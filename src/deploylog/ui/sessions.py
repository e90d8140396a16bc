"""Sessions: what a browser brings back, sealed, and who that is now."""

import hmac
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.auth.anonymous import is_loopback
from deploylog.auth.authentication import Authentication, RequestCredentials
from deploylog.auth.encryption import Encryptor
from deploylog.errors import Forbidden, InvalidInput, OperatorError, Unauthenticated
from deploylog.events.access import ANONYMOUS, Principal
from deploylog.events.hub import Reader
from deploylog.events.times import SECOND
from deploylog.ui.open_sessions import OpenSessions

COOKIE = "deploylog_session"

#: Bytes of a cookie that every browser keeps, without its name and attributes.
_MAX_COOKIE = 3_900

#: Random bytes of a token.
_TOKEN_BYTES = 24

_S = TypeVar("_S", bound=msgspec.Struct)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What the cookie says. Nobody but the service can make or read one."""

    #: Random; what a form of this browser must show.
    token: str
    #: The credential that it stands for; empty before sign-in.
    kind: str = ""
    id: str = ""
    #: Whom the credential named, where it cannot be asked again.
    principal: Principal | None = None
    #: When it ends, in ns since 1970.
    expires: int = 0

    @property
    def form_token(self) -> str:
        """The token in a new disguise, as compressed pages could disclose one that never varies."""
        mask = secrets.token_bytes(_TOKEN_BYTES)
        return (mask + _xor(mask, bytes.fromhex(self.token))).hex()

    def require_form_token(self, shown: str) -> None:
        """Raise Forbidden unless a form of this session was sent."""
        try:
            given = bytes.fromhex(shown)
        except ValueError:
            given = b""
        mask, masked = given[:_TOKEN_BYTES], given[_TOKEN_BYTES:]
        if len(masked) != _TOKEN_BYTES or not hmac.compare_digest(
            _xor(mask, masked), bytes.fromhex(self.token)
        ):
            raise Forbidden("This form is out of date. Reload the page, and send it again.")


def new_session() -> Session:
    """A session of nobody in particular."""
    return Session(token=secrets.token_hex(_TOKEN_BYTES))


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a page."""

    session: Session
    #: ``None`` before sign-in.
    principal: Principal | None
    #: Whether the browser has no cookie of the session yet.
    is_new: bool

    @property
    def is_signed_in(self) -> bool:
        """Whether there is something to sign out of."""
        return bool(self.session.kind) and self.principal is not None


class Sessions:
    """Makes sessions, and finds out whose they are."""

    def __init__(
        self,
        authentication: Authentication,
        encryptor: Encryptor,
        open_sessions: OpenSessions,
        *,
        clock: Callable[[], int],
        hours: float,
        is_https: bool,
    ) -> None:
        """Sessions last ``hours``. ``is_https``: whether people reach the service by https."""
        self._authentication = authentication
        self._encryptor = encryptor
        self._open = open_sessions
        self._clock = clock
        self._lifetime = int(hours * 3600) * SECOND
        self._is_https = is_https

    async def visitor(self, request: Request) -> Visitor:
        """Who sends the request; raises TooMany."""
        session = await self._session(request)
        principal = await self._principal(session) if session is not None else None
        if principal is None:
            principal = await self._authentication.authenticate_as(
                ANONYMOUS.kind, credentials_of(request)
            )
        if principal is not None:
            self._authentication.count(principal)
        return Visitor(
            session=session or new_session(), principal=principal, is_new=session is None
        )

    async def sign_in(self, request: Request, secret: str) -> Session:
        """A session for the owner of an API key; raises Unauthenticated or TooMany."""
        credentials = msgspec.structs.replace(
            credentials_of(request), headers={"authorization": f"Bearer {secret}"}
        )
        return self.start(await self._authentication.authenticate(credentials))

    async def redeem(self, client: str | None, find: Callable[[], Awaitable[Principal]]) -> Session:
        """A session for whom ``find`` finds; raises Unauthenticated, TooMany or Unavailable.

        ``client`` is the address that answers for failures.
        """
        self._authentication.require_few_failures(client)
        try:
            return self.start(await find())
        except Unauthenticated:
            self._authentication.record_failure(client)
            raise

    def start(self, principal: Principal) -> Session:
        """A session for a principal who has just shown a credential."""
        now = self._clock()
        expires = now + self._lifetime
        if principal.expires is not None:
            expires = min(expires, principal.expires)
        return Session(
            token=new_session().token,
            kind=principal.kind,
            id=principal.id,
            principal=principal if principal.expires is not None else None,
            expires=expires,
        )

    async def end(self, session: Session) -> None:
        """Accept the session no longer, so that a copy of the cookie is of no use."""
        await self._open.end(session.token, until=session.expires)

    def ending(
        self, follow: AbstractContextManager[Reader], session: Session
    ) -> AbstractContextManager[Reader]:
        """Follow until the session ends; one of nobody in particular has no end."""
        return self._open.ending(follow, session.token) if session.kind else follow

    def write(self, request: Request, response: Response, session: Session) -> None:
        """Give the browser the session; raises InvalidInput for one that no cookie can hold."""
        sealed = self.seal(session)
        if len(sealed) > _MAX_COOKIE:
            raise InvalidInput(
                "Your token has too many groups and grants for a session. Use an API key."
            )
        self.set_cookie(request, response, COOKIE, sealed)

    def set_cookie(
        self,
        request: Request,
        response: Response,
        name: str,
        value: str,
        seconds: int | None = None,
    ) -> None:
        """Set a cookie that pages of this service get, and scripts do not."""
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=f"{base_of(request)}/ui",
            secure=self._is_https or not is_local(request),
            httponly=True,
            samesite="lax",
        )

    def seal(self, value: msgspec.Struct) -> str:
        """Text of which nobody else can read or change the meaning."""
        kind = type(value).__name__
        return self._encryptor.encrypt(f"{kind} {msgspec.json.encode(value).decode()}").decode()

    def open(self, text: str, kind: type[_S]) -> _S | None:
        """What was sealed; ``None`` for anything else."""
        try:
            name, _, sealed = self._encryptor.decrypt(text.encode()).partition(" ")
            return msgspec.json.decode(sealed, type=kind) if name == kind.__name__ else None
        except (OperatorError, msgspec.DecodeError):
            return None

    async def _session(self, request: Request) -> Session | None:
        """The session that the browser brings; ``None`` without a valid one."""
        session = self.open(request.cookies.get(COOKIE, ""), Session)
        if session is None or not session.kind:
            return session
        is_over = session.expires <= self._clock() or not await self._open.is_open(session.token)
        return None if is_over else session

    async def _principal(self, session: Session) -> Principal | None:
        """Whose session it is, if the credential is still valid."""
        if not session.kind:
            return None
        if session.principal is None:
            return await self._authentication.find(session.kind, session.id)
        is_valid = await self._authentication.is_valid(session.principal)
        return session.principal if is_valid else None


def base_of(request: Request) -> str:
    """The base path by which the request came."""
    return str(request.scope.get("base_path", ""))


def is_local(request: Request) -> bool:
    """Whether the browser reaches the service by a loopback address."""
    try:
        return is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


def credentials_of(request: Request) -> RequestCredentials:
    """The request without any credential: its address, host and origin."""
    named = {name: request.headers[name] for name in ("host", "origin") if name in request.headers}
    return RequestCredentials(
        method=request.method,
        path=request.url.path,
        query="",
        headers=named,
        client=request.client.host if request.client else None,
    )


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
