"""Listings: what a narrow screen leaves out, and what it never cuts."""

from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.text import Text

from deploylog.cli.terminal.formatting import (
    changeset_table,
    deployment_table,
    event_table,
    stack_table,
)
from deploylog.cli.terminal.table import Column, Listing
from deploylog.client import ChangesetState, DeploymentState, LoggedEvent, StackState
from deploylog.client.models import Place
from deploylog.deployments.catalog import Counts
from deploylog.deployments.changeset import ChangeCounts
from deploylog.deployments.details import Commit

ID = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STATE = {"id": ID, "project": "acme", "stack": "web", "actor": "alice"}


def deployments(**fields: object) -> Listing:
    state = {"stack_id": ID, "status": "completed", "operation": "apply", **STATE, **fields}
    return deployment_table([
        DeploymentState(started=NOON, ended=NOON, counts=Counts(added=9), **state)  # type: ignore[arg-type]
    ])  # fmt: skip


def changesets(**fields: object) -> Listing:
    state = {"status": "staged", "location": "every-action.json", **STATE, **fields}
    return changeset_table([
        ChangesetState(
            destroy=False, tool="terraform", created=NOON, totals=ChangeCounts(create=1), **state  # type: ignore[arg-type]
        )
    ])  # fmt: skip


def stacks(**fields: object) -> Listing:
    state = {"project": "acme", "name": "web", **fields}
    return stack_table([StackState(id=ID, created=NOON, **state)])  # type: ignore[arg-type]


LISTINGS = {"deployments": deployments, "changesets": changesets, "stacks": stacks}

#: What a listing shows of an id.
SHOWN_IDS = {"deployments": ID[:8], "changesets": ID, "stacks": ID}


def rendered_table(
    listing: Listing, *, width: int, terminal: bool = True, wide: bool = False
) -> list[str]:
    console = Console(width=width, force_terminal=terminal, color_system=None, highlight=False)
    with console.capture() as captured:
        listing.print(console, wide=wide)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("name", LISTINGS)
def test_a_row_fits_on_a_terminal_of_80_columns(name: str):
    header, row = rendered_table(LISTINGS[name](), width=80)

    assert max(len(header), len(row)) <= 80
    # The project of a deployment is less than its stack, its environment and its version.
    names = {"web"} if name == "deployments" else {"acme", "web"}
    assert {SHOWN_IDS[name], *names} <= set(row.split())


@pytest.mark.parametrize("name", LISTINGS)
def test_an_id_is_whole_on_any_terminal(name: str):
    assert any(SHOWN_IDS[name] in line for line in rendered_table(LISTINGS[name](), width=20))


@pytest.mark.parametrize("name", LISTINGS)
def test_what_is_not_for_a_terminal_is_whole(name: str):
    field = "name" if name == "stacks" else "stack"

    lines = rendered_table(LISTINGS[name](**{field: "x" * 500}), width=80, terminal=False)

    assert len(lines) == 2
    assert "x" * 500 in lines[1]


def test_a_wide_terminal_shows_every_column():
    header, row = rendered_table(deployments(), width=200)

    assert header.split() == [
        "ID", "STACK", "ENVIRONMENT", "VERSION", "COMMIT", "STATUS", "STARTED", "ENDED", "ACTOR",
        "TOOL", "OPERATION", "COUNTS", "PROJECT",
    ]  # fmt: skip
    assert row.count("2026-11-21 12:00:00Z") == 2


def test_a_wide_listing_shows_every_column_on_any_terminal():
    narrow = rendered_table(deployments(), width=80, wide=True)

    assert narrow == rendered_table(deployments(), width=200)


def test_minor_columns_go_first():
    listing = Listing(Column(name="A", rank=2), Column(name="ID", rank=0), Column(name="B", rank=1))
    listing.add("a" * 10, "i" * 10, "b" * 10)

    assert rendered_table(listing, width=22)[1] == f"{'i' * 10}  {'b' * 10}"


def test_a_cell_is_broken_between_words():
    listing = Listing(Column(name="ID", rank=0), Column(name="GRANTS", rank=1, wraps=True))
    listing.add("i", "read:project/acme write:project/acme")

    assert rendered_table(listing, width=22) == [
        "ID  GRANTS", "i   read:project/acme", "    write:project/acme"
    ]  # fmt: skip


def test_a_word_without_end_does_not_drive_its_column_out():
    listing = Listing(Column(name="ID", rank=0), Column(name="SAID", rank=1, wraps=True))
    listing.add("i", "x" * 100)

    assert rendered_table(listing, width=40)[1] == f"i   {'x' * 36}"


def test_a_message_of_an_event_takes_the_lines_it_needs():
    event = LoggedEvent(
        id="1", source="s", type="deployment.log", time=NOON, message="many words " * 20
    )

    lines = rendered_table(event_table([(event, Place())]), width=80)

    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()).count("many words") == 20


def test_a_style_stays():
    listing = Listing(Column(name="STATUS", rank=0))

    listing.add(Text("[failed]", style="red"))

    assert rendered_table(listing, width=80) == ["STATUS", "[failed]"]


def test_a_column_without_any_value_leaves_its_room_to_others():
    shown = rendered_table(deployments(environment="prod"), width=80)
    wide = rendered_table(deployments(environment="prod"), width=80, wide=True)

    assert shown[0].split() == [
        "ID", "STACK", "ENVIRONMENT", "STATUS", "STARTED", "ACTOR", "COUNTS",
    ]  # fmt: skip
    assert "VERSION" in wide[0]


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (None, ["COMMIT", "STATUS", "STARTED", "ACTOR"]),
        ("1.4.2", ["VERSION", "STATUS", "STARTED", "ACTOR"]),
    ],
)
def test_a_narrow_terminal_shows_the_version_or_else_the_commit(
    version: str | None, shown: list[str]
):
    committed = deployments(
        environment="prod", version=version, commits=(Commit(sha="1a2b3c4d" * 5),)
    )

    header, _ = rendered_table(committed, width=80)

    assert header.split() == ["ID", "STACK", "ENVIRONMENT", *shown]


def test_the_name_of_the_stack_is_not_repeated_beside_it():
    ended = LoggedEvent(
        id="1", source="s", type="deployment.completed", time=NOON, subject="web",
        message="terraform ended with exit code 0",
    )  # fmt: skip
    changed = LoggedEvent(
        id="2", source="s", type="resource.update.completed", time=NOON, resourceaddress="aws_vpc.a"
    )
    place = Place(stack="web")

    alone = rendered_table(event_table([(ended, place)]), width=80)
    both = rendered_table(event_table([(ended, place), (changed, place)]), width=200)

    assert alone[0].split() == ["TIME", "TYPE", "STACK", "MESSAGE"]
    assert both[1].split()[:5] == [
        "2026-11-21",
        "12:00:00Z",
        "deployment.completed",
        "web",
        "terraform",
    ]
    assert "aws_vpc.a" in both[2]
