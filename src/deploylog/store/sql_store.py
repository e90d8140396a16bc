"""What the stores of all backends have alike: everything beside the log and the catalog."""

from typing import Generic

from deploylog.events.store import EventLog
from deploylog.store.changesets import SqlChangesets
from deploylog.store.cleanups import SqlCleanups
from deploylog.store.contract import SecretName
from deploylog.store.credentials import SqlCredentials
from deploylog.store.database import Database
from deploylog.store.deliveries import SqlDeliveries
from deploylog.store.readers import ConnectionT
from deploylog.store.sessions import SqlEndedSessions
from deploylog.store.signatures import SqlSignatures
from deploylog.store.subscriptions import SqlSubscriptions

_SECRETS: dict[SecretName, str] = {"page-token": "SELECT value FROM token_key"}


class SqlStore(Generic[ConnectionT]):
    """A ``Store``, to which a backend adds its catalog, and which file it owns."""

    def __init__(self, log: EventLog, database: Database[ConnectionT]) -> None:
        self._database = database
        self.log = log
        self.changesets = SqlChangesets(database)
        self.cleanups = SqlCleanups(database)
        self.subscriptions = SqlSubscriptions(database)
        self.deliveries = SqlDeliveries(database)
        self.credentials = SqlCredentials(database)
        self.signatures = SqlSignatures(database)
        self.ended_sessions = SqlEndedSessions(database)

    async def secret(self, name: SecretName) -> bytes:
        [(value,)] = await self._database.readers.rows(_SECRETS[name])
        return bytes(value)

    async def ready(self) -> None:
        await self.log.head()
        await self._database.writer.ready()
