"""The course of a log: whether what a process has seen is still there after a failover.

A standby that is promoted without the word of the old primary may lack its newest events. Their
positions are then given again, to other events.
"""

import secrets

from deploylog.errors import LogReset
from deploylog.events.ids import EPOCH_BITS
from deploylog.store.postgres.append import CHANNEL
from deploylog.store.postgres.appender import LOCK, Proof
from deploylog.store.postgres.connection import all_rows, change, connect, store_errors


class Course:
    """The newest event that a process has seen. Any thread may tell of one."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.newest: Proof | None = None

    def saw(self, proof: Proof) -> None:
        """Note a position, and the checksum of the event there."""
        if self.newest is None or proof[0] > self.newest[0]:
            self.newest = proof


def check_course(conninfo: str, course: Course) -> None:
    """Give the log a new epoch if it lacks the newest event that this process has seen.

    No id of before is valid then: whoever presents one learns that events may be missing. Raises
    LogReset.
    """
    if course.newest is None:
        return
    position, checksum = course.newest
    with connect(conninfo) as connection, store_errors(), connection.transaction():
        all_rows(connection, LOCK)
        values: dict[str, object] = {"position": position, "checksum": checksum}
        [(epoch, head, is_there)] = all_rows(connection, _IS_THERE, values)
        if epoch != course.epoch or is_there:
            return
        change(connection, "UPDATE log SET epoch = %s", (secrets.randbits(EPOCH_BITS),))
        change(connection, "UPDATE token_key SET value = %s", (secrets.token_bytes(32),))
        change(connection, f"NOTIFY {CHANNEL}")
    raise LogReset(
        f"events up to position {position} were lost in a failover, and the log went on from"
        f" position {head} at the latest",
        is_first=True,
    )


# An event that was pruned cannot be asked for, but then the log reaches that far.
_IS_THERE = """
SELECT epoch, head, head >= %(position)s AND (
    floor >= %(position)s OR EXISTS (
        SELECT 1 FROM events WHERE position = %(position)s AND checksum = %(checksum)s
    )
) FROM log
"""
