"""What every backend decides alike: what of an append is new, and what that changes."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.deployments.projection import project
from deploylog.errors import InvalidEvent, RequestReused, StackExists
from deploylog.events.event import Event, NewEvent
from deploylog.events.index.identities import digest_of
from deploylog.events.scope import (
    Scope,
    changeset_scope,
    deployment_scope,
    stack_scope,
    state_scope,
)
from deploylog.events.store import IdempotencyKey
from deploylog.store.admission import (
    Admitted,
    Append,
    Candidate,
    Loaded,
    Outcome,
    Positioned,
    RecordedRequest,
    admit,
    digest_of_identity,
    event_of,
    identity_of,
    lookups,
)
from deploylog.store.catalog import (
    CatalogChanges,
    CatalogRows,
    ChangesetRow,
    EndedChangeset,
    StackRow,
    catalog_lookups,
)
from support.factories import deployment_event, event, new_event, new_events, stack_created

STATE = state_scope("acme", "prod", "web")


def candidate(new: NewEvent) -> Candidate:
    identity = identity_of(new)
    return Candidate(new, identity, digest_of_identity(identity), project(new))


def append(*events: NewEvent, request: IdempotencyKey | None = None) -> Append[Candidate]:
    return Append([candidate(each) for each in events], request)


def admitted(
    *appends: Append[Candidate],
    head: int = 0,
    recorded: int = 0,
    now: int = 1_000,
    events: Sequence[Event] = (),
    requests: Sequence[RecordedRequest] = (),
    answers: Iterable[Event] = (),
    catalog: CatalogRows | None = None,
) -> Admitted[Candidate]:
    loaded = Loaded(
        head=head,
        recorded=recorded,
        events=events,
        requests=requests,
        answers={each.position: each for each in answers},
        catalog=catalog or CatalogRows(),
    )
    return admit(appends, loaded, now=now, prepare=candidate)


def positions(outcome: Outcome) -> list[int]:
    assert isinstance(outcome, list)
    return [entry.position for entry in outcome]


def stack_row(**fields: object) -> StackRow:
    row: dict[str, Any] = {"id": "stack-1", "project": "acme", "name": "web", "is_deleted": False}
    return StackRow(**(row | fields))


def deployment(**fields: object) -> Deployment:
    row: dict[str, Any] = {
        "id": "deployment-1",
        "project": "acme",
        "stack_id": "stack-1",
        "stack": "web",
        "status": "running",
        "started": 1,
        "ended": None,
        "tool": None,
        "operation": "apply",
        "environment": "prod",
        "actor": None,
        "message": None,
        "counts": Counts(),
        "scopes": (deployment_scope("acme", "stack-1", "deployment-1"), STATE),
        "groups": (),
    }
    return Deployment(**(row | fields))


def ended(**fields: Any) -> NewEvent:
    return deployment_event("deployment.completed", time=99, **fields)


# Positions and times


def test_new_events_follow_the_head():
    result = admitted(append(*new_events(2)), append(*new_events(1)), head=7)

    assert [positions(outcome) for outcome in result.outcomes] == [[8, 9], [10]]
    assert [position for position, _ in result.new] == [8, 9, 10]
    assert result.head == 10


def test_times_do_not_fall_when_the_clock_is_set_back():
    assert admitted(append(new_event()), recorded=50, now=40).recorded == 50
    assert admitted(append(new_event()), recorded=50, now=60).recorded == 60


def test_an_entry_stands_for_the_recorded_event():
    old = event(position=3)
    new = new_event()

    assert event_of(old, epoch=1) is old
    found = event_of(Positioned(new, position=4, recorded=5), epoch=1)
    assert (found.position, found.recorded, found.type) == (4, 5, new.type)


# Events that were recorded before


def test_an_event_that_is_recorded_is_not_new():
    old = event(position=3, producer_id="1")

    result = admitted(append(new_event(producer_id="1")), head=3, events=[old])

    assert result.outcomes == [[old]]
    assert (result.new, result.head) == ([], 3)


def test_other_scopes_or_another_source_make_another_event():
    old = event(position=3, producer_id="1")
    others = (
        new_event(producer_id="1", scopes=("project/evil",)),
        new_event(producer_id="1", source="other"),
    )

    assert positions(admitted(append(*others), head=3, events=[old]).outcomes[0]) == [4, 5]


def test_an_event_without_an_id_is_always_new():
    same = new_event()

    assert positions(admitted(append(same, same)).outcomes[0]) == [1, 2]


def test_an_event_twice_in_one_transaction_is_recorded_once():
    same = new_event(producer_id="1")

    result = admitted(append(same, same), append(new_event(), same))

    assert [positions(outcome) for outcome in result.outcomes] == [[1, 1], [2, 1]]


# Requests

KEY = IdempotencyKey(key="k", fingerprint=b"1")


def test_a_request_is_remembered_with_its_positions():
    result = admitted(append(new_event(), new_event(), request=KEY), head=4)

    assert result.requests == [RecordedRequest("k", b"1", [5, 6])]


def test_a_retry_is_answered_as_the_request_was():
    before = [event(position=3), event(position=4)]

    result = admitted(
        append(new_event(), new_event(), request=KEY),
        head=4,
        requests=[RecordedRequest("k", b"1", [3, 4])],
        answers=before,
    )

    assert result.outcomes == [before]
    assert (result.new, result.requests) == ([], [])


def test_a_retry_in_the_same_transaction_is_answered_likewise():
    old = event(position=2, producer_id="1")
    first = append(new_event(producer_id="1"), new_event(), request=KEY)

    result = admitted(first, append(old, new_event(), request=KEY), head=2, events=[old])

    assert [positions(outcome) for outcome in result.outcomes] == [[2, 3], [2, 3]]
    assert len(result.requests) == 1


def test_what_was_pruned_since_is_recorded_again():
    result = admitted(
        append(new_event(), new_event(), request=KEY),
        head=4,
        requests=[RecordedRequest("k", b"1", [3, 4])],
        answers=[event(position=4)],
    )

    assert positions(result.outcomes[0]) == [5, 4]
    assert result.requests == [RecordedRequest("k", b"1", [5, 4])]


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_key_of_another_request_is_refused(is_stored: bool):
    other = IdempotencyKey(key="k", fingerprint=b"2")
    before = [RecordedRequest("k", b"1", [3])] if is_stored else []

    result = admitted(
        append(new_event(), request=KEY),
        append(new_event(), request=other),
        head=3,
        requests=before,
        answers=[event(position=3)] if is_stored else [],
    )

    assert isinstance(result.outcomes[1], RequestReused)
    assert result.head == (3 if is_stored else 4)


# Stacks


def test_a_stack_is_new():
    [stack] = admitted(append(stack_created())).catalog.new_stacks

    assert (stack.id, stack.name, stack.deleted) == ("stack-1", "web", None)


@pytest.mark.parametrize(
    "row", [stack_row(id="other"), stack_row(name="other"), stack_row(is_deleted=True)]
)
def test_a_name_or_an_id_that_is_taken_is_refused(row: StackRow):
    result = admitted(
        append(new_event(), stack_created()),
        append(new_event()),
        catalog=CatalogRows(stacks=[row]),
    )

    assert isinstance(result.outcomes[0], StackExists)
    assert positions(result.outcomes[1]) == [1]
    assert result.catalog.new_stacks == ()


def test_the_name_of_a_deleted_stack_is_free():
    deleted = stack_row(id="other", is_deleted=True)

    result = admitted(append(stack_created()), catalog=CatalogRows(stacks=[deleted]))

    assert positions(result.outcomes[0]) == [1]


def test_a_name_is_taken_within_a_transaction_and_within_an_append():
    first, second = stack_created(id="1"), stack_created(id="2")

    apart = admitted(append(first), append(second))
    together = admitted(append(first, second), append(second))

    assert [isinstance(outcome, StackExists) for outcome in apart.outcomes] == [False, True]
    assert [isinstance(outcome, StackExists) for outcome in together.outcomes] == [True, False]
    assert [stack.id for stack in together.catalog.new_stacks] == ["2"]


def test_a_name_that_is_given_up_is_free_in_the_next_transaction():
    deleted = new_event("stack.deleted", scopes=(stack_scope("acme", "stack-1"),), time=9)

    result = admitted(
        append(deleted), append(stack_created(id="2")), catalog=CatalogRows(stacks=[stack_row()])
    )

    assert isinstance(result.outcomes[1], StackExists)
    assert result.catalog.deleted_stacks == [("stack-1", 9)]


def test_the_first_deletion_counts_and_only_in_the_project_of_the_stack():
    theirs, mine, again = (
        new_event("stack.deleted", scopes=(stack_scope(project, "stack-1"),), time=time)
        for project, time in (("evil", 1), ("acme", 2), ("acme", 3))
    )

    result = admitted(append(theirs, mine, again), catalog=CatalogRows(stacks=[stack_row()]))

    assert result.catalog.deleted_stacks == [("stack-1", 2)]


def test_a_stack_may_come_and_go_in_one_transaction():
    deleted = new_event("stack.deleted", scopes=(stack_scope("acme", "stack-1"),), time=9)

    result = admitted(append(stack_created(), deleted))

    assert [stack.deleted for stack in result.catalog.new_stacks] == [9]
    assert result.catalog.deleted_stacks == []


# Deployments


def test_a_deployment_starts_in_a_stored_stack_or_a_new_one():
    there = admitted(
        append(deployment_event("deployment.started")), catalog=CatalogRows(stacks=[stack_row()])
    )
    new = admitted(append(stack_created(), deployment_event("deployment.started")))

    assert [each.stack for each in there.catalog.new_deployments] == ["web"]
    assert [each.stack for each in new.catalog.new_deployments] == ["web"]


@pytest.mark.parametrize("rows", [[], [stack_row(project="other")]])
def test_a_deployment_in_a_stack_that_its_project_does_not_have_is_refused(rows: list[StackRow]):
    result = admitted(
        append(deployment_event("deployment.started")), catalog=CatalogRows(stacks=rows)
    )

    assert isinstance(result.outcomes[0], InvalidEvent)
    assert (result.head, result.catalog.new_deployments) == (0, [])


def test_a_deployment_starts_once():
    rows = CatalogRows(stacks=[stack_row()], deployments=[deployment()])

    result = admitted(append(deployment_event("deployment.started")), catalog=rows)

    assert positions(result.outcomes[0]) == [1]
    assert result.catalog.new_deployments == []


def test_the_first_end_of_a_deployment_counts():
    result = admitted(
        append(ended(message="done"), deployment_event("deployment.failed")),
        catalog=CatalogRows(deployments=[deployment()]),
    )

    [row] = result.catalog.changed_deployments
    assert (row.status, row.ended, row.message, row.operation) == ("completed", 99, "done", "apply")


@pytest.mark.parametrize(
    "other",
    [deployment(ended=1), deployment(project="other"), deployment(stack_id="other")],
)
def test_an_end_changes_no_other_deployment(other: Deployment):
    result = admitted(append(ended()), catalog=CatalogRows(deployments=[other]))

    assert result.catalog.changed_deployments == []
    assert result.head == 1


def test_the_message_of_an_end_is_for_its_groups_only():
    result = admitted(
        append(ended(message="secret", groups=("ops",))),
        catalog=CatalogRows(deployments=[deployment()]),
    )

    assert [each.message for each in result.catalog.changed_deployments] == [None]


def test_an_end_names_the_operation_that_the_start_did_not():
    result = admitted(
        append(ended(data={"operation": "destroy"})),
        catalog=CatalogRows(deployments=[deployment(operation=None)]),
    )

    assert [each.operation for each in result.catalog.changed_deployments] == ["destroy"]


def test_a_deployment_may_start_and_end_in_one_transaction():
    result = admitted(append(stack_created(), deployment_event("deployment.started"), ended()))

    assert [each.status for each in result.catalog.new_deployments] == ["completed"]
    assert result.catalog.changed_deployments == []


def test_counts_are_summed_by_deployment_and_groups():
    created = deployment_event("resource.create.completed")
    hidden = deployment_event("resource.create.failed", groups=("ops",))

    result = admitted(append(created, created), append(hidden))

    counted = {groups: counts for (_, groups), counts in result.catalog.counted.items()}
    assert counted == {(): {"added": 2}, ("ops",): {"failed": 1}}


# States


def test_the_end_of_a_deployment_is_followed_by_what_became_of_its_state():
    result = admitted(
        append(ended()), append(new_event()), catalog=CatalogRows(deployments=[deployment()])
    )

    [_, _, (position, own)] = result.new
    assert (position, own.event.type) == (3, "state.deployment.created")
    assert result.catalog.states == (STATE,)
    assert [positions(outcome) for outcome in result.outcomes] == [[1], [2]]


@pytest.mark.parametrize(("added", "word"), [(0, "redeployed"), (1, "updated")])
@pytest.mark.parametrize("is_stored", [True, False])
def test_the_counts_say_what_became_of_a_known_state(added: int, word: str, is_stored: bool):
    row = deployment(counts=Counts(added=added if is_stored else 0))
    created = [] if is_stored else [deployment_event("resource.create.completed")] * added

    result = admitted(
        append(ended(), *created), catalog=CatalogRows(deployments=[row], states=[STATE])
    )

    assert result.new[-1][1].event.type == f"state.deployment.{word}"


def test_of_two_deployments_that_end_at_once_the_first_creates_the_state():
    scopes = (deployment_scope("acme", "stack-1", "deployment-2"), STATE)
    rows = [deployment(), deployment(id="deployment-2", scopes=scopes)]

    result = admitted(
        append(ended()), append(ended(id="deployment-2")), catalog=CatalogRows(deployments=rows)
    )

    words = [each.event.type.rpartition(".")[2] for _, each in result.new[2:]]
    assert words == ["created", "redeployed"]


def test_what_became_of_a_state_is_recorded_once():
    known = event(
        position=1,
        type="state.deployment.created",
        source="deploylog",
        producer_id="deployment-1/state",
        scopes=deployment().scopes,
    )

    result = admitted(
        append(ended()), head=1, events=[known], catalog=CatalogRows(deployments=[deployment()])
    )

    assert [each.event.type for _, each in result.new] == ["deployment.completed"]


# Change sets

SCOPES = (changeset_scope("c1"), Scope("project/acme"))


def test_the_first_end_of_a_change_set_counts():
    completed, failed = (
        new_event(type, scopes=SCOPES, time=5, message="m")
        for type in ("changeset.completed", "changeset.failed")
    )
    rows = CatalogRows(changesets=[ChangesetRow("c1", SCOPES, ())])

    result = admitted(append(completed, failed), catalog=rows)

    assert result.catalog.ended_changesets == [EndedChangeset("c1", "staged", 5, "m")]


def test_a_change_set_ends_in_its_own_scopes_and_with_a_message_for_its_own_groups():
    elsewhere = new_event("changeset.completed", scopes=(changeset_scope("c1"),))
    completed = new_event("changeset.completed", scopes=SCOPES, message="m", time=5)
    rows = CatalogRows(changesets=[ChangesetRow("c1", SCOPES, ("ops",))])

    result = admitted(append(elsewhere, completed), catalog=rows)

    assert result.catalog.ended_changesets == [EndedChangeset("c1", "staged", 5, None)]


# Lookups


def test_lookups_name_the_rows_that_decide():
    found = lookups(
        [
            append(new_event(producer_id="1"), new_event(), request=KEY),
            append(stack_created(), deployment_event("deployment.started"), ended()),
            append(new_event("changeset.completed", scopes=SCOPES)),
        ]
    )

    assert found.digests == [
        digest_of("terraform", "1"),
        digest_of("deploylog", "deployment-1/state"),
    ]
    assert found.requests == ["k"]
    assert found.catalog.stacks == ("stack-1",)
    assert found.catalog.names == (("acme", "web"),)
    assert found.catalog.deployments == ("deployment-1",)
    assert found.catalog.changesets == ("c1",)


def test_counts_need_no_lookup():
    counted = project(deployment_event("resource.create.completed"))

    assert counted is not None
    assert catalog_lookups([counted]) == catalog_lookups([])


def test_changes_can_be_replayed_without_a_check():
    changes = CatalogChanges(CatalogRows())
    started = project(deployment_event("deployment.started"))
    end = project(ended())

    assert started is not None
    assert end is not None
    changes.replay([started, end])

    assert [each.status for each in changes.writes().new_deployments] == ["completed"]
