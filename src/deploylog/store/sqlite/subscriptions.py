"""Subscriptions in SQLite."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import apsw

from deploylog.errors import Conflict
from deploylog.store.sqlite.connection import all_rows, one_row
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer
from deploylog.store.subscription_rows import (
    CHANGED,
    COLUMNS,
    NAMES,
    SELECT,
    differ,
    not_found,
    subscription_of,
    values_of,
)
from deploylog.subscriptions.store import name_taken
from deploylog.subscriptions.subscription import Subscription

_ADD = f"INSERT INTO subscriptions ({NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"

_CHANGE = (
    f"UPDATE subscriptions SET {', '.join(f'{chr(34)}{c}{chr(34)} = ?' for c in CHANGED)},"
    " version = version + 1 WHERE id = ? AND version = ?"
)

#: A subscription and its rows in other tables, in an order that the references allow.
_DELETE = (
    "DELETE FROM pending WHERE subscription = ?",
    "DELETE FROM attempts WHERE subscription = ?",
    "DELETE FROM messages WHERE subscription = ?",
    "DELETE FROM subscriptions WHERE number = ?",
)


class SqliteSubscriptions:
    """The ``Subscriptions`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, subscription: Subscription) -> None:
        await self._writer.call(lambda connection: _add(connection, subscription))

    async def get(self, id: str) -> Subscription:
        for row in await self._readers.rows(f"{SELECT} WHERE id = ?", (id,)):
            return subscription_of(row)
        raise not_found(id)

    async def list(self) -> list[Subscription]:
        rows = await self._readers.rows(f"{SELECT} ORDER BY number")
        return [subscription_of(row) for row in rows]

    async def change(self, subscription: Subscription) -> Subscription:
        return await self._writer.call(lambda connection: _change(connection, subscription))

    async def replace(self, collection: str, subscriptions: Sequence[Subscription]) -> None:
        await self._writer.call(lambda connection: _replace(connection, collection, subscriptions))

    async def delete(self, id: str) -> None:
        await self._writer.call(lambda connection: _delete(connection, id))


def number_of(connection: apsw.Connection, id: str) -> int:
    """The number of a subscription in other tables. Raises SubscriptionNotFound."""
    row = one_row(connection, "SELECT number FROM subscriptions WHERE id = ?", (id,))
    if row is None:
        raise not_found(id)
    return int(row[0])


def _add(connection: apsw.Connection, subscription: Subscription) -> None:
    if one_row(connection, "SELECT 1 FROM subscriptions WHERE id = ?", (subscription.id,)):
        raise Conflict(f"there is a subscription {subscription.id} already")
    values = values_of(subscription)
    with _unique_name(subscription):
        connection.execute(_ADD, [values[column] for column in COLUMNS])


def _change(connection: apsw.Connection, subscription: Subscription) -> Subscription:
    number_of(connection, subscription.id)
    values = values_of(subscription)
    changed = [values[column] for column in CHANGED]
    with _unique_name(subscription):
        connection.execute(_CHANGE, [*changed, subscription.id, subscription.version])
    if not connection.changes():
        raise Conflict(f"subscription {subscription.id} has changed since it was read")
    return _get(connection, subscription.id)


@contextmanager
def _unique_name(subscription: Subscription) -> Iterator[None]:
    try:
        yield
    except apsw.ConstraintError as error:
        raise name_taken(subscription) from error


def _get(connection: apsw.Connection, id: str) -> Subscription:
    [row] = all_rows(connection, f"{SELECT} WHERE id = ?", (id,))
    return subscription_of(row)


def _replace(
    connection: apsw.Connection, collection: str, subscriptions: Sequence[Subscription]
) -> None:
    rows = all_rows(connection, f"{SELECT} WHERE collection = ?", (collection,))
    known = {row[0]: subscription_of(row) for row in rows}
    for id in known.keys() - {subscription.id for subscription in subscriptions}:
        _delete(connection, id)
    for subscription in subscriptions:
        if subscription.id not in known:
            _add(connection, subscription)
        elif differ(subscription, known[subscription.id]):
            _change(connection, subscription)


def _delete(connection: apsw.Connection, id: str) -> None:
    number = number_of(connection, id)
    for sql in _DELETE:
        connection.execute(sql, (number,))
