"""A database: who writes it, who reads it, and the words that it knows."""

from typing import Generic

from deploylog.store.commit_queue import CommitQueue
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT, ReaderPools


class Database(Generic[ConnectionT]):
    """What is stored beside the log needs this much of a backend."""

    def __init__(
        self,
        writer: CommitQueue[ConnectionT],
        readers: ReaderPools[ConnectionT],
        dialect: Dialect[ConnectionT],
    ) -> None:
        self.writer = writer
        self.readers = readers
        self.dialect = dialect
