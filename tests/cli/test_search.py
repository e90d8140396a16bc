"""Full text, exclusion, counts and histories on the command line, against the real service."""

import json
from pathlib import Path

import pytest

from deploylog.store.contract import Store
from support.cli import Cli, line_with
from support.servers import Local, line, running
from support.subscribers import encryption_key_file

WEB = {"resourcetype": "aws_instance", "resourcename": "web", "resourceaddress": "aws_instance.web"}
INSTANCE = WEB | {"resourceidkey": "id", "resourceidvalue": "i-0abc"}

ROWS = (
    line("resource.create.started", subject="1", actor="alice", **WEB),
    line("resource.create.completed", subject="2", actor="alice", message="in 3s", **INSTANCE),
    line("deployment.log", subject="3", actor="ci", message="access denied: timeout"),
    line("resource.delete.failed", subject="4", message="denied access", **INSTANCE,
         scopes="project/other"),
)  # fmt: skip


@pytest.fixture
def cli(server: Local, tmp_path: Path) -> Cli:
    return Cli(tmp_path, server.url)


async def subjects(cli: Cli, *command: str) -> str:
    result = await cli(*command, "--jq", ".subject")
    assert (result.code, result.err) == (0, "")
    return result.out.replace("\n", "")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["timeout"], "3"),
        (["access", "DENIED"], "34"),
        (['"access denied"'], "3"),
        (["i-0abc", "--type", "resource.create.*"], "2"),
        (["aws_instance.web"], "124"),
        (["--not", "type=deployment.log", "--not", "type=resource.create.*"], "4"),
        (["--not", "actor=alice", "denied"], "34"),
        (["--resource-address", "aws_instance.web", "--scope", "project/acme"], "12"),
        (["--resource-id", "i-0abc"], "24"),
        (["--not", "resource-id=i-0abc"], "13"),
    ],
)
async def test_events_are_found_and_counted(cli: Cli, server: Local, given: list[str], found: str):
    await server.append(ROWS)

    listed = await subjects(cli, "events", "--order", "oldest", *given)
    counted = await cli("events", "--count", *given)

    assert listed == found
    assert (counted.code, counted.out) == (0, f"{len(found)}\n")


async def test_counts_and_facets_have_a_table_and_json(cli: Cli, server: Local):
    await server.append(ROWS)

    table = await cli("events", "--top", "actor")
    as_json = await cli("events", "--top", "resource-type", "--limit", "1", "--json")
    count = await cli("events", "--count", "--json")

    assert [row.split() for row in table.out.splitlines()] == [
        ["ACTOR", "EVENTS"],
        ["alice", "2"],
        ["ci", "1"],
    ]
    assert json.loads(as_json.out) == {"value": "aws_instance", "count": 3}
    assert json.loads(count.out) == {"count": 4}


@pytest.mark.parametrize(
    ("resource", "found"),
    [("aws_instance.web", "124"), ("i-0abc", "24"), ("web", ""), ("i-0", "")],
)
async def test_a_history_is_all_of_a_resource_oldest_first(
    cli: Cli, server: Local, resource: str, found: str
):
    await server.append(ROWS)

    assert await subjects(cli, "history", resource) == found


async def test_a_history_has_more_than_a_page_and_can_be_limited(cli: Cli, server: Local):
    await server.append([line("a", subject="x", **WEB)] * 1_001)

    assert len(await subjects(cli, "history", "aws_instance.web")) == 1_001
    assert len(await subjects(cli, "history", "aws_instance.web", "--limit", "7")) == 7


async def test_a_tail_shows_only_what_its_words_find(cli: Cli, server: Local):
    await server.append(ROWS)

    process = await cli.start("tail", '"access denied"', "--from", "start", "--json")
    first = await line_with(process.stdout, "subject")
    await server.append(
        [line("a", subject="5", message="none"), line("a", message="ACCESS denied")]
    )
    second = await line_with(process.stdout, "{")
    process.kill()
    await process.communicate()

    assert json.loads(first)["subject"] == "3"
    assert json.loads(second)["message"] == "ACCESS denied"


async def test_how_events_were_found_is_logged(cli: Cli, server: Local):
    await server.append(ROWS)

    result = await cli("events", '"access denied"', "--explain", "--json")

    assert json.loads(result.out)["subject"] == "3"
    assert "searched 1 segments" in result.err
    assert "read 2 rows, of which 1 did not match" in result.err


@pytest.mark.parametrize(
    "given",
    [
        ["--not", "colour=red"],
        ["--not", "type"],
        ["--not", "type="],
        ["--top", "message"],
        ["--top", "actor", "--count"],
    ],
)
async def test_an_option_without_a_meaning_is_a_usage_error(
    cli: Cli, server: Local, given: list[str]
):
    result = await cli("events", *given)

    assert result.code == 2


async def test_a_text_that_cannot_be_searched_for_is_an_error(cli: Cli, server: Local):
    result = await cli("events", '"open')

    assert (result.code, result.out) == (1, "")
    assert "q has a quotation mark without its partner" in result.err


async def test_a_subscription_has_a_text_and_exclusions(store: Store, tmp_path: Path):
    (tmp_path / "hook.url").write_text("https://hooks.example.com/x")
    async with running(store, secret_key_file=encryption_key_file(tmp_path)) as server:
        cli = Cli(tmp_path, server.url)

        added = await cli(
            "subscriptions", "add", "ops", "--url-file", "hook.url", "--text", '"access denied" x*',
            "--not", "actor=ci", "--not", "type=deployment.*", "--resource-id", "i-1", "--json",
        )  # fmt: skip
        id = json.loads(added.out)["id"]
        shown = await cli("subscriptions", "show", id)
        changed = await cli("subscriptions", "change", id, "--text", "timeout", "--json")

    assert json.loads(added.out)["filter"] == {
        "resourceid": ["i-1"],
        "q": '"access denied" x*',
        "not": {"actor": ["ci"], "type": ["deployment.*"]},
    }
    assert 'resourceid=i-1 q="access denied" x* type!=deployment.* actor!=ci' in shown.out
    assert json.loads(changed.out)["filter"] == {"q": "timeout"}
