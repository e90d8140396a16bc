"""Signing in, by API key or with the identity provider, and signing out."""

import hmac
from functools import partial
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import Handler
from deploylog.auth.code_flow import SIGN_IN_SECONDS, CodeFlow, SignIn, start_sign_in
from deploylog.errors import Forbidden, TooMany, Unauthenticated
from deploylog.ui.sessions import COOKIE, Session, Visitor, base_of
from deploylog.ui.site import ROOT, Site

#: Holds a sign-in with the identity provider until the browser is back.
SIGN_IN_COOKIE = "deploylog_sign_in"

#: Characters of a page's address.
_MAX_NEXT = 4_096


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in with the identity provider, and where the person wanted to go."""

    sign_in: SignIn
    next: str


class SignInPages:
    """The forms and redirects of sign-in."""

    def __init__(self, site: Site, flow: CodeFlow | None, *, public_url: str) -> None:
        """``flow`` is for the identity provider, if there is one. ``public_url`` is where people
        reach the service; empty: wherever they say.
        """
        self._site = site
        self._sessions = site.sessions
        self._flow = flow
        self._public_url = public_url.rstrip("/")

    def handlers(self) -> dict[str, dict[str, Handler]]:
        """The endpoints by path and method."""
        found: dict[str, dict[str, Handler]] = {
            f"{ROOT}/sign-in": {"GET": self.show, "POST": self.sign_in},
            f"{ROOT}/sign-out": {"POST": self._site.for_people(self.sign_out)},
        }
        if self._flow is not None:
            found[f"{ROOT}/sign-in/provider"] = {"GET": self.leave}
            found[f"{ROOT}/sign-in/callback"] = {"GET": self.come_back}
        return found

    async def show(self, request: Request) -> Response:
        """The form."""
        visitor = await self._site.visitor(request)
        next = request.query_params.get("next", "")[:_MAX_NEXT]
        if visitor.principal is not None:
            return self._site.to(request, _below_root(next))
        return self._form(request, visitor, next)

    async def sign_in(self, request: Request) -> Response:
        """Sign in by API key."""
        visitor = await self._site.visitor(request)
        form = await self._site.form(request, visitor)
        next = form.get("next", "")[:_MAX_NEXT]
        try:
            session = await self._sessions.sign_in(request, form.get("key", "").strip())
        except Unauthenticated:
            message = "This key is not valid. Check that it is complete, and not revoked."
            return self._form(request, visitor, next, message=message, status=401)
        except TooMany as error:
            message = f"Too many failed attempts. Try again in {int(error.retry_after) + 1} s."
            return self._form(request, visitor, next, message=message, status=429)
        return self._signed_in(request, session, next)

    async def sign_out(self, request: Request, visitor: Visitor) -> Response:
        """Sign out."""
        await self._site.form(request, visitor)
        await self._sessions.end(visitor.session)
        response = self._site.to(request, "sign-in")
        response.delete_cookie(COOKIE, path=f"{base_of(request)}{ROOT}")
        return response

    async def leave(self, request: Request) -> Response:
        """Send the person to the identity provider."""
        assert self._flow is not None
        sign_in = start_sign_in(f"{self._origin(request)}{base_of(request)}{ROOT}/sign-in/callback")
        url = await self._flow.authorization_url(sign_in)
        pending = Pending(sign_in=sign_in, next=request.query_params.get("next", "")[:1024])
        response = self._site.to(request, "")
        response.headers["location"] = url
        self._sessions.set_cookie(
            request, response, SIGN_IN_COOKIE, self._sessions.seal(pending), SIGN_IN_SECONDS
        )
        return response

    async def come_back(self, request: Request) -> Response:
        """Sign in the person that the identity provider sends back."""
        assert self._flow is not None
        visitor = await self._site.visitor(request)
        pending = self._sessions.open(request.cookies.get(SIGN_IN_COOKIE, ""), Pending)
        state = request.query_params.get("state", "")
        if pending is None or not _equal(state, pending.sign_in.state):
            raise Forbidden("This sign-in was not started here, or took too long. Sign in again.")
        code = request.query_params.get("code", "")
        try:
            session = await self._redeem(request, self._flow, pending.sign_in, code)
        except Unauthenticated:
            message = "The identity provider did not sign you in."
            return self._form(request, visitor, pending.next, message=message, status=401)
        response = self._signed_in(request, session, pending.next)
        response.delete_cookie(SIGN_IN_COOKIE, path=f"{base_of(request)}{ROOT}")
        return response

    async def _redeem(
        self, request: Request, flow: CodeFlow, sign_in: SignIn, code: str
    ) -> Session:
        client = request.client.host if request.client else None
        return await self._sessions.redeem(client, partial(flow.redeem, sign_in, code))

    def _form(
        self,
        request: Request,
        visitor: Visitor,
        next: str,
        *,
        message: str | None = None,
        status: int = 200,
    ) -> Response:
        provider = f"sign-in/provider?next={quote(next, safe='')}"
        return self._site.render(
            request,
            visitor,
            "sign-in.html",
            status=status,
            next=next,
            message=message,
            provider=provider if self._flow is not None else None,
        )

    def _signed_in(self, request: Request, session: Session, next: str) -> Response:
        response = self._site.to(request, _below_root(next))
        self._sessions.write(request, response, session)
        return response

    def _origin(self, request: Request) -> str:
        return self._public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"


def _below_root(next: str) -> str:
    """A page's address that is safe to send a browser to: it is put after ``ROOT``."""
    return next if next.isascii() and next.isprintable() else ""


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
