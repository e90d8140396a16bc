"""DORA's five metrics of software delivery, computed from how deployments ended; pure.

``docs/explanation/dora.md`` says what counts, and why.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Literal, get_args
from uuid import UUID

import msgspec

from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Outcome
from deploylog.deployments.production import ProductionRule
from deploylog.events.times import LATEST, SECOND, parse_time

DAY = 86_400 * SECOND

#: Deployments that a figure names: its newest.
NAMED = 100

#: Why an ended deployment does not count.
LeftOut = Literal["not_production", "production_unknown", "deploys_nothing", "destroys"]

_REASONS: tuple[LeftOut, ...] = get_args(LeftOut)

#: A stack and an environment.
_Place = tuple[str, str | None]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """From ``since`` up to, but not including, ``until``: ns since 1970 (UTC)."""

    since: int
    until: int

    def __contains__(self, time: int) -> bool:
        return self.since <= time < self.until

    @property
    def days(self) -> float:
        return (self.until - self.since) / DAY


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took, in ns. Percentiles are interpolated between the nearest two."""

    number: int
    median: float
    p75: float
    p90: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric comes from. A value of it that is ``None`` is unknown."""

    #: Deployments that the metric is about.
    of: int
    #: Those of them about which enough is recorded.
    known: int
    #: Why the value, or a part of it, is unknown.
    reason: str | None
    #: Deployments that make the value what it is, and the ids of the newest.
    total: int
    deployments: tuple[str, ...]

    @property
    def known_share(self) -> float | None:
        return self.known / self.of if self.of else None


class Times(Figure, frozen=True, kw_only=True):
    """A metric that is a time."""

    durations: Durations | None


class Frequency(Figure, frozen=True, kw_only=True):
    """A metric that is a number in a time."""

    per_day: float | None
    #: From one to the next.
    between: Durations | None


class Rate(Figure, frozen=True, kw_only=True):
    """A metric that is the share of ``total`` in ``known``."""

    rate: float | None


class Dora(msgspec.Struct, frozen=True, kw_only=True):
    """The five metrics."""

    window: Window
    #: Ended deployments to production.
    counted: int
    #: Ended deployments that do not count.
    left_out: dict[LeftOut, int]
    change_lead_time: Times
    deployment_frequency: Frequency
    failed_deployment_recovery_time: Times
    change_fail_rate: Rate
    deployment_rework_rate: Rate


class _Named:
    """Counts deployments, and keeps the ids of those that come first: the newest."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.number = 0
        self.ids: list[str] = []
        for id in ids:
            self.add(id)

    def add(self, id: str) -> None:
        self.number += 1
        if self.number <= NAMED:
            self.ids.append(id)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that a deployment was followed by."""

    project: str
    name: str
    #: When the first success restored it; ``None`` if none did.
    restored: int | None


class _Response(msgspec.Struct, frozen=True):
    """The deployments that restore an incident."""

    #: When the first of them started.
    started: int
    #: When the first of them succeeded.
    restored: int | None


class _Interventions:
    """What deployments say that they restore, while outcomes come from new to old."""

    def __init__(self) -> None:
        #: Whether any deployment says what it restores, or what made it necessary.
        self.are_reported = False
        #: By deployment, when the first success restored it; ``None`` if none did.
        self._restored: dict[str, int | None] = {}
        self._responses: dict[_Place, dict[str, _Response]] = {}

    def note(self, one: Outcome) -> None:
        """Remember what ``one`` restores."""
        target = one.details.restores
        if target is None:
            self.are_reported |= one.details.rework_of is not None
            return
        self.are_reported = True
        if not _is_deployment(target):
            self._respond(one, target)
        elif one.status == "completed":
            self._restored[target.lower()] = one.ended
        else:
            self._restored.setdefault(target.lower(), None)

    def _respond(self, one: Outcome, incident: str) -> None:
        responses = self._responses.setdefault(_place(one), {})
        later = responses.get(incident)
        restored = later.restored if later is not None else None
        if one.status == "completed":
            restored = one.ended
        responses[incident] = _Response(one.started, restored)

    def are_needed_by(self, one: Outcome) -> bool:
        """Whether something newer says that it restores ``one``."""
        return one.id in self._restored

    def restored(self, one: Outcome) -> int | None:
        """When ``one`` was restored, if that is known."""
        return self._restored.get(one.id)

    def take_incident(self, one: Outcome) -> Incident | None:
        """The incident of which ``one`` is the last in its place before the response.

        Of several, it is the one with the first response.
        """
        if not self._responses:
            return None
        responses = self._responses.get(_place(one), {})
        # Of several responses to an incident, only the first has the deployment before it.
        after = [
            name
            for name, response in responses.items()
            if one.ended <= response.started and name != one.details.restores
        ]
        taken = [(responses.pop(name), name) for name in after]
        if not taken:
            return None
        first, name = min(taken, key=lambda pair: pair[0].started)
        return Incident(project=one.project, name=name, restored=first.restored)


class _Changes:
    """The lead time of each commit, at its first success in each stack."""

    def __init__(self) -> None:
        #: By a hash of stack and commit, which is smaller than both.
        self._found: dict[int, tuple[int, str]] = {}
        #: When the oldest of them was made (ns).
        self._oldest = LATEST

    def deploy(self, one: Outcome) -> bool:
        """Take the commits of a success; return whether it has one with a time."""
        has_time = False
        for commit in one.details.commits:
            if commit.committed is not None:
                has_time = True
                committed = parse_time(commit.committed)
                lead = max(one.ended - committed, 0)
                self._found[hash((one.stack_id, commit.sha))] = lead, one.id
                self._oldest = min(self._oldest, committed)
        return has_time

    def deployed_before(self, one: Outcome) -> None:
        """Drop the commits of a success before the window: they are no longer new in it."""
        if self._found:
            for commit in one.details.commits:
                self._found.pop(hash((one.stack_id, commit.sha)), None)

    def may_be_deployed_before(self, time: int) -> bool:
        """Whether a deployment that ended before ``time`` may have had one of the commits."""
        return bool(self._found) and self._oldest < time

    def lead_times(self) -> list[int]:
        return [lead for lead, _ in self._found.values()]

    def sources(self) -> _Named:
        return _Named(dict.fromkeys(id for _, id in self._found.values()))


class Measurement:
    """Measures from outcomes, which come from new to old, for as long as it ``needs`` more.

    Those after the window may restore what failed in it. Those before it may have deployed its
    commits already, but not before the commits were made.
    """

    def __init__(self, window: Window, rule: ProductionRule) -> None:
        self._window = window
        self._why_left_out = lru_cache(1_000)(partial(_why_left_out, rule))
        self._left_out: Counter[LeftOut] = Counter()
        self._interventions = _Interventions()
        self._changes = _Changes()
        self._with_commit_time = 0
        self._successes = _Named()
        self._success_times = array("q")
        self._failing = _Named()
        self._recoveries = array("q")
        #: Those that count as a deployment's failure; when they began is for the caller to find.
        self.incidents: list[Incident] = []
        self._reworks = _Named()
        #: Failures that nothing has restored.
        self._undecided = 0
        self._counted = 0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take more outcomes, none newer than those before."""
        for one in outcomes:
            reason = self._why_left_out(one.environment, one.details.production, one.operation)
            if reason is None:
                self._add(one)
            elif one.ended in self._window:
                self._left_out[reason] += 1

    def needs(self, before: int) -> bool:
        """Whether what ended before this time (ns) matters, other than that anybody reports."""
        return before >= self._window.since or self._changes.may_be_deployed_before(before)

    @property
    def has_reports(self) -> bool:
        """Whether any deployment says what it restores, or what made it necessary."""
        return self._interventions.are_reported

    def _add(self, one: Outcome) -> None:
        incident = self._interventions.take_incident(one)
        if one.ended in self._window:
            self._count(one, incident)
        elif one.status == "completed" and one.ended < self._window.since:
            self._changes.deployed_before(one)
        self._interventions.note(one)

    def _count(self, one: Outcome, incident: Incident | None) -> None:
        self._counted += 1
        if one.status == "completed":
            self._count_success(one)
        if self._interventions.are_needed_by(one):
            self._failing.add(one.id)
            restored = self._interventions.restored(one)
            if restored is not None:
                self._recoveries.append(restored - one.ended)
        elif incident is not None:
            self._failing.add(one.id)
            self.incidents.append(incident)
        elif one.status == "failed":
            self._undecided += 1

    def _count_success(self, one: Outcome) -> None:
        self._successes.add(one.id)
        self._success_times.append(one.ended)
        self._with_commit_time += self._changes.deploy(one)
        if one.details.restores or one.details.rework_of:
            self._reworks.add(one.id)

    def dora(self, began: Mapping[Incident, int]) -> Dora:
        """The metrics of what was added; ``began`` is when incidents did, as far as known."""
        for incident, time in began.items():
            if incident.restored is not None and incident.restored >= time:
                self._recoveries.append(incident.restored - time)
        return Dora(
            window=self._window,
            counted=self._counted,
            left_out={reason: self._left_out[reason] for reason in _REASONS},
            change_lead_time=self._lead_time(),
            deployment_frequency=self._frequency(),
            failed_deployment_recovery_time=self._recovery_time(),
            change_fail_rate=self._fail_rate(),
            deployment_rework_rate=self._rework_rate(),
        )

    def _lead_time(self) -> Times:
        of, known = self._successes.number, self._with_commit_time
        times, sources = self._changes.lead_times(), self._changes.sources()
        reason = _NO_DEPLOYMENT if not of else None
        if of and known < of:
            reason = f"{of - known} of {of} deployments name no commit with its time"
        elif of and not times:
            reason = "every commit was deployed before the window"
        return Times(
            of=of, known=known, reason=reason, total=sources.number,
            deployments=tuple(sources.ids), durations=durations(times),
        )  # fmt: skip

    def _frequency(self) -> Frequency:
        known, unknown = self._successes.number, self._left_out["production_unknown"]
        reason = None if known else _NO_DEPLOYMENT
        if unknown:
            reason = f"{unknown} deployments name no environment, and do not say where they go"
        times = self._success_times
        return Frequency(
            of=known + unknown, known=known, reason=reason, total=known,
            deployments=tuple(self._successes.ids),
            per_day=known / self._window.days if known else None,
            between=durations([new - old for new, old in pairwise(times)]),
        )  # fmt: skip

    def _recovery_time(self) -> Times:
        of, known = self._failing.number, len(self._recoveries)
        reason = None
        if not of:
            reason = self._why_no_failing()
        elif known < of:
            reason = (
                f"{of - known} of {of} are not restored yet, or led to an incident whose start is"
                " not recorded"
            )
        return Times(
            of=of, known=known, reason=reason, total=of, deployments=tuple(self._failing.ids),
            durations=durations(self._recoveries),
        )  # fmt: skip

    def _why_no_failing(self) -> str:
        if not self._interventions.are_reported:
            return _NOT_REPORTED
        return "no deployment in the window is known to have needed intervention"

    def _fail_rate(self) -> Rate:
        return self._rate(
            self._failing,
            of=self._counted,
            known=self._counted - self._undecided,
            missing=f"{self._undecided} deployments failed, and none says that it restores them",
        )

    def _rework_rate(self) -> Rate:
        number = self._successes.number
        return self._rate(self._reworks, of=number, known=number, missing="")

    def _rate(self, named: _Named, *, of: int, known: int, missing: str) -> Rate:
        """The share of ``named``; without any report, no deployment is known to be good or bad."""
        if of and not self._interventions.are_reported:
            known, missing = 0, _NOT_REPORTED
        reason = _NO_DEPLOYMENT if not of else missing if known < of else None
        return Rate(
            of=of, known=known, reason=reason, total=named.number, deployments=tuple(named.ids),
            rate=named.number / known if known else None,
        )  # fmt: skip


def _why_left_out(
    rule: ProductionRule, environment: str | None, said: bool | None, operation: str | None
) -> LeftOut | None:
    is_production = rule.applies(environment, said)
    if not is_production:
        return "production_unknown" if is_production is None else "not_production"
    if operation in NON_MUTATING_OPERATIONS:
        return "deploys_nothing"
    return "destroys" if operation == "destroy" else None


_NO_DEPLOYMENT = "no deployment to production ended in the window"

_NOT_REPORTED = "no deployment has ever said what it restores, or what made it necessary"


def durations(values: Sequence[int]) -> Durations | None:
    """The number and the percentiles of ``values``, if there are any."""
    if not values:
        return None
    ordered = sorted(values)
    median, p75, p90 = (_percentile(ordered, share) for share in (0.5, 0.75, 0.9))
    return Durations(number=len(ordered), median=median, p75=p75, p90=p90)


def _percentile(ordered: Sequence[int], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _place(one: Outcome) -> _Place:
    return one.stack_id, one.environment


def _is_deployment(target: str) -> bool:
    """Whether ``target`` is the id of a deployment; anything else is an incident."""
    try:
        return str(UUID(target)) == target.lower()
    except ValueError:
        return False
