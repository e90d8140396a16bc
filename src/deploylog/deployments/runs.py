"""Runs: which of the deployments under one key an event belongs to, in any order of arrival."""

from collections.abc import Sequence

from deploylog.deployments.catalog import Deployment, Status
from deploylog.deployments.lifecycle import (
    DEPLOYMENT_ENDS,
    DEPLOYMENT_PHASES,
    DEPLOYMENT_STARTED,
)

#: Events that begin the next run after the end of the last one.
UNDER_WAY = (DEPLOYMENT_STARTED, *DEPLOYMENT_PHASES)


def run_of(runs: Sequence[Deployment], type: str, time: int) -> Deployment | None:
    """The run that an event of this type and time belongs to; ``None`` is a new one.

    ``runs`` are in the order in which they were recorded.
    """
    if not runs:
        return None
    status = DEPLOYMENT_ENDS.get(type)
    if status is not None:
        return _ended_by(runs, status, time)
    if type in UNDER_WAY:
        return next((each for each in _by_end(runs) if time <= _end(each)), None)
    return runs[-1]


def _ended_by(runs: Sequence[Deployment], status: Status, time: int) -> Deployment | None:
    ordered = _by_end(runs)
    for each in ordered:
        if (each.status, each.ended) == (status, time):
            return each
    before = [each for each in ordered if each.ended is not None and each.ended <= time]
    after = [each for each in ordered if each.ended is None or each.ended > time]
    running = next((each for each in after if each.ended is None), None)
    # An end that is older than the last one is a late report of what happened before.
    if running is not None and len(before) == len(ordered) - 1:
        return running
    near = (*before[-1:], *after[:1])
    return next((each for each in near if each.status == status), None)


def _by_end(runs: Sequence[Deployment]) -> list[Deployment]:
    return sorted(runs, key=_end)


def _end(run: Deployment) -> float:
    return run.ended if run.ended is not None else float("inf")
