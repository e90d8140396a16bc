"""What a deployment carries: what is accepted, what is refused by name, and what an end adds."""

import json
from typing import Any

import msgspec
import pytest

from deploylog.deployments.details import (
    MAX_ITEMS,
    MAX_LABELS,
    Commit,
    Details,
    check_details,
    completed,
    decode_named,
    details_json,
    includes,
    parse_details,
)
from deploylog.deployments.service import NewDeployment
from deploylog.errors import InvalidInput

WHOLE: dict[str, Any] = {
    "version": "1.4.2",
    "commits": [
        {
            "sha": "4be3708", "repository": "https://git.example/acme/web",
            "committed": "2026-11-28T08:00:00Z",
        }
    ],
    "artifacts": [{"purl": "pkg:oci/web@sha256%3Aabc", "digest": "sha256:" + "a" * 64}],
    "url": "https://ci.example/runs/1",
    "change_request": "https://git.example/acme/web/pull/7",
    "approvers": ["bob", "carol"],
    "plan": {"id": "0d3f6a0e-54c2-4e0c-9d4f-55c9d1a8f1c7", "digest": "sha256:" + "b" * 64},
    "labels": {"team": "shop", "app.example/tier": ""},
    "production": False,
    "emergency": True,
    "rework_of": "INC-7",
    "restores": "INC-8",
}  # fmt: skip


def test_all_details_survive_a_round_trip_and_nothing_is_added():
    assert json.loads(msgspec.json.encode(parse_details(json.dumps(WHOLE).encode()))) == WHOLE
    assert details_json(parse_details(b'{"tool": "helm", "Version": 3}')) == {}


@pytest.mark.parametrize("data", [b"[1]", b'"text"', b"null", b"7"])
def test_data_that_is_no_object_has_no_details(data: bytes):
    assert parse_details(data) == Details()


@pytest.mark.parametrize(
    ("field", "details"),
    [
        ("version", {"version": ""}),
        ("version", {"version": "x" * 257}),
        ("version", {"version": "a\nb"}),
        ("version", {"version": 3}),
        ("commits", {"commits": [{"sha": "4be3708"}] * (MAX_ITEMS + 1)}),
        ("commits.1.sha", {"commits": [{"sha": "4be3708"}, {"sha": "main"}]}),
        ("commits.0", {"commits": ["4be3708"]}),
        ("commits.0.committed", {"commits": [{"sha": "4be3708", "committed": "yesterday"}]}),
        ("artifacts.0.purl", {"artifacts": [{"purl": "web:1.4.2"}]}),
        ("artifacts.0.digest", {"artifacts": [{"purl": "pkg:oci/web", "digest": "abc"}]}),
        ("url", {"url": "javascript:alert(1)"}),
        ("url", {"url": "https://x/" + "a" * 2048}),
        ("change_request", {"change_request": "CHG-1"}),
        ("approvers", {"approvers": ["bob"] * (MAX_ITEMS + 1)}),
        ("approvers.0", {"approvers": [""]}),
        ("plan.id", {"plan": {"id": "7"}}),
        ("plan.digest", {"plan": {"digest": "7"}}),
        ("labels", {"labels": {f"l{number}": "" for number in range(MAX_LABELS + 1)}}),
        ("labels", {"labels": {"with space": "x"}}),
        ("labels.team", {"labels": {"team": "x" * 257}}),
        ("production", {"production": "yes"}),
        ("restores", {"restores": ""}),
    ],
)
def test_a_detail_that_is_not_valid_is_refused_by_its_name(field: str, details: dict[str, object]):
    with pytest.raises(InvalidInput) as refused:
        parse_details(json.dumps(details).encode())

    assert refused.value.field == field


def test_an_unknown_field_of_a_request_is_named():
    with pytest.raises(InvalidInput) as refused:
        decode_named(b'{"project": "acme", "stack": "web", "comit": 1}', NewDeployment)

    assert refused.value.field == "comit"


def test_an_end_adds_what_is_missing_and_changes_nothing():
    started = Details(version="1", labels={"team": "shop"}, production=False)
    ended = Details(
        version="2", url="https://ci/1", labels={"team": "x", "tier": "web"}, production=True,
        commits=(Commit(sha="4be3708"),),
    )  # fmt: skip

    whole = completed(started, ended)

    assert whole == Details(
        version="1", url="https://ci/1", labels={"team": "shop", "tier": "web"}, production=False,
        commits=(Commit(sha="4be3708"),),
    )  # fmt: skip
    assert includes(whole, started)
    assert not includes(whole, Details(version="3"))


def test_details_without_any_are_valid():
    check_details(Details())
