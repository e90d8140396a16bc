"""Deliveries in PostgreSQL."""

from collections.abc import Collection, Iterable, Sequence

from deploylog.events.scope import Scope
from deploylog.store.postgres.connection import (
    Connection,
    all_rows,
    change,
    one_row,
    one_value,
    without_nul,
)
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.subscriptions import number_of
from deploylog.store.postgres.writer import Writer
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

_LEAVE = f"""
DELETE FROM holders
WHERE until <= %(now)s OR until > %(now)s::bigint + {MAX_LEASE_AHEAD}
"""

_JOIN = """
INSERT INTO holders (holder, until) VALUES (%s, %s)
ON CONFLICT (holder) DO UPDATE SET until = excluded.until
"""

#: The subscriptions that are delivered, of which each holder has a share.
_DELIVERED = "state IN ('active', 'failing')"

_RENEW = "UPDATE subscriptions SET held_until = %s WHERE holder = %s"

_IS_FREE = f"(held_until <= %(now)s OR held_until > %(now)s::bigint + {MAX_LEASE_AHEAD})"

#: Free is asked twice: another process may take a row while this one waits for it.
_TAKE = f"""
UPDATE subscriptions SET holder = %(holder)s, held_until = %(until)s
WHERE {_IS_FREE} AND number IN (
    SELECT number FROM subscriptions WHERE {_DELIVERED} AND {_IS_FREE}
    ORDER BY number LIMIT %(wanted)s
)
"""

_HELD = "SELECT number FROM subscriptions WHERE id = %s AND holder = %s AND held_until > %s"

#: A checkpoint never goes back, in whatever order deliveries are recorded.
_MOVE = """
UPDATE subscriptions SET checkpoint = greatest(checkpoint, %s), failing_since = %s
WHERE number = %s
"""

#: Not over a state that a principal has set meanwhile.
_ENTER = """
UPDATE subscriptions SET state = %s, reason = %s
WHERE number = %s AND state IN ('active', 'failing')
"""

_PEND = """
INSERT INTO pending (subscription, position, lane, tries, first, due, dead_lettered, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (subscription, position) DO UPDATE SET
    lane = excluded.lane, tries = excluded.tries, first = excluded.first, due = excluded.due,
    dead_lettered = excluded.dead_lettered, error = excluded.error
"""

_PENDING = "SELECT position, lane, tries, first, due, dead_lettered, error FROM pending"

_OF = "subscription = (SELECT number FROM subscriptions WHERE id = %s)"

_ATTEMPTS = """
SELECT number, position, event, started, latency, result, status, error, response, request, due
FROM attempts
"""

_INSERT_ATTEMPT = """
INSERT INTO attempts (subscription, position, event, started, latency, result, status, error,
    response, request, due)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_PUT_MESSAGE = """
INSERT INTO messages (subscription, deployment, channel, id) VALUES (%s, %s, %s, %s)
ON CONFLICT (subscription, deployment) DO UPDATE SET channel = excluded.channel, id = excluded.id
"""

_SUMMARIES = """
WITH summaries AS (
    SELECT subscription, count(DISTINCT position) AS events,
        count(DISTINCT CASE WHEN result = 'delivered' THEN position END) AS delivered,
        min(started) AS first, max(number) AS last
    FROM attempts WHERE position = ANY(%s) GROUP BY subscription
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
GROUP BY s.id
"""

_REDELIVER = f"""
UPDATE pending SET dead_lettered = FALSE, tries = 0, first = NULL, due = 0, lane = '{REDELIVERED}'
WHERE subscription = %s AND dead_lettered AND first >= %s
"""

_HURRY = f"UPDATE pending SET due = 0 WHERE {_OF} AND NOT dead_lettered AND due > 0"

_IS_FAILING = "SELECT 1 FROM subscriptions WHERE id = %s AND state = 'failing'"

#: The first attempt to retain. Times rise with numbers, except for concurrent attempts.
_FIRST_RETAINED = "SELECT number FROM attempts WHERE started >= %s ORDER BY number LIMIT 1"


class PostgresDeliveries:
    """The ``Deliveries`` of a PostgreSQL store."""

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
        sql = (
            f"{_PENDING} WHERE {_OF} AND dead_lettered AND position > %s ORDER BY position LIMIT %s"
        )
        rows = await self._readers.background.rows(sql, (subscription, after, limit))
        return [pending_of(row) for row in rows]

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        sql = f"{_ATTEMPTS} WHERE {_OF} AND number < %s ORDER BY number DESC LIMIT %s"
        last = before if before is not None else 2**63 - 1
        rows = await self._readers.background.rows(sql, (subscription, last, limit))
        return [attempt_of(row) for row in rows]

    async def summaries(self, positions: Sequence[int]) -> list[DeliverySummary]:
        rows = await self._readers.background.rows(_SUMMARIES, (list(positions),))
        return [summary_of(row) for row in rows]

    async def redeliver(self, subscription: str, selector: Selector) -> int:

        def redeliver(connection: Connection) -> int:
            number = number_of(connection, subscription)
            redelivered = _redeliver(connection, number, selector)
            if redelivered:
                _raise_version(connection, number)
            return redelivered

        return await self._writer.call(redeliver)

    async def retry_now(self, subscription: str) -> None:

        def hurry(connection: Connection) -> None:
            hurried = change(connection, _HURRY, (subscription,))
            if hurried or one_row(connection, _IS_FAILING, (subscription,)):
                _raise_version(connection, number_of(connection, subscription))

        await self._writer.call(hurry)

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        sql = f"SELECT deployment, channel, id FROM messages WHERE {_OF} AND deployment = %s"
        for path, channel, id in await self._readers.background.rows(
            sql, (subscription, deployment)
        ):
            return Message(deployment=Scope(path), channel=channel, id=id)
        return None

    async def backlogs(self, subscription: str | None = None) -> dict[str, Backlog]:
        condition = "WHERE s.id = %(id)s" if subscription is not None else ""
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


def _claim(connection: Connection, holder: str, now: int, until: int) -> Claim:
    share = _share(connection, holder, now, until)
    change(connection, _RENEW, (until, holder))
    mine = f"SELECT count(*) FROM subscriptions WHERE {_DELIVERED} AND holder = %s"
    wanted = max(share - int(one_value(connection, mine, (holder,))), 0)
    taken = {"holder": holder, "until": until, "now": now, "wanted": wanted}
    change(connection, _TAKE, taken)
    rows = all_rows(connection, f"{SELECT} WHERE holder = %s ORDER BY number", (holder,))
    return Claim(held=[subscription_of(row) for row in rows], share=share)


def _share(connection: Connection, holder: str, now: int, until: int) -> int:
    change(connection, _LEAVE, {"now": now})
    change(connection, _JOIN, (holder, until))
    holders = [row[0] for row in all_rows(connection, "SELECT holder FROM holders")]
    total = one_value(connection, f"SELECT count(*) FROM subscriptions WHERE {_DELIVERED}")
    return fair_share(int(total), holders, holder)


def _release(connection: Connection, holder: str, ids: Collection[str] | None) -> None:
    sql = "UPDATE subscriptions SET holder = '', held_until = 0 WHERE holder = %s"
    if ids is None:
        change(connection, sql, (holder,))
        change(connection, "DELETE FROM holders WHERE holder = %s", (holder,))
        return
    for id in ids:
        change(connection, f"{sql} AND id = %s", (holder, id))


def _record(
    connection: Connection, holder: str, deliveries: Sequence[Delivery], now: int
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
    connection: Connection, numbers: dict[str, int], deliveries: Iterable[Delivery]
) -> None:
    rows = [
        _attempt_row(numbers[delivery.subscription], attempt)
        for delivery in deliveries
        for attempt in delivery.attempts
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT_ATTEMPT, rows)


def _apply(connection: Connection, number: int, delivery: Delivery) -> None:
    for position in delivery.delivered_positions:
        sql = "DELETE FROM pending WHERE subscription = %s AND position = %s"
        change(connection, sql, (number, position))
    for pending in delivery.pending:
        change(connection, _PEND, _pending_row(number, pending))
    for message in delivery.messages:
        row = (number, message.deployment, message.channel, message.id)
        change(connection, _PUT_MESSAGE, row)
    if delivery.state is not None:
        change(connection, _ENTER, (delivery.state, without_nul(delivery.reason), number))


def _move(connection: Connection, number: int, deliveries: Sequence[Delivery]) -> None:
    checkpoint = max(delivery.checkpoint for delivery in deliveries)
    change(connection, _MOVE, (checkpoint, deliveries[-1].failing_since, number))


def _redeliver(connection: Connection, number: int, selector: Selector) -> int:
    if isinstance(selector, OneEvent):
        again = Pending(position=selector.position, lane=REDELIVERED)
        change(connection, _PEND, _pending_row(number, again))
        return 1
    return change(connection, _REDELIVER, (number, selector.since))


def _raise_version(connection: Connection, number: int) -> None:
    """Raise the version, by which the worker learns that there is something new."""
    sql = "UPDATE subscriptions SET version = version + 1 WHERE number = %s"
    change(connection, sql, (number,))


def _delete(connection: Connection, started_before: int) -> int:
    row = one_row(connection, _FIRST_RETAINED, (started_before,))
    newest = one_value(connection, "SELECT coalesce(max(number), 0) FROM attempts")
    end = int(row[0]) if row is not None else int(newest) + 1
    return change(connection, _DELETE_ATTEMPTS, (end, DELETED_AT_ONCE))


_DELETE_ATTEMPTS = """
DELETE FROM attempts WHERE number IN (
    SELECT number FROM attempts WHERE number < %s ORDER BY number LIMIT %s
)
"""


def _pending_row(number: int, pending: Pending) -> tuple[object, ...]:
    return (
        number,
        pending.position,
        pending.lane,
        pending.tries,
        pending.first,
        pending.due,
        pending.dead_lettered,
        without_nul(pending.error),
    )


def _attempt_row(number: int, attempt: Attempt) -> tuple[object, ...]:
    return (
        number,
        attempt.position,
        attempt.event,
        attempt.started,
        attempt.latency,
        attempt.result,
        attempt.status,
        without_nul(attempt.error),
        without_nul(attempt.response),
        without_nul(attempt.request),
        attempt.due,
    )
