"""The retry schedule: when a failed delivery is retried, and when it is given up."""

from deploylog.events.times import SECOND

#: Seconds before each retry; the last delay repeats.
DELAYS = (5, 15, 60, 300, 900, 1800, 3600)

#: Each delay varies by this share in both directions, so that what failed together is not retried
#: together.
JITTER = 0.2

#: An event is given up once both have passed since its first attempt: these seconds, and this
#: number of attempts. A paused subscription makes no attempts.
GIVE_UP_SECONDS = 86_400
MIN_ATTEMPTS = 10

#: Seconds for which a failing event blocks its lane. In strict order it blocks until it is given
#: up.
LANE_SECONDS = 900

#: Seconds without a success after which a subscription is failing, and between its probes.
FAILING_SECONDS = 3600
PROBE_SECONDS = 300

#: Seconds of failures without a success after which a success means that the receiver is back, and
#: all that waits is sent. A single event that fails while others succeed is not retried for it.
DOWN_SECONDS = 5

#: The longest ``Retry-After`` that is honored, in seconds.
MAX_RETRY_AFTER = 3600.0


def delay(tries: int, *, retry_after: float | None, chance: float, is_paced: bool = False) -> int:
    """How long to wait after this number of failed attempts, in ns.

    ``retry_after`` is the receiver's, in seconds. It lengthens the delay, and never shortens it
    unless ``is_paced``: Slack accepts one message per second, and says when it accepts the next.
    ``chance`` is between 0 and 1.
    """
    if is_paced and retry_after is not None:
        return max(honored(retry_after, chance), SECOND)
    planned = jittered(DELAYS[min(tries, len(DELAYS)) - 1], chance)
    return max(planned, honored(retry_after, chance))


def probe_delay(*, retry_after: float | None, chance: float) -> int:
    """How long to wait before the next probe of a failing endpoint, in ns."""
    return max(jittered(PROBE_SECONDS, chance), honored(retry_after, chance))


def honored(retry_after: float | None, chance: float) -> int:
    """The part of ``Retry-After`` that is honored, in ns; 0 without one."""
    return int(min(retry_after or 0.0, MAX_RETRY_AFTER) * (1 + JITTER * chance) * SECOND)


def jittered(seconds: float, chance: float) -> int:
    """These seconds, varied by ``JITTER``, in ns."""
    return int(seconds * (1 - JITTER + 2 * JITTER * chance) * SECOND)


def has_passed(since: int, now: int, seconds: int) -> bool:
    """Whether these seconds have passed; ``since`` and ``now`` in ns."""
    return now - since >= seconds * SECOND
