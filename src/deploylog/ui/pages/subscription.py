"""*Subscription*: each attempt with its request and answer, dead letters, and what to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import deployment_ref
from deploylog.errors import (
    Conflict,
    DeploylogError,
    EventNotFound,
    Forbidden,
    InvalidCursor,
    InvalidInput,
)
from deploylog.events.event import Event
from deploylog.events.times import LATEST
from deploylog.subscriptions.history import DeadLetter
from deploylog.subscriptions.ownership import owns
from deploylog.subscriptions.service import Standing
from deploylog.subscriptions.store import RecordedAttempt
from deploylog.subscriptions.subscription import Attempt, Subscription
from deploylog.subscriptions.targets import kind_of
from deploylog.ui.page import Again, Page, View
from deploylog.ui.pages.subscriptions import is_settled
from deploylog.ui.search_text import pairs_of, render_search

#: Attempts and dead letters of one page.
_LIMIT = 50


class ShownAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, and what the person may know of its event."""

    attempt: RecordedAttempt
    type: str | None = None
    #: The deployment that the event belongs to.
    deployment: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    standing: Standing
    #: What its kind sends.
    title: str
    #: The filter as the search box has it, and as a query.
    filter: str
    query: str
    attempts: tuple[ShownAttempt, ...]
    #: Where the next page of attempts starts.
    older: int | None
    dead_letters: list[DeadLetter]
    #: Where the next page of dead letters starts.
    more: int | None
    is_settled: bool
    #: Whether requests and answers are shown.
    is_owner: bool
    #: What came of a test.
    test: Attempt | None = None
    #: Why nothing was done.
    problem: str | None = None

    @property
    def subscription(self) -> Subscription:
        return self.standing.subscription


async def load(view: View) -> Shown:
    """The subscription that the path names."""
    parameters = Parameters(view.query)
    before = parameters.integer("before", default=LATEST, low=0, high=LATEST)
    after = parameters.integer("after", default=0, low=0, high=LATEST)
    parameters.done()
    service, principal = view.services.subscriptions, view.principal
    found = await service.get(principal, view.path["id"])
    standing, attempts, dead_letters = await asyncio.gather(
        service.standing(found),
        service.attempts(principal, found.id, before=before, limit=_LIMIT),
        service.dead_letters(principal, found.id, after=after, limit=_LIMIT),
    )
    pairs = pairs_of(found.filter, found.places)
    return Shown(
        standing=standing,
        title=kind_of(found.kind).title,
        filter=render_search(pairs),
        query=urlencode(pairs),
        attempts=await _shown_attempts(view, attempts),
        older=attempts[-1].number if len(attempts) == _LIMIT else None,
        dead_letters=dead_letters,
        more=dead_letters[-1].pending.position if len(dead_letters) == _LIMIT else None,
        is_settled=is_settled(standing),
        is_owner=owns(principal, found),
    )


async def _shown_attempts(
    view: View, attempts: Sequence[RecordedAttempt]
) -> tuple[ShownAttempt, ...]:
    known = {id: await _find(view, id) for id in {each.event for each in attempts}}
    return tuple(_with_event(attempt, known[attempt.event]) for attempt in attempts)


async def _find(view: View, id: str) -> Event | None:
    """The event, unless it is no longer retained, or for others."""
    with suppress(EventNotFound, InvalidCursor):
        return await view.services.events.event(view.principal, id)
    return None


def _with_event(attempt: RecordedAttempt, event: Event | None) -> ShownAttempt:
    if event is None:
        return ShownAttempt(attempt=attempt)
    ref = deployment_ref(event.scopes)
    deployment = ref.deployment_id if ref is not None else None
    return ShownAttempt(attempt=attempt, type=event.type, deployment=deployment)


async def act(view: View) -> str | Again:
    """Do what the form says."""
    do = view.form.get("do", "")
    if do not in _ACTIONS:
        raise InvalidInput(f"do must be one of {', '.join(_ACTIONS)}", field="do")
    try:
        return await _ACTIONS[do](view)
    except (InvalidInput, Conflict, Forbidden, EventNotFound) as error:
        return await _refused(view, error)


async def _refused(view: View, error: DeploylogError) -> Again:
    shown = await load(view)
    return Again(msgspec.structs.replace(shown, problem=error.message), error)


async def _test(view: View) -> Again:
    attempt = await view.services.subscriptions.test(view.principal, view.path["id"])
    return Again(msgspec.structs.replace(await load(view), test=attempt))


async def _pause(view: View) -> str:
    found = await view.services.subscriptions.pause(view.principal, view.path["id"])
    return f"subscriptions/{found.id}"


async def _resume(view: View) -> str:
    found = await view.services.subscriptions.resume(view.principal, view.path["id"])
    return f"subscriptions/{found.id}"


async def _redeliver(view: View) -> str:
    id = view.path["id"]
    await view.services.subscriptions.redeliver(view.principal, id, view.form.get("event", ""))
    return f"subscriptions/{id}"


async def _redeliver_all(view: View) -> str:
    id = view.path["id"]
    await view.services.subscriptions.redeliver_dead_lettered(view.principal, id, 0)
    return f"subscriptions/{id}"


async def _delete(view: View) -> str:
    await view.services.subscriptions.delete(view.principal, view.path["id"])
    return "subscriptions"


_ACTIONS: dict[str, Callable[[View], Awaitable[str | Again]]] = {
    "test": _test,
    "pause": _pause,
    "resume": _resume,
    "redeliver": _redeliver,
    "redeliver-all": _redeliver_all,
    "delete": _delete,
}

PAGE = Page(
    path="subscriptions/{id}",
    template="subscription.html",
    load=load,
    actions={"subscriptions/{id}": act},
)
