"""What senders have posted for deployments: the store, and what it does not have yet."""

from deploylog.events.bounded_map import BoundedMap
from deploylog.events.scope import Scope
from deploylog.subscriptions.delivery.kinds.kind import FindMessage
from deploylog.subscriptions.subscription import Message

#: Messages that are remembered.
_MAX_REMEMBERED = 10_000


class PostedMessages:
    """The messages of deployments, by subscription."""

    def __init__(self, find_message: FindMessage) -> None:
        self._find_message = find_message
        #: Messages posted lately: the store may not have them yet.
        self._recent = BoundedMap[tuple[str, Scope], Message](_MAX_REMEMBERED)

    async def latest(self, subscription: str, scope: Scope) -> Message | None:
        """The latest message known here or in the store: another process may have posted one."""
        known = (
            await self._find_message(subscription, scope),
            self._recent.get((subscription, scope)),
        )
        return max(filter(None, known), key=lambda message: _order(message.id), default=None)

    def remember(self, subscription: str, message: Message) -> None:
        """Note a message that was just posted."""
        self._recent.put((subscription, message.deployment), message)


def _order(id: str) -> tuple[int, str]:
    """Orders ids: whole numbers, or Slack's seconds and a fraction."""
    return len(id.partition(".")[0]), id
