"""The schedule: when something that did not arrive is tried again, and until when."""

from deploylog.events.times import SECOND

#: Seconds before each further attempt; the last of them holds for all that follow.
DELAYS = (5, 15, 60, 300, 900, 1800, 3600)

#: Each delay is drawn from as much below it to as much above it, so that those who failed together
#: do not all come back together.
JITTER = 0.2

#: Seconds after its first attempt after which an event is given up, and the attempts that it has
#: had by then: while the subscription was paused, none was made.
GIVE_UP_SECONDS = 86_400
LEAST_TRIES = 10

#: Seconds for which a failing event holds up its lane; it holds up a strict order until it is
#: given up.
LANE_SECONDS = 900

#: Seconds in which nothing arrived, after which a subscription is failing, and between the attempts
#: to find out whether it still is.
FAILING_SECONDS = 3600
PROBE_SECONDS = 900

#: Seconds that a receiver may ask for at the most.
MOST_RETRY_AFTER = 3600.0


def delay(tries: int, *, retry_after: float | None, chance: float, is_slack: bool = False) -> int:
    """How long to wait after so many failed attempts, in ns.

    ``retry_after`` is what the receiver asks for, in seconds; it makes the wait longer, never
    shorter, but for Slack's: it takes a message a second, and says when it takes the next one.
    ``chance`` is between 0 and 1.
    """
    if is_slack and retry_after is not None:
        return max(asked(retry_after, chance), SECOND)
    planned = spread(DELAYS[min(tries, len(DELAYS)) - 1], chance)
    return max(planned, asked(retry_after, chance))


def probe_delay(*, retry_after: float | None, chance: float) -> int:
    """How long to wait before it is looked whether anything arrives again, in ns."""
    return max(spread(PROBE_SECONDS, chance), asked(retry_after, chance))


def asked(retry_after: float | None, chance: float) -> int:
    """What a receiver asks for, as far as it is heeded, in ns; 0 when it asks for nothing."""
    return int(min(retry_after or 0.0, MOST_RETRY_AFTER) * (1 + JITTER * chance) * SECOND)


def spread(seconds: float, chance: float) -> int:
    """About so many seconds, in ns."""
    return int(seconds * (1 - JITTER + 2 * JITTER * chance) * SECOND)


def is_over(first: int, now: int, seconds: int) -> bool:
    """Whether so many seconds have passed since ``first``; both in ns."""
    return now - first >= seconds * SECOND
