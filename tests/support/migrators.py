"""What a migrating process does; a new interpreter imports it from here."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from deploylog.store import migrate_store


def migrate_at_once(store_url: str, together: Barrier, answers: "Queue[object]") -> None:
    """Migrate at the same moment as the others, and say which steps were taken."""
    together.wait()
    try:
        answers.put(migrate_store(store_url))
    except Exception as error:
        answers.put(repr(error))
