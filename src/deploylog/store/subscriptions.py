"""Subscriptions, in every backend."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

from deploylog.errors import Conflict
from deploylog.store.database import Database
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT
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

_ADD = f"INSERT INTO subscriptions ({NAMES})"

_CHANGE = (
    f"UPDATE subscriptions SET {', '.join(f'{chr(34)}{c}{chr(34)} = ?' for c in CHANGED)},"
    " version = version + 1 WHERE id = ? AND version = ?"
)

_ONE = f"{SELECT} WHERE id = ?"

_ALL = f"{SELECT} ORDER BY number"

_OF_COLLECTION = f"{SELECT} WHERE collection = ?"

_NUMBER = "SELECT number FROM subscriptions WHERE id = ?"

#: A subscription and its rows in other tables, in an order that the references allow.
_DELETE = (
    "DELETE FROM pending WHERE subscription = ?",
    "DELETE FROM attempts WHERE subscription = ?",
    "DELETE FROM messages WHERE subscription = ?",
    "DELETE FROM subscriptions WHERE number = ?",
)


class SqlSubscriptions(Generic[ConnectionT]):
    """The ``Subscriptions`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect
        self._table = SubscriptionTable(database.dialect)

    async def add(self, subscription: Subscription) -> None:
        await self._writer.call(lambda connection: self._table.add(connection, subscription))

    async def get(self, id: str) -> Subscription:
        for row in await self._readers.rows(self._dialect.sql(_ONE), (id,)):
            return subscription_of(row)
        raise not_found(id)

    async def list(self) -> list[Subscription]:
        return [subscription_of(row) for row in await self._readers.rows(_ALL)]

    async def change(self, subscription: Subscription) -> Subscription:
        return await self._writer.call(
            lambda connection: self._table.change(connection, subscription)
        )

    async def replace(self, collection: str, subscriptions: Sequence[Subscription]) -> None:
        await self._writer.call(
            lambda connection: self._table.replace(connection, collection, subscriptions)
        )

    async def delete(self, id: str) -> None:
        await self._writer.call(lambda connection: self._table.delete(connection, id))


class SubscriptionTable(Generic[ConnectionT]):
    """The table, in the caller's transaction."""

    def __init__(self, dialect: Dialect[ConnectionT]) -> None:
        self._dialect = dialect

    def number_of(self, connection: ConnectionT, id: str) -> int:
        """The number of a subscription in other tables; raises SubscriptionNotFound."""
        for (number,) in self._dialect.rows(connection, _NUMBER, (id,)):
            return int(number)
        raise not_found(id)

    def add(self, connection: ConnectionT, subscription: Subscription) -> None:
        """Add it; raises Conflict."""
        if self._dialect.rows(connection, _NUMBER, (subscription.id,)):
            raise Conflict(f"there is a subscription {subscription.id} already")
        values = values_of(subscription)
        with self._unique_name(subscription):
            self._dialect.insert(connection, _ADD, [[values[column] for column in COLUMNS]])

    def change(self, connection: ConnectionT, subscription: Subscription) -> Subscription:
        """Change it, and return what is stored now; raises Conflict and SubscriptionNotFound."""
        self.number_of(connection, subscription.id)
        values = values_of(subscription)
        changed = [values[column] for column in CHANGED]
        with self._unique_name(subscription):
            number = self._dialect.change(
                connection, _CHANGE, [*changed, subscription.id, subscription.version]
            )
        if not number:
            raise Conflict(f"subscription {subscription.id} has changed since it was read")
        [row] = self._dialect.rows(connection, _ONE, (subscription.id,))
        return subscription_of(row)

    def replace(
        self, connection: ConnectionT, collection: str, subscriptions: Sequence[Subscription]
    ) -> None:
        """Make these the subscriptions of a collection."""
        rows = self._dialect.rows(connection, _OF_COLLECTION, (collection,))
        known = {row[0]: subscription_of(row) for row in rows}
        wanted = {subscription.id for subscription in subscriptions}
        for id in (id for id in known if id not in wanted):
            self.delete(connection, id)
        for subscription in subscriptions:
            if subscription.id not in known:
                self.add(connection, subscription)
            elif differ(subscription, known[subscription.id]):
                self.change(connection, subscription)

    def delete(self, connection: ConnectionT, id: str) -> None:
        """Delete it, and what other tables have of it; raises SubscriptionNotFound."""
        number = self.number_of(connection, id)
        for sql in _DELETE:
            self._dialect.change(connection, sql, (number,))

    @contextmanager
    def _unique_name(self, subscription: Subscription) -> Iterator[None]:
        try:
            yield
        except self._dialect.unique_violation as error:
            raise name_taken(subscription) from error
