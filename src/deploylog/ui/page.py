"""A page as one value: where it is, what it loads, and the template that shows it."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.types import ASGIApp

from deploylog.auth.key_service import KeyService
from deploylog.deployments.measuring import DoraService
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.errors import DeploylogError
from deploylog.events.access import Principal
from deploylog.events.outlet import Sent
from deploylog.events.service import EventService
from deploylog.subscriptions.service import SubscriptionService
from deploylog.ui.measurements import Measurements
from deploylog.ui.timelines import Timelines


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What pages ask, always as the person who looks at them."""

    events: EventService
    deployments: DeploymentService
    dora: DoraService
    staging: Staging
    subscriptions: SubscriptionService
    keys: KeyService
    timelines: Timelines
    measurements: Measurements
    #: ns since 1970.
    clock: Callable[[], int]
    #: Counts the events that streams sent.
    sent: Sent


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page, by a person who is signed in."""

    services: Services
    principal: Principal
    #: What follows the question mark.
    query: str
    #: The parameters of the path, by name.
    path: Mapping[str, str]
    #: The part of the page that a script asks for; empty for all of it.
    part: str = ""
    #: What the form says; empty unless it was sent.
    form: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def now(self) -> int:
        return self.services.clock()


class Moved(msgspec.Struct, frozen=True):
    """Instead of a model: show another page, below ``/ui/``."""

    path: str


#: Gives the model that the template knows as ``page``.
Load = Callable[[View], Awaitable[object]]


class Again(msgspec.Struct, frozen=True):
    """Instead of another page: the form's own, with what came of it."""

    model: object
    #: Why nothing was done.
    error: DeploylogError | None = None


#: Does what a form asks for, and returns the path below ``/ui/`` to show next. What may be shown
#: once only, it shows again; the form's path is that of its page then.
Act = Callable[[View], Awaitable[str | Again]]

#: Answers with something else than a page, such as a file to save.
Answer = Callable[[View], Awaitable[ASGIApp]]


def _anybody(principal: Principal) -> bool:
    return True


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page. One module of ``ui/pages`` exports it, and ``PAGES`` lists it."""

    #: Below ``/ui/``, such as ``deployments/{id}``.
    path: str
    #: Of ``ui/templates``; extends ``layout.html``.
    template: str
    load: Load
    #: Its name in the navigation, if it is there.
    navigation: str | None = None
    #: Whom the navigation offers it to.
    is_for: Callable[[Principal], bool] = _anybody
    #: Of ``ui/static``; every page has ``site.js`` besides.
    script: str | None = None
    #: Forms that it sends, by path.
    actions: Mapping[str, Act] = msgspec.field(default_factory=dict)
    #: What else it offers to get, by path.
    downloads: Mapping[str, Answer] = msgspec.field(default_factory=dict)
