"""The sender for a Slack bot: one message per deployment, with the failures in its thread."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event
from deploylog.events.scope import Scope
from deploylog.subscriptions.delivery.kinds.kind import SenderParts, deployment_of
from deploylog.subscriptions.delivery.kinds.posted import PostedMessages
from deploylog.subscriptions.delivery.kinds.slack.messages import (
    Payload,
    deployment_payload,
    events_payload,
)
from deploylog.subscriptions.delivery.kinds.slack.responses import (
    SlackOutcome,
    classify_api_response,
)
from deploylog.subscriptions.delivery.kinds.slack.webhook import MAX_DIGEST_EVENTS
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response, Transport
from deploylog.subscriptions.delivery.sender import JSON_HEADERS, OutgoingBatch, with_type_names
from deploylog.subscriptions.subscription import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    Endpoint,
    Message,
    Subscription,
)

#: Slack's response repeats the whole message, and what matters may come last.
_MAX_API_RESPONSE_BYTES = 256 * 1024

#: Posted events that are remembered.
_MAX_REMEMBERED = 10_000


def bot_batch_size(waiting: int) -> int:
    """All that waits: one message shows the deployment after any number of events."""
    return max(min(waiting, MAX_DIGEST_EVENTS), 1)


class SlackBotSender:
    """Keeps one message per deployment up to date, and posts its failures as replies.

    An event outside of a visible deployment is posted as an incoming webhook would post it.
    """

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts
        self._messages = PostedMessages(parts.find_message)
        #: Events posted in requests that failed afterwards, which must not be posted again.
        self._posted = BoundedMap[tuple[str, str], None](_MAX_REMEMBERED)

    async def send(self, batch: OutgoingBatch) -> Outcome:
        calls = _Calls(self._parts.transport, self._parts.slack_api_url, batch.endpoint)
        try:
            for scope, group in by_deployment(batch.events):
                await self._post_group(calls, batch.subscription, scope, group, batch.now)
        except _CallFailed as error:
            return calls.outcome(error.outcome)
        for event in batch.events:
            self._posted.drop((batch.subscription.id, event.id))
        return calls.outcome(SlackOutcome(result="delivered"))

    async def _post_group(
        self,
        calls: "_Calls",
        subscription: Subscription,
        scope: Scope | None,
        events: Sequence[Event],
        now: int,
    ) -> None:
        """Post the events of one deployment, or those outside of any."""
        deployment = None
        if scope is not None:
            deployment = await self._parts.find_deployment(subscription, scope)
        if scope is None or deployment is None:
            if unposted := self._unposted(subscription, events):
                await calls.post(self._payload(subscription, unposted))
                self._remember(subscription, unposted)
            return
        message = await self._update_message(calls, subscription, scope, deployment, now)
        if failures := self._unposted(subscription, filter(is_failure, events)):
            await calls.reply(message, self._payload(subscription, failures))
            self._remember(subscription, failures)

    def _payload(self, subscription: Subscription, events: Sequence[Event]) -> Payload:
        return events_payload(with_type_names(events, subscription, self._parts.type_names))

    async def _update_message(
        self,
        calls: "_Calls",
        subscription: Subscription,
        scope: Scope,
        deployment: Deployment,
        now: int,
    ) -> Message:
        """Edit the message of the deployment, or post a new one, and return it."""
        url = self._parts.deployment_url(deployment)
        payload = deployment_payload(deployment, now=now, url=url)
        message = await self._messages.latest(subscription.id, scope)
        if message is not None and await calls.edit(message, payload):
            return message
        posted = await calls.post(payload)
        message = Message(deployment=scope, channel=posted.channel, id=posted.ts)
        calls.messages.append(message)
        self._messages.remember(subscription.id, message)
        return message

    def _unposted(self, subscription: Subscription, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if (subscription.id, event.id) not in self._posted]

    def _remember(self, subscription: Subscription, events: Sequence[Event]) -> None:
        for event in events:
            self._posted.put((subscription.id, event.id), None)


class _CallFailed(Exception):
    """A call failed, and the remaining calls are not made."""

    def __init__(self, outcome: SlackOutcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


class _Calls:
    """The calls of Slack's methods for one batch of events."""

    def __init__(self, transport: Transport, api_url: str, endpoint: Endpoint) -> None:
        """``api_url`` is the URL of Slack's methods, ``https://slack.com/api``."""
        self._transport = transport
        self._api_url = api_url.rstrip("/")
        self._endpoint = endpoint
        self._request = b""
        self._response = Response()
        #: The messages posted for deployments.
        self.messages: list[Message] = []

    async def post(self, payload: Payload) -> SlackOutcome:
        """Post a message; raises _CallFailed."""
        return _checked(await self._post(payload))

    async def reply(self, message: Message, payload: Payload) -> None:
        """Post in the thread of the message, or in the channel if the thread is gone.

        Raises _CallFailed.
        """
        thread = {"channel": message.channel, "thread_ts": message.id}
        outcome = await self._post({**payload, **thread})
        if outcome.result == "repost":
            outcome = await self._post(payload)
        _checked(outcome)

    async def edit(self, message: Message, payload: Payload) -> bool:
        """Edit a message, and return whether it still could be; raises _CallFailed."""
        content = {"text": payload["text"], "blocks": payload["blocks"]}
        outcome = await self._call(
            "chat.update", {"channel": message.channel, "ts": message.id, **content}
        )
        if outcome.result == "disable":
            # The message may be in a former channel. Posting a new one shows what is wrong.
            return False
        return outcome.result != "repost" and bool(_checked(outcome))

    def outcome(self, last: SlackOutcome) -> Outcome:
        """The outcome of the batch, with the response to its last call."""
        return Outcome(
            result="retry" if last.result == "repost" else last.result,
            response=self._response,
            request=self._request,
            is_paced=True,
            error=last.error,
            messages=tuple(self.messages),
        )

    async def _post(self, payload: Payload) -> SlackOutcome:
        return await self._call("chat.postMessage", {"channel": self._endpoint.channel, **payload})

    async def _call(self, method: str, payload: Payload) -> SlackOutcome:
        request = Request(
            url=f"{self._api_url}/{method}",
            headers={**JSON_HEADERS, "authorization": f"Bearer {self._endpoint.token}"},
            body=msgspec.json.encode(payload),
        )
        response = await self._transport.send(request, max_bytes=_MAX_API_RESPONSE_BYTES)
        body = response.body[:MAX_RESPONSE_BYTES]
        self._request = request.body[:MAX_REQUEST_BYTES]
        self._response = msgspec.structs.replace(response, body=body)
        return classify_api_response(response)


def by_deployment(events: Sequence[Event]) -> Iterator[tuple[Scope | None, list[Event]]]:
    """Group events by deployment, ``None`` for those outside of any, in the order of the first."""
    groups: dict[Scope | None, list[Event]] = {}
    for event in events:
        groups.setdefault(deployment_of(event), []).append(event)
    yield from groups.items()


def is_failure(event: Event) -> bool:
    """Whether an action within a deployment failed."""
    return event.action is not None and event.phase == "failed"


def _checked(outcome: SlackOutcome) -> SlackOutcome:
    if outcome.result != "delivered":
        raise _CallFailed(outcome)
    return outcome
