"""DORA's metrics, by hand and by machine."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.deployments.catalog import Outcome
from deploylog.deployments.details import Commit, Details
from deploylog.deployments.dora import DAY, NAMED, Dora, Measurement, Window, durations
from deploylog.deployments.production import parse_patterns
from deploylog.events.times import SECOND

MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND

#: The window begins here and lasts ten days.
START = 20_000 * DAY
WINDOW = Window(since=START, until=START + 10 * DAY)

_numbers = count(1)


def uuid(number: int) -> str:
    return str(UUID(int=number))


def commit(sha: str, *, at: int) -> Commit:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at // 1_000)
    return Commit(sha=sha.ljust(7, "0"), committed=time.isoformat())


def outcome(
    at: int,
    *,
    id: int | None = None,
    status: str = "completed",
    environment: str | None = "prod",
    operation: str | None = None,
    stack: str = "web",
    lasted: int = MINUTE,
    **details: object,
) -> Outcome:
    """A deployment that ended at ``at``, counted from the start of the window."""
    number = next(_numbers)
    return Outcome(
        number=number,
        id=uuid(id if id is not None else 1_000 + number),
        project="acme",
        stack_id=stack,
        status=status,  # type: ignore[arg-type]
        started=START + at - lasted,
        ended=START + at,
        operation=operation,
        environment=environment,
        details=Details(**details),  # type: ignore[arg-type]
    )


def measure(*outcomes: Outcome, began: Mapping[str, int] | None = None) -> Dora:
    """The metrics; ``began`` is when incidents did, counted from the start of the window."""
    measurement = Measurement(WINDOW, parse_patterns("prod"))
    measurement.add(sorted(outcomes, key=lambda one: (one.ended, one.number), reverse=True))
    times = began or {}
    known = {each: START + times[each.name] for each in measurement.incidents if each.name in times}
    return measurement.dora(known)


#: So that what is restored is known to be reported.
REPORT = outcome(-300 * DAY, rework_of="INC-0")


def test_what_fails_and_is_restored_is_measured_from_its_end_to_the_end_of_what_restores_it():
    failed = outcome(1 * DAY, id=1, status="failed")
    restoring = outcome(1 * DAY + HOUR, restores=uuid(1))
    good = outcome(2 * DAY)

    dora = measure(failed, restoring, good)

    recovery = dora.failed_deployment_recovery_time
    assert recovery.durations is not None
    assert (recovery.durations.number, recovery.durations.median) == (1, HOUR)
    assert recovery.deployments == (uuid(1),)
    assert (dora.change_fail_rate.rate, dora.change_fail_rate.known) == (1 / 3, 3)
    assert (dora.deployment_rework_rate.rate, dora.deployment_rework_rate.total) == (1 / 2, 1)
    assert dora.deployment_rework_rate.deployments == (restoring.id,)
    assert (dora.counted, dora.deployment_frequency.per_day) == (3, 2 / 10)


def test_a_success_that_is_restored_needed_intervention_too():
    dora = measure(outcome(DAY, id=1), outcome(DAY + MINUTE, restores=uuid(1).upper()))

    assert dora.change_fail_rate.rate == 1 / 2
    assert dora.change_fail_rate.deployments == (uuid(1),)


def test_the_first_success_that_restores_ends_the_recovery():
    dora = measure(
        outcome(DAY, id=1, status="failed"),
        outcome(DAY + HOUR, status="failed", restores=uuid(1)),
        outcome(DAY + 2 * HOUR, restores=uuid(1)),
        outcome(DAY + 3 * HOUR, restores=uuid(1)),
    )

    found = dora.failed_deployment_recovery_time.durations
    assert found is not None
    assert (found.number, found.median) == (1, 2 * HOUR)


def test_a_recovery_after_the_window_counts():
    dora = measure(outcome(9 * DAY, id=1, status="failed"), outcome(11 * DAY, restores=uuid(1)))

    found = dora.failed_deployment_recovery_time.durations
    assert found is not None
    assert found.median == 2 * DAY
    assert dora.counted == 1


def test_a_failure_that_nothing_restores_is_unknown_and_no_share_of_the_rate():
    dora = measure(REPORT, outcome(DAY), outcome(2 * DAY, status="failed"))

    rate = dora.change_fail_rate
    assert (rate.rate, rate.known, rate.of, rate.known_share) == (0.0, 1, 2, 0.5)
    assert rate.reason == "1 deployments failed, and none says that it restores them"
    assert dora.failed_deployment_recovery_time.durations is None


def test_a_failure_that_only_failures_restore_has_not_recovered():
    dora = measure(
        outcome(DAY, id=1, status="failed"),
        outcome(2 * DAY, status="failed", restores=uuid(1)),
    )

    recovery = dora.failed_deployment_recovery_time
    assert (recovery.of, recovery.known, recovery.durations) == (1, 0, None)
    assert "not restored yet" in (recovery.reason or "")


def test_an_incident_counts_against_the_deployment_before_its_response():
    dora = measure(
        outcome(DAY, id=1),
        outcome(2 * DAY, id=2),
        outcome(2 * DAY, id=3, stack="api"),
        outcome(3 * DAY, id=4, restores="INC-7"),
        outcome(4 * DAY, id=5, restores="INC-7"),
    )

    assert dora.change_fail_rate.deployments == (uuid(2),)
    assert dora.failed_deployment_recovery_time.known == 0
    assert dora.deployment_rework_rate.deployments == (uuid(5), uuid(4))


def test_the_recovery_from_an_incident_begins_with_the_incident():
    dora = measure(
        outcome(DAY, id=1),
        outcome(3 * DAY, status="failed", restores="INC-7"),
        outcome(3 * DAY + HOUR, restores="INC-7"),
        outcome(4 * DAY, restores="INC-7"),
        began={"INC-7": 3 * DAY - HOUR},
    )

    recovery = dora.failed_deployment_recovery_time
    assert (recovery.of, recovery.known, recovery.reason) == (1, 1, None)
    assert recovery.durations is not None
    assert recovery.durations.median == 2 * HOUR


def test_an_incident_that_begins_after_its_end_is_unknown():
    dora = measure(outcome(DAY), outcome(2 * DAY, restores="INC-7"), began={"INC-7": 3 * DAY})

    assert dora.failed_deployment_recovery_time.known == 0


def test_two_incidents_after_one_deployment_count_once():
    dora = measure(
        outcome(DAY, id=1),
        outcome(2 * DAY, id=2, restores="INC-1", lasted=DAY),
        outcome(3 * DAY, id=3, restores="INC-2", lasted=2 * DAY),
    )

    assert dora.change_fail_rate.deployments == (uuid(1),)


def test_rework_alone_does_not_say_that_something_failed():
    dora = measure(outcome(DAY, id=1), outcome(2 * DAY, rework_of=uuid(1)))

    assert (dora.change_fail_rate.rate, dora.deployment_rework_rate.rate) == (0.0, 1 / 2)


def test_without_any_report_rates_are_unknown():
    dora = measure(outcome(DAY), outcome(2 * DAY))

    for rate in (dora.change_fail_rate, dora.deployment_rework_rate):
        assert (rate.rate, rate.known, rate.of) == (None, 0, 2)
        assert (
            rate.reason == "no deployment has ever said what it restores, or what made it necessary"
        )
    assert dora.failed_deployment_recovery_time.reason == dora.change_fail_rate.reason


def test_lead_times_are_those_of_commits():
    dora = measure(
        outcome(2 * DAY, id=1, commits=(commit("a", at=START), commit("b", at=START + DAY))),
        outcome(3 * DAY, id=2, commits=(commit("c", at=START),)),
        outcome(4 * DAY, id=3),
    )

    lead = dora.change_lead_time
    assert lead.durations is not None
    assert (lead.durations.number, lead.durations.median) == (3, 2 * DAY)
    assert (lead.of, lead.known) == (3, 2)
    assert lead.reason == "1 of 3 deployments name no commit with its time"
    assert lead.deployments == (uuid(2), uuid(1))


def test_a_commit_that_is_deployed_again_is_no_new_change():
    old, new = commit("a", at=START - 5 * DAY), commit("b", at=START)
    dora = measure(
        outcome(-DAY, commits=(old,)),
        outcome(DAY, commits=(old,)),
        outcome(2 * DAY, commits=(new, old)),
        outcome(3 * DAY, commits=(new,)),
        outcome(3 * DAY, stack="api", commits=(new,)),
    )

    found = dora.change_lead_time.durations
    assert found is not None
    assert (found.number, found.median) == (2, 2.5 * DAY)


def test_a_commit_that_failed_to_deploy_before_is_new_when_it_succeeds():
    new = commit("a", at=START)
    dora = measure(outcome(-DAY, status="failed", commits=(new,)), outcome(DAY, commits=(new,)))

    found = dora.change_lead_time.durations
    assert found is not None
    assert found.median == DAY


def test_only_deployments_to_production_count_that_deploy_something():
    dora = measure(
        outcome(DAY),
        outcome(DAY, environment="dev"),
        outcome(DAY, environment=None),
        outcome(DAY, environment=None, production=True),
        outcome(DAY, production=False),
        outcome(DAY, operation="plan"),
        outcome(DAY, operation="destroy"),
        outcome(-DAY, environment="dev"),
    )

    assert dora.counted == 2
    assert dora.left_out == {
        "not_production": 2, "production_unknown": 1, "deploys_nothing": 1, "destroys": 1,
    }  # fmt: skip
    frequency = dora.deployment_frequency
    assert (frequency.of, frequency.known, frequency.per_day) == (3, 2, 0.2)
    assert frequency.reason is not None


def test_time_between_deployments_is_from_success_to_success():
    dora = measure(
        outcome(DAY), outcome(2 * DAY), outcome(3 * DAY, status="failed"), outcome(5 * DAY)
    )

    between = dora.deployment_frequency.between
    assert between is not None
    assert (between.number, between.median) == (2, 2 * DAY)


def test_of_nothing_everything_is_unknown():
    dora = measure()

    for figure in (
        dora.change_lead_time, dora.deployment_frequency, dora.change_fail_rate,
        dora.deployment_rework_rate,
    ):  # fmt: skip
        assert figure.reason == "no deployment to production ended in the window"
    assert dora.change_lead_time.durations is None
    assert dora.deployment_frequency.per_day is None
    assert dora.change_fail_rate.rate is dora.deployment_rework_rate.rate is None


def test_the_window_has_its_start_and_not_its_end():
    assert measure(outcome(0), outcome(10 * DAY)).counted == 1


def test_a_figure_names_its_newest_deployments():
    dora = measure(*(outcome(hour * HOUR, id=hour) for hour in range(1, NAMED + 3)))

    named = dora.deployment_frequency
    assert (named.total, len(named.deployments)) == (NAMED + 2, NAMED)
    assert named.deployments[0] == uuid(NAMED + 2)


@pytest.mark.parametrize(
    ("values", "median", "p75", "p90"),
    [([5], 5, 5, 5), ([1, 3], 2, 2.5, 2.8), ([4, 1, 3, 2, 5], 3, 4, 4.6)],
)
def test_percentiles_are_interpolated(values: list[int], median: float, p75: float, p90: float):
    found = durations(values)

    assert found is not None
    assert (found.median, found.p75, found.p90) == pytest.approx((median, p75, p90))


def test_nothing_is_needed_from_before_the_oldest_commit_of_the_window():
    measurement = Measurement(WINDOW, parse_patterns("prod"))
    measurement.add([outcome(DAY, commits=(commit("4be3708", at=START - 3 * DAY),))])

    needs = [measurement.needs(START + days * DAY) for days in (1, 0, -2, -3, -4)]

    assert needs == [True, True, True, False, False]


def test_without_commits_nothing_is_needed_from_before_the_window():
    measurement = Measurement(WINDOW, parse_patterns("prod"))
    measurement.add([outcome(DAY)])

    assert [measurement.needs(START), measurement.needs(START - 1)] == [True, False]


@given(
    st.lists(
        st.tuples(
            st.integers(-40, 12), st.integers(0, 5), st.sampled_from(["completed", "failed"])
        ),
        max_size=30,
    )
)
def test_what_is_not_needed_changes_no_figure(story: list[tuple[int, int, str]]):
    made = [START + days * DAY for days in (-45, -30, -10, -1, 2, 5)]
    outcomes = sorted(
        (
            outcome(
                days * DAY, status=status, rework_of="INC-1",
                commits=tuple(
                    commit(f"{number:07}", at=at)
                    for number, at in enumerate(made) if number <= some and at <= START + days * DAY
                ),
            )
            for days, some, status in story
        ),
        key=lambda one: (one.ended, one.number), reverse=True,
    )  # fmt: skip
    whole, needed = (Measurement(WINDOW, parse_patterns("prod")) for _ in range(2))

    whole.add(outcomes)
    for one in outcomes:
        needed.add([one])
        if not needed.needs(one.ended):
            break

    if needed.has_reports:
        assert needed.dora({}) == whole.dora({})
