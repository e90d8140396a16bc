"""The Slack bot: one message a deployment, edited as it proceeds, with failures in its thread."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import msgspec

from deploylog.deployments.catalog import Deployment, deployment_ref
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event
from deploylog.events.scope import Scope, deployment_scope
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response
from deploylog.subscriptions.delivery.sender import (
    JSON_HEADERS,
    Context,
    TypeNames,
    with_type_names,
)
from deploylog.subscriptions.delivery.slack.messages import (
    Payload,
    deployment_payload,
    events_payload,
)
from deploylog.subscriptions.delivery.slack.responses import SlackOutcome, classify_api_response
from deploylog.subscriptions.delivery.slack.webhook import MOST_IN_A_DIGEST
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import MAX_RESPONSE_BYTES, Endpoint, Message, Subscription

#: Slack says back all of a message; what is needed of it may stand at the end.
_MOST_OF_AN_ANSWER = 256 * 1024

#: Deployments, and events, that are kept in mind.
_REMEMBERED = 10_000

#: The deployment of a scope, as far as the subscription's owner may see it.
Deployments = Callable[[Subscription, Scope], Awaitable[Deployment | None]]

#: The message that stands for a deployment in a subscription: ``Deliveries.message``.
Messages = Callable[[str, Scope], Awaitable[Message | None]]


class SlackBotSender:
    """One message a deployment, edited as it proceeds; its failures are replies to it. Events
    outside a deployment that may be seen are posted as an incoming webhook would.
    """

    def __init__(
        self,
        poster: WebhookTransport,
        api_url: str,
        deployments: Deployments,
        messages: Messages,
        names: TypeNames | None = None,
    ) -> None:
        """``api_url`` is that of Slack's methods, ``https://slack.com/api``."""
        self._poster = poster
        self._api_url = api_url.rstrip("/")
        self._deployments = deployments
        self._stored = messages
        self._names = names or {}
        #: Those that were posted a moment ago: the store may not know of them yet.
        self._posted: BoundedMap[tuple[str, Scope], Message] = BoundedMap(_REMEMBERED)
        #: Events of requests that went wrong later on, which are not to be posted again.
        self._told: BoundedMap[tuple[str, str], None] = BoundedMap(_REMEMBERED)

    def fold(self, waiting: int) -> int:
        """See ``Sender``: the deployment is shown as it is, however much happened."""
        return max(min(waiting, MOST_IN_A_DIGEST), 1)

    async def send(
        self,
        subscription: Subscription,
        target: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        request = _Request(self._poster, self._api_url, target)
        try:
            for scope, together in by_deployment(events):
                await self._tell(request, subscription, scope, together, context.now)
        except _Ended as end:
            return request.verdict(end.said)
        for event in events:
            self._told.drop((subscription.id, event.id))
        return request.verdict(SlackOutcome(result="delivered"))

    async def _tell(
        self,
        request: "_Request",
        subscription: Subscription,
        scope: Scope | None,
        events: Sequence[Event],
        now: int,
    ) -> None:
        deployment = await self._deployments(subscription, scope) if scope is not None else None
        if scope is None or deployment is None:
            if untold := self._untold(subscription, events):
                await request.post(self._payload(subscription, untold))
                self._remember(subscription, untold)
            return
        message = await self._show(request, subscription, scope, deployment, now)
        if failures := self._untold(subscription, filter(is_failure, events)):
            await request.reply(message, self._payload(subscription, failures))
            self._remember(subscription, failures)

    def _payload(self, subscription: Subscription, events: Sequence[Event]) -> Payload:
        return events_payload(with_type_names(events, subscription, self._names))

    async def _show(
        self,
        request: "_Request",
        subscription: Subscription,
        scope: Scope,
        deployment: Deployment,
        now: int,
    ) -> Message:
        """Edit the message of the deployment, or post it; it is the one that replies go to."""
        payload = deployment_payload(deployment, now=now)
        message = await self._message(subscription, scope)
        if message is not None and await request.edit(message, payload):
            return message
        said = await request.post(payload)
        message = Message(deployment=scope, channel=said.channel, ts=said.ts)
        request.messages.append(message)
        self._posted.put((subscription.id, scope), message)
        return message

    async def _message(self, subscription: Subscription, scope: Scope) -> Message | None:
        """The newest that is known; another process may have posted one since."""
        known = (
            await self._stored(subscription.id, scope),
            self._posted.get((subscription.id, scope)),
        )
        return max(filter(None, known), key=lambda message: _moment(message.ts), default=None)

    def _untold(self, subscription: Subscription, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if (subscription.id, event.id) not in self._told]

    def _remember(self, subscription: Subscription, events: Sequence[Event]) -> None:
        for event in events:
            self._told.put((subscription.id, event.id), None)


class _Ended(Exception):
    """Something did not go well, and the rest is not tried."""

    def __init__(self, said: SlackOutcome) -> None:
        super().__init__(said.error)
        self.said = said


class _Request:
    """Calls of Slack's methods for the same events."""

    def __init__(self, poster: WebhookTransport, api_url: str, target: Endpoint) -> None:
        self._poster = poster
        self._api_url = api_url
        self._target = target
        self._answer = Response()
        #: Those that were posted for deployments.
        self.messages: list[Message] = []

    async def post(self, payload: Payload) -> SlackOutcome:
        """Post it; raises _Ended."""
        return _delivered(await self._post(payload))

    async def reply(self, message: Message, payload: Payload) -> None:
        """Post it in the thread of the message, or beside it when there is none any more."""
        thread = {"channel": message.channel, "thread_ts": message.ts}
        said = await self._post({**payload, **thread})
        if said.result == "anew":
            said = await self._post(payload)
        _delivered(said)

    async def edit(self, message: Message, payload: Payload) -> bool:
        """Whether the message could be edited; raises _Ended when that is not the question."""
        shown = {"text": payload["text"], "blocks": payload["blocks"]}
        said = await self._call(
            "chat.update", {"channel": message.channel, "ts": message.ts, **shown}
        )
        if said.result == "disable":
            # The message may be of a target that was another: what is posted will tell.
            return False
        return said.result != "anew" and bool(_delivered(said))

    def verdict(self, said: SlackOutcome) -> Outcome:
        """What became of the events, with the answer that decided it."""
        return Outcome(
            result="retry" if said.result == "anew" else said.result,
            answer=self._answer,
            error=said.error,
            messages=tuple(self.messages),
        )

    async def _post(self, payload: Payload) -> SlackOutcome:
        return await self._call("chat.postMessage", {"channel": self._target.channel, **payload})

    async def _call(self, method: str, payload: Payload) -> SlackOutcome:
        outgoing = Request(
            url=f"{self._api_url}/{method}",
            headers={**JSON_HEADERS, "authorization": f"Bearer {self._target.token}"},
            body=msgspec.json.encode(payload),
        )
        answer = await self._poster.post(outgoing, most=_MOST_OF_AN_ANSWER)
        body = answer.body[:MAX_RESPONSE_BYTES]
        self._answer = msgspec.structs.replace(answer, body=body)
        return classify_api_response(answer)


def by_deployment(events: Sequence[Event]) -> Iterator[tuple[Scope | None, list[Event]]]:
    """The events of each deployment, and those of none, in the order of the first of each."""
    found: dict[Scope | None, list[Event]] = {}
    for event in events:
        found.setdefault(_deployment_of(event), []).append(event)
    yield from found.items()


def is_failure(event: Event) -> bool:
    """Whether something failed within a deployment."""
    return event.action is not None and event.phase == "failed"


def _deployment_of(event: Event) -> Scope | None:
    place = deployment_ref(event.scopes)
    if place is None or place.deployment_id is None:
        return None
    return deployment_scope(place.project, place.stack_id, place.deployment_id)


def _delivered(said: SlackOutcome) -> SlackOutcome:
    if said.result != "delivered":
        raise _Ended(said)
    return said


def _moment(ts: str) -> tuple[int, str]:
    """Orders Slack's names of messages, which are times of seconds and their fraction."""
    return len(ts.partition(".")[0]), ts
