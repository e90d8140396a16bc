"""Deliveries in SQLite."""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import apsw

from deploylog.events.scope import Scope
from deploylog.store.rows import json_text
from deploylog.store.sqlite.connection import SqlValue, all_rows, insert_rows, one_row, one_value
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.subscriptions import number_of
from deploylog.store.sqlite.writer import Writer
from deploylog.store.subscription_rows import (
    SELECT,
    attempt_of,
    pending_of,
    subscription_of,
    summary_of,
)
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

_LEAVE = f"DELETE FROM holders WHERE until <= ?1 OR until > ?1 + {MAX_LEASE_AHEAD}"

_JOIN = "INSERT OR REPLACE INTO holders (holder, until) VALUES (?, ?)"

#: The subscriptions that are delivered, of which each holder has a share.
_DELIVERED = "state IN ('active', 'failing')"

_RENEW = "UPDATE subscriptions SET held_until = ? WHERE holder = ?"

_TAKE = f"""
UPDATE subscriptions SET holder = :holder, held_until = :until
WHERE number IN (
    SELECT number FROM subscriptions
    WHERE {_DELIVERED} AND (held_until <= :now OR held_until > :now + {MAX_LEASE_AHEAD})
    ORDER BY number LIMIT :wanted
)
"""

_HELD = "SELECT number FROM subscriptions WHERE id = ? AND holder = ? AND held_until > ?"

#: A checkpoint never goes back, in whatever order deliveries are recorded.
_MOVE = (
    "UPDATE subscriptions SET checkpoint = max(checkpoint, ?), failing_since = ? WHERE number = ?"
)

#: Not over a state that a principal has set meanwhile.
_ENTER = """
UPDATE subscriptions SET state = ?, reason = ?
WHERE number = ? AND state IN ('active', 'failing')
"""

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
_ATTEMPT_COLUMNS = 11

_SUMMARIES = """
WITH summaries AS (
    SELECT subscription, count(DISTINCT position) AS events,
        count(DISTINCT CASE WHEN result = 'delivered' THEN position END) AS delivered,
        min(started) AS first, max(number) AS last
    FROM attempts WHERE position IN (SELECT value FROM json_each(?)) GROUP BY subscription
)
SELECT s.id, events, delivered, first, a.started, a.result, a.status, a.error
FROM summaries JOIN subscriptions AS s ON s.number = summaries.subscription
    JOIN attempts AS a ON a.number = summaries.last
ORDER BY first, summaries.last
"""

_BACKLOGS = """
SELECT s.id, count(*) FILTER (WHERE NOT dead_lettered), count(*) FILTER (WHERE dead_lettered),
    min(due) FILTER (WHERE NOT dead_lettered)
FROM pending JOIN subscriptions AS s ON s.number = subscription
{condition}
GROUP BY subscription
"""

_REDELIVER = f"""
UPDATE pending SET dead_lettered = 0, tries = 0, first = NULL, due = 0, lane = '{REDELIVERED}'
WHERE subscription = ? AND dead_lettered AND first >= ?
"""

_HURRY = f"UPDATE pending SET due = 0 WHERE {_OF} AND NOT dead_lettered AND due > 0"

_IS_FAILING = "SELECT 1 FROM subscriptions WHERE id = ? AND state = 'failing'"

#: The first attempt to retain. Times rise with numbers, except for concurrent attempts.
_FIRST_RETAINED = "SELECT number FROM attempts WHERE started >= ? ORDER BY number LIMIT 1"


class SqliteDeliveries:
    """The ``Deliveries`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def claim(self, holder: str, *, now: int, until: int) -> Claim:
        return await self._writer.call(lambda connection: _claim(connection, holder, now, until))

    async def release(self, holder: str, ids: Collection[str] | None = None) -> None:
        await self._writer.call(lambda connection: _release(connection, holder, ids))

    async def record(
        self, holder: str, deliveries: Sequence[Delivery], *, now: int
    ) -> frozenset[str]:
        return await self._writer.call(
            lambda connection: _record(connection, holder, deliveries, now)
        )

    async def pending(self, subscription: str) -> list[Pending]:
        sql = f"{_PENDING} WHERE {_OF} AND NOT dead_lettered ORDER BY position"
        return [
            pending_of(row) for row in await self._readers.background.rows(sql, (subscription,))
        ]

    async def dead_letters(
        self, subscription: str, *, after: int = 0, limit: int = 100
    ) -> list[Pending]:
        sql = f"{_PENDING} WHERE {_OF} AND dead_lettered AND position > ? ORDER BY position LIMIT ?"
        rows = await self._readers.background.rows(sql, (subscription, after, limit))
        return [pending_of(row) for row in rows]

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        sql = f"{_ATTEMPTS} WHERE {_OF} AND number < ? ORDER BY number DESC LIMIT ?"
        last = before if before is not None else 2**63 - 1
        rows = await self._readers.background.rows(sql, (subscription, last, limit))
        return [attempt_of(row) for row in rows]

    async def summaries(self, positions: Sequence[int]) -> list[DeliverySummary]:
        rows = await self._readers.background.rows(_SUMMARIES, (json_text(positions),))
        return [summary_of(row) for row in rows]

    async def redeliver(self, subscription: str, selector: Selector) -> int:

        def redeliver(connection: apsw.Connection) -> int:
            number = number_of(connection, subscription)
            redelivered = _redeliver(connection, number, selector)
            if redelivered:
                _raise_version(connection, number)
            return redelivered

        return await self._writer.call(redeliver)

    async def retry_now(self, subscription: str) -> None:

        def hurry(connection: apsw.Connection) -> None:
            connection.execute(_HURRY, (subscription,))
            if connection.changes() or one_row(connection, _IS_FAILING, (subscription,)):
                _raise_version(connection, number_of(connection, subscription))

        await self._writer.call(hurry)

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        sql = f"SELECT deployment, channel, id FROM messages WHERE {_OF} AND deployment = ?"
        for path, channel, id in await self._readers.background.rows(
            sql, (subscription, deployment)
        ):
            return Message(deployment=Scope(path), channel=channel, id=id)
        return None

    async def backlogs(self, subscription: str | None = None) -> dict[str, Backlog]:
        condition = "WHERE s.id = :id" if subscription is not None else ""
        sql = _BACKLOGS.format(condition=condition)
        rows = await self._readers.background.rows(sql, {"id": subscription})
        return {
            id: Backlog(pending=pending, dead_lettered=dead_lettered, due=due)
            for id, pending, dead_lettered, due in rows
        }

    async def delete_before(self, started: int) -> int:
        deleted, is_more = 0, True
        while is_more:
            portion = await self._writer.call(lambda connection: _delete(connection, started))
            deleted += portion
            is_more = portion == DELETED_AT_ONCE
        return deleted


def _claim(connection: apsw.Connection, holder: str, now: int, until: int) -> Claim:
    share = _share(connection, holder, now, until)
    connection.execute(_RENEW, (until, holder))
    mine = f"SELECT count(*) FROM subscriptions WHERE {_DELIVERED} AND holder = ?"
    wanted = max(share - int(one_value(connection, mine, (holder,))), 0)
    taken = {"holder": holder, "until": until, "now": now, "wanted": wanted}
    connection.execute(_TAKE, taken)
    rows = all_rows(connection, f"{SELECT} WHERE holder = ? ORDER BY number", (holder,))
    return Claim(held=[subscription_of(row) for row in rows], share=share)


def _share(connection: apsw.Connection, holder: str, now: int, until: int) -> int:
    connection.execute(_LEAVE, (now,))
    connection.execute(_JOIN, (holder, until))
    holders = [row[0] for row in all_rows(connection, "SELECT holder FROM holders")]
    total = one_value(connection, f"SELECT count(*) FROM subscriptions WHERE {_DELIVERED}")
    return fair_share(int(total), holders, holder)


def _release(connection: apsw.Connection, holder: str, ids: Collection[str] | None) -> None:
    sql = "UPDATE subscriptions SET holder = '', held_until = 0 WHERE holder = ?"
    if ids is None:
        connection.execute(sql, (holder,))
        connection.execute("DELETE FROM holders WHERE holder = ?", (holder,))
        return
    for id in ids:
        connection.execute(f"{sql} AND id = ?", (holder, id))


def _record(
    connection: apsw.Connection, holder: str, deliveries: Sequence[Delivery], now: int
) -> frozenset[str]:
    ids = dict.fromkeys(delivery.subscription for delivery in deliveries)
    rows = {id: one_row(connection, _HELD, (id, holder, now)) for id in ids}
    numbers = {id: int(row[0]) for id, row in rows.items() if row is not None}
    held = [delivery for delivery in deliveries if delivery.subscription in numbers]
    _insert_attempts(connection, numbers, held)
    by_subscription: dict[str, list[Delivery]] = {id: [] for id in numbers}
    for delivery in held:
        _apply(connection, numbers[delivery.subscription], delivery)
        by_subscription[delivery.subscription].append(delivery)
    for id, number in numbers.items():
        _move(connection, number, by_subscription[id])
    return frozenset(ids.keys() - numbers.keys())


def _insert_attempts(
    connection: apsw.Connection, numbers: dict[str, int], deliveries: Iterable[Delivery]
) -> None:
    rows = [
        _attempt_row(numbers[delivery.subscription], attempt)
        for delivery in deliveries
        for attempt in delivery.attempts
    ]
    values = list(chain.from_iterable(rows))
    insert_rows(connection, _INSERT_ATTEMPTS, _ATTEMPT_COLUMNS, values)


def _apply(connection: apsw.Connection, number: int, delivery: Delivery) -> None:
    for position in delivery.delivered_positions:
        sql = "DELETE FROM pending WHERE subscription = ? AND position = ?"
        connection.execute(sql, (number, position))
    for pending in delivery.pending:
        connection.execute(_PEND, _pending_row(number, pending))
    for message in delivery.messages:
        row = (number, message.deployment, message.channel, message.id)
        connection.execute("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?)", row)
    if delivery.state is not None:
        connection.execute(_ENTER, (delivery.state, delivery.reason, number))


def _move(connection: apsw.Connection, number: int, deliveries: Sequence[Delivery]) -> None:
    checkpoint = max(delivery.checkpoint for delivery in deliveries)
    connection.execute(_MOVE, (checkpoint, deliveries[-1].failing_since, number))


def _redeliver(connection: apsw.Connection, number: int, selector: Selector) -> int:
    if isinstance(selector, OneEvent):
        again = Pending(position=selector.position, lane=REDELIVERED)
        connection.execute(_PEND, _pending_row(number, again))
        return 1
    connection.execute(_REDELIVER, (number, selector.since))
    return connection.changes()


def _raise_version(connection: apsw.Connection, number: int) -> None:
    """Raise the version, by which the worker learns that there is something new."""
    sql = "UPDATE subscriptions SET version = version + 1 WHERE number = ?"
    connection.execute(sql, (number,))


def _delete(connection: apsw.Connection, started_before: int) -> int:
    row = one_row(connection, _FIRST_RETAINED, (started_before,))
    newest = one_value(connection, "SELECT coalesce(max(number), 0) FROM attempts")
    end = int(row[0]) if row is not None else int(newest) + 1
    connection.execute(
        "DELETE FROM attempts WHERE number IN (SELECT number FROM attempts WHERE number < ?"
        " ORDER BY number LIMIT ?)",
        (end, DELETED_AT_ONCE),
    )
    return connection.changes()


def _pending_row(number: int, pending: Pending) -> tuple[SqlValue, ...]:
    return (
        number,
        pending.position,
        pending.lane,
        pending.tries,
        pending.first,
        pending.due,
        pending.dead_lettered,
        pending.error,
    )


def _attempt_row(number: int, attempt: Attempt) -> tuple[SqlValue, ...]:
    return (
        number,
        attempt.position,
        attempt.event,
        attempt.started,
        attempt.latency,
        attempt.result,
        attempt.status,
        attempt.error,
        attempt.response,
        attempt.request,
        attempt.due,
    )
