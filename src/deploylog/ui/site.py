"""The site: routes of every page, static files, the stream, and errors as pages."""

import gzip
import hashlib
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl, quote

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploylog import __version__
from deploylog.api.context import Handler
from deploylog.api.http.body import BodyLimits, read_body
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.http.caller import caller_of
from deploylog.api.http.endpoint import Endpoint
from deploylog.api.http.exchange import query_of
from deploylog.api.native.errors import render_problem
from deploylog.api.operation import always
from deploylog.auth.authentication import Authentication
from deploylog.errors import (
    DeploylogError,
    InvalidInput,
    NotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from deploylog.ui.assets import program_assets
from deploylog.ui.headers import ASSET_HEADERS, PAGE_HEADERS
from deploylog.ui.page import Act, Answer, Moved, Page, Services, View
from deploylog.ui.pages import PAGES
from deploylog.ui.rendering import make_environment
from deploylog.ui.sessions import Sessions, Visitor, base_of
from deploylog.ui.stream import open_stream

#: The path of everything here.
ROOT = "/ui"

#: Bytes of a form.
_FORM_LIMITS = BodyLimits(sent=64 * 1024, decompressed=64 * 1024)

#: Bytes of a page that are worth compressing.
_MIN_COMPRESSED = 1024

Show = Callable[[Request, Visitor], Awaitable[ASGIApp]]


class Site:
    """Serves the pages."""

    def __init__(self, services: Services, sessions: Sessions) -> None:
        self._services = services
        self.sessions = sessions
        self._assets = program_assets()
        self._environment: Environment = make_environment()

    def handlers(self) -> dict[str, dict[str, Handler]]:
        """The endpoints by path and method."""
        found: dict[str, dict[str, Handler]] = defaultdict(dict)
        for page in PAGES:
            found[f"{ROOT}/{page.path}"]["GET"] = self.for_people(partial(self._page, page))
            for path, act in page.actions.items():
                found[f"{ROOT}/{path}"]["POST"] = self.for_people(partial(self._act, page, act))
            for path, answer in page.downloads.items():
                found[f"{ROOT}/{path}"]["GET"] = self.for_people(partial(self._answer, answer))
        found[f"{ROOT}/stream"]["GET"] = self.for_people(self._stream)
        found[f"{ROOT}/static/{{name:path}}"]["GET"] = self._static
        return dict(found)

    def render(
        self,
        request: Request,
        visitor: Visitor | None,
        template: str,
        *,
        status: int = 200,
        script: str | None = None,
        **values: object,
    ) -> Response:
        """A page; ``visitor`` is ``None`` when it is not known who asks."""
        base = base_of(request) + ROOT
        form_token = visitor.session.form_token if visitor is not None else ""
        html = self._environment.get_template(template).render(
            base=base,
            asset=lambda name: f"{base}/static/{self._assets.asset(name).name}",
            scripts=self._scripts(script),
            preloads=self._preloads(script),
            form_token=form_token,
            principal=visitor.principal if visitor is not None else None,
            is_signed_in=visitor is not None and visitor.is_signed_in,
            navigation=_offered(visitor),
            path=request.url.path.removeprefix(f"{ROOT}/"),
            version=__version__,
            now=self._services.clock(),
            **values,
        )
        response = _answer(request, html, version_of(html, form_token), status)
        if visitor is not None and visitor.is_new:
            self.sessions.write(request, response, visitor.session)
        return response

    async def respond(self, request: Request, error: DeploylogError) -> Response:
        """An error as a page."""
        problem = render_problem(error)
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        response = self.render(
            request, visitor, "error.html", status=problem.status, problem=problem
        )
        if isinstance(error, TooMany | Unavailable):
            response.headers["retry-after"] = str(math.ceil(error.retry_after))
        return response

    def to(self, request: Request, path: str) -> RedirectResponse:
        """Send the browser to a path below ``ROOT``."""
        location = f"{base_of(request)}{ROOT}/{path}"
        return RedirectResponse(location, status_code=303, headers=PAGE_HEADERS)

    async def form(self, request: Request, visitor: Visitor) -> Mapping[str, str]:
        """The form that the browser sends; raises Forbidden for one that we did not make."""
        body = await read_body(request, _FORM_LIMITS)
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000))
        except ValueError as error:
            raise InvalidInput("the form cannot be read") from error
        visitor.session.require_form_token(form.pop("token", ""))
        return form

    async def visitor(self, request: Request) -> Visitor:
        """Who asks."""
        visitor = await self.sessions.visitor(request)
        request.state.visitor = visitor
        return visitor

    def _scripts(self, script: str | None) -> tuple[str, ...]:
        return ("site.js",) if script is None else ("site.js", script)

    def _preloads(self, script: str | None) -> tuple[str, ...]:
        """What the scripts import, so that the browser asks for all at once."""
        names = (n for each in self._scripts(script) for n in self._assets.asset(each).imports)
        return tuple(dict.fromkeys(names))

    def for_people(self, show: Show) -> Handler:
        """For those who are signed in; others are sent to sign in, and brought back."""

        async def handle(request: Request) -> ASGIApp:
            visitor = await self.visitor(request)
            if visitor.principal is not None:
                return await show(request, visitor)
            if _shows_pages(request):
                return self.to(request, f"sign-in?next={quote(_address(request), safe='')}")
            raise Unauthenticated

        return handle

    def _view(
        self, request: Request, visitor: Visitor, form: Mapping[str, str] | None = None
    ) -> View:
        assert visitor.principal is not None
        return View(
            services=self._services,
            principal=(
                visitor.principal if form is None else caller_of(request, visitor.principal)
            ),
            query=query_of(request),
            path=request.path_params,
            part=request.headers.get("deploylog-part", ""),
            form=form or {},
        )

    async def _page(self, page: Page, request: Request, visitor: Visitor) -> Response:
        model = await page.load(self._view(request, visitor))
        if isinstance(model, Moved):
            return self.to(request, model.path)
        return self.render(request, visitor, page.template, script=page.script, page=model)

    async def _act(self, page: Page, act: Act, request: Request, visitor: Visitor) -> Response:
        form = await self.form(request, visitor)
        done = await act(self._view(request, visitor, form))
        if isinstance(done, str):
            return self.to(request, done)
        status = render_problem(done.error).status if done.error is not None else 200
        return self.render(
            request, visitor, page.template, status=status, script=page.script, page=done.model
        )

    async def _answer(self, answer: Answer, request: Request, visitor: Visitor) -> ASGIApp:
        return await answer(self._view(request, visitor))

    async def _stream(self, request: Request, visitor: Visitor) -> ASGIApp:
        after = request.headers.get("last-event-id") or request.query_params.get("after")
        ending = partial(self.sessions.ending, session=visitor.session)
        return await open_stream(self._view(request, visitor), after, ending=ending)

    async def _static(self, request: Request) -> Response:
        asset = self._assets.find(request.path_params["name"])
        if asset is None:
            raise NotFound("There is no such file.")
        if _accepts_gzip(request):
            headers = {**ASSET_HEADERS, "content-encoding": "gzip", "vary": "accept-encoding"}
            return Response(asset.gzipped, media_type=asset.media, headers=headers)
        headers = {**ASSET_HEADERS, "vary": "accept-encoding"}
        return Response(asset.body, media_type=asset.media, headers=headers)


def mount_site(
    site: Site,
    endpoints: Mapping[str, Mapping[str, Handler]],
    *,
    gate: Authentication,
    bodies: BodyBudget,
    failed: Callable[[str], None],
) -> list[Route]:
    """The routes of ``endpoints``, by path and method; another path below ``ROOT`` is an error."""

    async def missing(request: Request, visitor: Visitor) -> Response:
        raise NotFound("There is no such page.")

    unknown = {"GET": site.for_people(missing)}

    def route(path: str, handlers: Mapping[str, Handler]) -> Route:
        endpoint = Endpoint(
            handlers,
            respond=site.respond,
            authentication=gate,
            is_open=dict.fromkeys(handlers, always),
            answers_head=True,
            body_limit=0,
            bodies=bodies,
            failed=failed,
        )
        return Route(path, endpoint)

    return [
        # A path without parameters wins over one with.
        *(route(path, endpoints[path]) for path in sorted(endpoints, key=lambda p: "{" in p)),
        route(f"{ROOT}/{{rest:path}}", unknown),
        route(ROOT, unknown),
    ]


def _offered(visitor: Visitor | None) -> list[Page]:
    """The pages that the navigation offers."""
    if visitor is None or visitor.principal is None:
        return []
    return [
        page for page in PAGES if page.navigation is not None and page.is_for(visitor.principal)
    ]


def _address(request: Request) -> str:
    """The page that was asked for, below ``ROOT``."""
    query = request.url.query
    path = request.url.path.removeprefix(f"{ROOT}/")
    return f"{path}?{query}" if query else path


def _shows_pages(request: Request) -> bool:
    """Whether the response is to be shown, and not read by a script or another client."""
    is_shown = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    return is_shown and "text/html" in request.headers.get("accept", "")


def _accepts_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def version_of(html: str, form_token: str) -> str:
    """What is the same while a page shows the same; each rendering masks its token anew."""
    shown = html.replace(form_token, "") if form_token else html
    return hashlib.blake2b(shown.encode(), digest_size=12).hexdigest()


def _answer(request: Request, html: str, version: str, status: int) -> Response:
    """The page, which knows its version; 304 for a script that shows this version already."""
    etag = f'W/"{version}"'
    if status == 200 and request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={**PAGE_HEADERS, "etag": etag})
    # Values are escaped, so none can look like this.
    versioned = html.replace('data-version=""', f'data-version="{version}"', 1)
    response = _compressed(request, versioned.encode())
    response.status_code = status
    response.headers["etag"] = etag
    return response


def _compressed(request: Request, body: bytes) -> Response:
    headers = {**PAGE_HEADERS, "vary": "accept-encoding"}
    if len(body) >= _MIN_COMPRESSED and _accepts_gzip(request):
        body = gzip.compress(body, compresslevel=3, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, media_type="text/html", headers=headers)
