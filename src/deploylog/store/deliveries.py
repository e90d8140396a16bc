"""Deliveries, in every backend."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Generic

from deploylog.events.scope import Scope
from deploylog.events.times import LATEST
from deploylog.store.database import Database
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT
from deploylog.store.subscription_rows import (
    SELECT,
    attempt_of,
    pending_of,
    subscription_of,
    summary_of,
)
from deploylog.store.subscriptions import SubscriptionTable
from deploylog.subscriptions.store import (
    Backlog,
    Claim,
    DeliverySummary,
    OneEvent,
    RecordedAttempt,
    Selector,
    fair_share,
)
from deploylog.subscriptions.subscription import (
    REDELIVERED,
    Attempt,
    Delivery,
    Message,
    Pending,
)

#: Attempts deleted in one transaction, so that appends do not wait long.
DELETED_AT_ONCE = 5_000

#: How far ahead a lease may end, in ns: a later end is from a clock that has been set back since.
MAX_LEASE_AHEAD = 3600 * 10**9


def _is_over(lease: str) -> str:
    return f"({lease} <= :now OR {lease} > CAST(:now AS bigint) + {MAX_LEASE_AHEAD})"


_REMOVE_EXPIRED = f"DELETE FROM holders WHERE {_is_over('until')}"

_JOIN = """
INSERT INTO holders (holder, until) VALUES (?, ?)
ON CONFLICT (holder) DO UPDATE SET until = excluded.until
"""

_HOLDERS = "SELECT holder FROM holders"

_REMOVE_HOLDER = "DELETE FROM holders WHERE holder = ?"

#: The subscriptions that are delivered, of which each holder has a share.
_DELIVERED = "state IN ('active', 'failing')"

_TOTAL = f"SELECT count(*) FROM subscriptions WHERE {_DELIVERED}"

_OWN = f"{_TOTAL} AND holder = ?"

_RENEW = "UPDATE subscriptions SET held_until = ? WHERE holder = ?"

#: Free is asked twice: another process may take a row while this one waits for it.
_TAKE = f"""
UPDATE subscriptions SET holder = :holder, held_until = :until
WHERE {_is_over("held_until")} AND number IN (
    SELECT number FROM subscriptions WHERE {_DELIVERED} AND {_is_over("held_until")}
    ORDER BY number LIMIT :wanted
)
"""

_TAKEN = f"{SELECT} WHERE holder = ? ORDER BY number"

_RELEASE = "UPDATE subscriptions SET holder = '', held_until = 0 WHERE holder = ?"

_RELEASE_ONE = f"{_RELEASE} AND id = ?"

_HELD = "SELECT number FROM subscriptions WHERE id = ? AND holder = ? AND held_until > ?"

#: A checkpoint never goes back, in whatever order deliveries are recorded.
_MOVE = """
UPDATE subscriptions SET
    checkpoint = CASE WHEN checkpoint < :checkpoint THEN :checkpoint ELSE checkpoint END,
    failing_since = :failing_since
WHERE number = :number
"""

#: Not over a state that a principal has set meanwhile.
_ENTER = """
UPDATE subscriptions SET state = ?, reason = ?
WHERE number = ? AND state IN ('active', 'failing')
"""

_RAISE_VERSION = "UPDATE subscriptions SET version = version + 1 WHERE number = ?"

_PEND = """
INSERT INTO pending (subscription, position, lane, tries, first, due, dead_lettered, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subscription, position) DO UPDATE SET
    lane = excluded.lane, tries = excluded.tries, first = excluded.first, due = excluded.due,
    dead_lettered = excluded.dead_lettered, error = excluded.error
"""

_PENDING = "SELECT position, lane, tries, first, due, dead_lettered, error FROM pending"

_OF = "subscription = (SELECT number FROM subscriptions WHERE id = ?)"

_ATTEMPTS = """
SELECT number, position, event, started, latency, result, status, error, response, request, due
FROM attempts
"""

_INSERT_ATTEMPTS = (
    "INSERT INTO attempts (subscription, position, event, started, latency, result, status, error,"
    " response, request, due)"
)

#: The first attempt to retain. Times rise with numbers, except for concurrent attempts.
_FIRST_RETAINED = "SELECT number FROM attempts WHERE started >= ? ORDER BY number LIMIT 1"

_LAST_ATTEMPT = "SELECT coalesce(max(number), 0) FROM attempts"

_DELETE_ATTEMPTS = """
DELETE FROM attempts WHERE number IN (
    SELECT number FROM attempts WHERE number < ? ORDER BY number LIMIT ?
)
"""

#: With ``{among}``.
_SUMMARIES = """
WITH summaries AS (
    SELECT subscription, count(DISTINCT position) AS events,
        count(DISTINCT CASE WHEN result = 'delivered' THEN position END) AS delivered,
        min(started) AS first, max(number) AS last
    FROM attempts WHERE position {among} GROUP BY subscription
)
SELECT s.id, events, delivered, first, a.started, a.result, a.status, a.error
FROM summaries JOIN subscriptions AS s ON s.number = summaries.subscription
    JOIN attempts AS a ON a.number = summaries.last
ORDER BY first, summaries.last
"""

#: With ``{condition}``.
_BACKLOGS = """
SELECT s.id, count(*) FILTER (WHERE NOT dead_lettered), count(*) FILTER (WHERE dead_lettered),
    min(due) FILTER (WHERE NOT dead_lettered)
FROM pending JOIN subscriptions AS s ON s.number = subscription
{condition}
GROUP BY s.id
"""

_REDELIVER = f"""
UPDATE pending SET dead_lettered = FALSE, tries = 0, first = NULL, due = 0, lane = '{REDELIVERED}'
WHERE subscription = ? AND dead_lettered AND first >= ?
"""

_HURRY = f"UPDATE pending SET due = 0 WHERE {_OF} AND NOT dead_lettered AND due > 0"

_IS_FAILING = "SELECT 1 FROM subscriptions WHERE id = ? AND state = 'failing'"

_MESSAGE = f"SELECT deployment, channel, id FROM messages WHERE {_OF} AND deployment = ?"

_PUT_MESSAGE = """
INSERT INTO messages (subscription, deployment, channel, id) VALUES (?, ?, ?, ?)
ON CONFLICT (subscription, deployment) DO UPDATE SET channel = excluded.channel, id = excluded.id
"""

_PENDING_OF = f"{_PENDING} WHERE {_OF} AND NOT dead_lettered ORDER BY position"

_DEAD_LETTERS = (
    f"{_PENDING} WHERE {_OF} AND dead_lettered AND position > ? ORDER BY position LIMIT ?"
)

_ATTEMPTS_OF = f"{_ATTEMPTS} WHERE {_OF} AND number < ? ORDER BY number DESC LIMIT ?"

_DELIVERED_AT = "DELETE FROM pending WHERE subscription = ? AND position = ?"


class SqlDeliveries(Generic[ConnectionT]):
    """The ``Deliveries`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect
        self._tables = DeliveryTables(database.dialect)

    async def claim(self, holder: str, *, now: int, until: int) -> Claim:
        return await self._writer.call(
            lambda connection: self._tables.claim(connection, holder, now, until)
        )

    async def release(self, holder: str, ids: Collection[str] | None = None) -> None:
        await self._writer.call(lambda connection: self._tables.release(connection, holder, ids))

    async def record(
        self, holder: str, deliveries: Sequence[Delivery], *, now: int
    ) -> frozenset[str]:
        return await self._writer.call(
            lambda connection: self._tables.record(connection, holder, deliveries, now)
        )

    async def pending(self, subscription: str) -> list[Pending]:
        return [pending_of(row) for row in await self._rows(_PENDING_OF, (subscription,))]

    async def dead_letters(
        self, subscription: str, *, after: int = 0, limit: int = 100
    ) -> list[Pending]:
        rows = await self._rows(_DEAD_LETTERS, (subscription, after, limit))
        return [pending_of(row) for row in rows]

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        last = before if before is not None else LATEST
        rows = await self._rows(_ATTEMPTS_OF, (subscription, last, limit))
        return [attempt_of(row) for row in rows]

    async def summaries(self, positions: Sequence[int]) -> list[DeliverySummary]:
        sql = _SUMMARIES.format(among=self._dialect.among)
        rows = await self._rows(sql, (self._dialect.array(positions),))
        return [summary_of(row) for row in rows]

    async def redeliver(self, subscription: str, selector: Selector) -> int:
        return await self._writer.call(
            lambda connection: self._tables.redeliver(connection, subscription, selector)
        )

    async def retry_now(self, subscription: str) -> None:
        await self._writer.call(lambda connection: self._tables.retry_now(connection, subscription))

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        for path, channel, id in await self._rows(_MESSAGE, (subscription, deployment)):
            return Message(deployment=Scope(path), channel=channel, id=id)
        return None

    async def backlogs(self, subscription: str | None = None) -> dict[str, Backlog]:
        condition = "WHERE s.id = :id" if subscription is not None else ""
        rows = await self._rows(_BACKLOGS.format(condition=condition), {"id": subscription})
        return {
            id: Backlog(pending=pending, dead_lettered=dead_lettered, due=due)
            for id, pending, dead_lettered, due in rows
        }

    async def delete_before(self, started: int) -> int:
        deleted, is_more = 0, True
        while is_more:
            portion = await self._writer.call(
                lambda connection: self._tables.delete_before(connection, started)
            )
            deleted += portion
            is_more = portion == DELETED_AT_ONCE
        return deleted

    async def _rows(self, statement: str, values: Any) -> list[tuple[Any, ...]]:
        return await self._readers.background.rows(self._dialect.sql(statement), values)


class DeliveryTables(Generic[ConnectionT]):
    """The tables of deliveries, in the caller's transaction."""

    def __init__(self, dialect: Dialect[ConnectionT]) -> None:
        self._dialect = dialect
        self._subscriptions = SubscriptionTable(dialect)

    # Leases

    def claim(self, connection: ConnectionT, holder: str, now: int, until: int) -> Claim:
        """Take what is free, up to the holder's share, until then (ns)."""
        share = self._share(connection, holder, now, until)
        self._dialect.change(connection, _RENEW, (until, holder))
        wanted = max(share - self._number(connection, _OWN, (holder,)), 0)
        taken = {"holder": holder, "until": until, "now": now, "wanted": wanted}
        self._dialect.change(connection, _TAKE, taken)
        rows = self._dialect.rows(connection, _TAKEN, (holder,))
        return Claim(held=[subscription_of(row) for row in rows], share=share)

    def _share(self, connection: ConnectionT, holder: str, now: int, until: int) -> int:
        self._dialect.change(connection, _REMOVE_EXPIRED, {"now": now})
        self._dialect.change(connection, _JOIN, (holder, until))
        holders = [row[0] for row in self._dialect.rows(connection, _HOLDERS)]
        return fair_share(self._number(connection, _TOTAL), holders, holder)

    def release(self, connection: ConnectionT, holder: str, ids: Collection[str] | None) -> None:
        """Release some subscriptions of a holder, or all, with which it leaves."""
        if ids is None:
            self._dialect.change(connection, _RELEASE, (holder,))
            self._dialect.change(connection, _REMOVE_HOLDER, (holder,))
            return
        for id in ids:
            self._dialect.change(connection, _RELEASE_ONE, (holder, id))

    # What was delivered

    def record(
        self, connection: ConnectionT, holder: str, deliveries: Sequence[Delivery], now: int
    ) -> frozenset[str]:
        """Record deliveries; return the subscriptions that the holder has lost."""
        ids = dict.fromkeys(delivery.subscription for delivery in deliveries)
        rows = {id: self._dialect.rows(connection, _HELD, (id, holder, now)) for id in ids}
        numbers = {id: int(found[0][0]) for id, found in rows.items() if found}
        held = [delivery for delivery in deliveries if delivery.subscription in numbers]
        self._insert_attempts(connection, numbers, held)
        by_subscription: dict[str, list[Delivery]] = {id: [] for id in numbers}
        for delivery in held:
            self._apply(connection, numbers[delivery.subscription], delivery)
            by_subscription[delivery.subscription].append(delivery)
        for id, number in numbers.items():
            self._move(connection, number, by_subscription[id])
        return frozenset(ids.keys() - numbers.keys())

    def _insert_attempts(
        self, connection: ConnectionT, numbers: dict[str, int], deliveries: Iterable[Delivery]
    ) -> None:
        rows = [
            self._attempt_row(numbers[delivery.subscription], attempt)
            for delivery in deliveries
            for attempt in delivery.attempts
        ]
        self._dialect.insert(connection, _INSERT_ATTEMPTS, rows)

    def _apply(self, connection: ConnectionT, number: int, delivery: Delivery) -> None:
        change = self._dialect.change
        for position in delivery.delivered_positions:
            change(connection, _DELIVERED_AT, (number, position))
        for pending in delivery.pending:
            change(connection, _PEND, self._pending_row(number, pending))
        for message in delivery.messages:
            row = (number, message.deployment, message.channel, message.id)
            change(connection, _PUT_MESSAGE, row)
        if delivery.state is not None:
            reason = self._dialect.text(delivery.reason)
            change(connection, _ENTER, (delivery.state, reason, number))

    def _move(self, connection: ConnectionT, number: int, deliveries: Sequence[Delivery]) -> None:
        values = {
            "checkpoint": max(delivery.checkpoint for delivery in deliveries),
            "failing_since": deliveries[-1].failing_since,
            "number": number,
        }
        self._dialect.change(connection, _MOVE, values)

    # What is delivered again

    def redeliver(self, connection: ConnectionT, subscription: str, selector: Selector) -> int:
        """Redeliver; return how many events."""
        number = self._subscriptions.number_of(connection, subscription)
        if isinstance(selector, OneEvent):
            again = Pending(position=selector.position, lane=REDELIVERED)
            self._dialect.change(connection, _PEND, self._pending_row(number, again))
            redelivered = 1
        else:
            redelivered = self._dialect.change(connection, _REDELIVER, (number, selector.since))
        if redelivered:
            self._raise_version(connection, number)
        return redelivered

    def retry_now(self, connection: ConnectionT, subscription: str) -> None:
        """Make what waits due, if there is any."""
        hurried = self._dialect.change(connection, _HURRY, (subscription,))
        if hurried or self._dialect.rows(connection, _IS_FAILING, (subscription,)):
            number = self._subscriptions.number_of(connection, subscription)
            self._raise_version(connection, number)

    def _raise_version(self, connection: ConnectionT, number: int) -> None:
        """Raise the version, by which the worker learns that there is something new."""
        self._dialect.change(connection, _RAISE_VERSION, (number,))

    def delete_before(self, connection: ConnectionT, started: int) -> int:
        """Delete the next attempts that started before (ns); return how many."""
        first = self._dialect.rows(connection, _FIRST_RETAINED, (started,))
        end = int(first[0][0]) if first else self._number(connection, _LAST_ATTEMPT) + 1
        return self._dialect.change(connection, _DELETE_ATTEMPTS, (end, DELETED_AT_ONCE))

    def _number(self, connection: ConnectionT, statement: str, values: Sequence[Any] = ()) -> int:
        [(number,)] = self._dialect.rows(connection, statement, values)
        return int(number)

    def _pending_row(self, number: int, pending: Pending) -> tuple[Any, ...]:
        return (
            number,
            pending.position,
            pending.lane,
            pending.tries,
            pending.first,
            pending.due,
            pending.dead_lettered,
            self._dialect.text(pending.error),
        )

    def _attempt_row(self, number: int, attempt: Attempt) -> tuple[Any, ...]:
        return (
            number,
            attempt.position,
            attempt.event,
            attempt.started,
            attempt.latency,
            attempt.result,
            attempt.status,
            self._dialect.text(attempt.error),
            self._dialect.text(attempt.response),
            self._dialect.text(attempt.request),
            attempt.due,
        )
