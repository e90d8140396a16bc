"""Plans that a real Terraform makes."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from deploylog.deployments.changeset import (
    SENSITIVE,
    Changes,
    FieldChange,
    ResourceChange,
    encode_changes,
)
from deploylog.ingest.terraform.plan import parse_plan
from support.paths import ROOT
from support.plans import Json
from support.terraform import require_terraform

TERRAFORM = ROOT / "demo" / "terraform"

SECRET = 'correct "horse" <battery>'

BOTH = """
variable "release" { type = string }
variable "password" {
  type      = string
  sensitive = true
}

resource "terraform_data" "created" {
  count = var.release == "2" ? 1 : 0
  input = { list = ["a", [var.password]], half = 1.5 }
  depends_on = [terraform_data.kept]
}
resource "terraform_data" "updated" {
  input = { list = ["a", [var.password, var.release]], json = jsonencode({ p = var.password }) }
}
resource "terraform_data" "replaced" {
  triggers_replace = var.release
}
resource "terraform_data" "created_first" {
  triggers_replace = [var.release, var.password]
  lifecycle { create_before_destroy = true }
}
resource "terraform_data" "deleted" {
  count = var.release == "1" ? 1 : 0
  input = var.password
}
resource "terraform_data" "kept" {
  input      = var.password
  depends_on = [terraform_data.updated]
}
module "inner" {
  source   = "./inner"
  for_each = toset(["a.b", "c\\"]"])
  release  = var.release
}
output "password" {
  value     = { nested = [var.password] }
  sensitive = true
}
output "release" { value = var.release }
output "later" { value = terraform_data.updated.output.list[0] }

check "release" {
  assert {
    condition     = var.release == "1"
    error_message = "the release is ${var.release}"
  }
}
"""

INNER = """
variable "release" { type = string }
resource "terraform_data" "server" { input = var.release }
"""

ONCE = {
    "1": """
resource "terraform_data" "forgotten" { input = var.password }
resource "terraform_data" "old" {}
""",
    "2": """
removed {
  from = terraform_data.forgotten
  lifecycle { destroy = false }
}
moved {
  from = terraform_data.old
  to   = terraform_data.new
}
resource "terraform_data" "new" {}
import {
  to = terraform_data.imported
  id = "known-id"
}
resource "terraform_data" "imported" { input = "x" }
""",
}


class Workplace:
    """A directory with the configuration and its state."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
        self._env = inherited | {"CHECKPOINT_DISABLE": "1"}
        (directory / "inner").mkdir()
        (directory / "inner" / "main.tf").write_text(INNER)
        (directory / "main.tf").write_text(BOTH)

    def release(self, release: str) -> None:
        """Go on to the configuration of this release."""
        (self._directory / "once.tf").write_text(ONCE[release])
        values = {"release": release, "password": SECRET}
        (self._directory / "terraform.tfvars.json").write_text(json.dumps(values))

    def run(self, *arguments: str) -> str:
        command = [sys.executable, str(TERRAFORM), *arguments]
        done = subprocess.run(
            command, cwd=self._directory, env=self._env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plan(self, *arguments: str) -> bytes:
        self.run("plan", "-input=false", "-out=plan", *arguments)
        [document] = [
            line for line in self.run("show", "-json", "plan").splitlines() if line[:1] == "{"
        ]
        return document.encode()


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The plan from nothing, the one from release 1 to 2, and the one that destroys it all."""
    require_terraform()
    workplace = Workplace(tmp_path_factory.mktemp("terraform"))
    workplace.release("1")
    workplace.run("init", "-input=false")
    documents = {"first": workplace.plan()}
    workplace.run("apply", "plan")
    workplace.release("2")
    documents["next"] = workplace.plan()
    workplace.run("apply", "plan")
    documents["last"] = workplace.plan("-destroy")
    return documents


@pytest.fixture(scope="module")
def changes(documents: dict[str, bytes]) -> Changes:
    return parse_plan(documents["next"])


def one(changes: Changes, name: str) -> ResourceChange:
    [change] = [it for it in changes.resources if it.address == f"terraform_data.{name}"]
    return change


@pytest.mark.parametrize("which", ["first", "next", "last"])
def test_the_counts_are_the_plans_own(documents: dict[str, bytes], which: str) -> None:
    resources = json.loads(documents[which])["resource_changes"]

    changes = parse_plan(documents[which])

    words = Counter(tuple(it["change"]["actions"]) for it in resources)
    totals = changes.totals
    assert totals.create == words["create",]
    assert totals.update == words["update",]
    assert totals.replace == words["delete", "create"] + words["create", "delete"]
    assert totals.delete == words["delete",]
    assert totals.forget == words["forget",]
    assert totals.none == words["no-op",]
    assert totals.moved == sum("previous_address" in it for it in resources)
    assert totals.imported == sum("importing" in it["change"] for it in resources)
    assert len(changes.resources) == len(resources) == words.total()


def test_what_a_resource_depends_on_is_told(changes: Changes) -> None:
    assert one(changes, "created[0]").depends_on == ("terraform_data.kept",)
    assert one(changes, "kept").depends_on == ("terraform_data.updated",)
    assert one(changes, "updated").depends_on == ()


def test_everything_that_can_happen_to_a_resource_is_in_the_plan(changes: Changes) -> None:
    totals = changes.totals
    assert 0 not in (totals.create, totals.update, totals.replace, totals.delete, totals.forget)
    assert 0 not in (totals.none, totals.imported, totals.moved)
    assert {it.create_first for it in changes.resources if it.action == "replace"} == {True, False}


@pytest.mark.parametrize("which", ["first", "next", "last"])
def test_the_secret_is_nowhere_in_the_changes(documents: dict[str, bytes], which: str) -> None:
    document = documents[which]
    go = json.dumps(SECRET)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e")
    forms = [SECRET, json.dumps(SECRET)[1:-1], go, json.dumps(go)[1:-1], "horse", "battery"]
    assert b"battery" in document

    encoded = encode_changes(parse_plan(document))

    assert not [form for form in forms if form.encode() in encoded]


def test_the_secret_is_masked_where_the_provider_copies_it(changes: Changes) -> None:
    for name in ("deleted[0]", "forgotten", "kept"):
        before: Json = one(changes, name).before
        assert before["input"] == before["output"] == SENSITIVE


def test_the_fields_of_an_update(changes: Changes) -> None:
    change = one(changes, "updated")

    [release, output] = change.modified
    assert release == FieldChange(path=("input", "list", 1, 1), before="1", after="2")
    assert output.path == ("output",)
    assert (output.after, output.sensitive) == (None, True)
    assert change.known_on_deploy == change.computed == (("output",),)
    assert change.unchanged == (
        ("id",), ("input", "json"), ("input", "list", 0), ("input", "list", 1, 0),
    )  # fmt: skip


def test_the_fields_of_a_creation(changes: Changes) -> None:
    change = one(changes, "created[0]")

    assert {field.path: field.after for field in change.added} == {
        ("input", "half"): 1.5,
        ("input", "list", 0): "a",
        ("input", "list", 1, 0): SENSITIVE,
    }
    assert change.known_on_deploy == change.computed == (("id",), ("output",))
    assert change.id is None


def test_the_fields_of_a_replacement(changes: Changes) -> None:
    change = one(changes, "created_first")

    assert change.reason == "replace_because_cannot_update"
    assert [(field.path, field.replaces) for field in change.modified] == [
        (("id",), False),
        (("triggers_replace", 0), True),
    ]
    assert ("triggers_replace", 1) in change.unchanged


def test_what_is_in_a_module_is_found_in_its_configuration(changes: Changes) -> None:
    names = [
        'module.inner["a.b"].terraform_data.server',
        r'module.inner["c\"]"].terraform_data.server',
    ]
    inner = [it for it in changes.resources if it.address.startswith("module.")]

    assert [it.name for it in inner] == names
    assert [it.computed for it in inner] == [(("output",),)] * 2


def test_what_is_moved_or_imported_says_from_where(changes: Changes) -> None:
    moved, imported = one(changes, "new"), one(changes, "imported")

    assert (moved.action, moved.previous_address) == ("none", "terraform_data.old")
    assert (imported.imported, imported.import_id, imported.id) == (True, "known-id", "known-id")


def test_outputs_and_checks_are_told(changes: Changes) -> None:
    outputs = {output.name: output for output in changes.outputs}

    assert outputs["password"].before == outputs["password"].after == SENSITIVE
    assert outputs["password"].sensitive
    release = outputs["release"]
    assert (release.action, release.before, release.after) == ("update", "1", "2")
    assert outputs["later"].known_on_deploy
    assert [problem.message for problem in changes.problems] == ["check.release: the release is 2"]
