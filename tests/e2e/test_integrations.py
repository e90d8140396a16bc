"""The templates of ``integrations/``: rendered or run, and their result posted to the service."""

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploylog.store.contract import Store
from support.api_keys import new_key
from support.servers import Answer, Local
from support.templates import INTEGRATIONS, SHA, ArgoCd, read, spacelift

ROOT = INTEGRATIONS.parent
SAMPLE = ROOT / "tests" / "samples" / "02-apply-create.jsonl"


@pytest.fixture
async def key(store: Store) -> str:
    return await new_key(store, "read:/", "write:project/acme", "write:state/acme")


async def post(server: Local, key: str, event: Any) -> Answer:
    headers = {"Authorization": f"Bearer {key}"}
    return await server.post(event, "application/json", headers=headers)


async def deployments(server: Local, key: str) -> list[Any]:
    """What is recorded, first started first."""
    page = await server.get("/log/v1/deployments", headers={"Authorization": f"Bearer {key}"})
    return list(reversed(page.json["deployments"]))


async def run(script: str, environ: Mapping[str, str], cwd: Path, shell: str = "bash") -> int:
    """Run a script of a template; its exit code."""
    process = await asyncio.create_subprocess_exec(
        shell,
        "-e",
        "-c",
        script,
        cwd=cwd,
        env={
            "PATH": f"{cwd}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(cwd),
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    print(output.decode())
    assert process.returncode is not None
    return process.returncode


def test_every_folder_has_a_readme_and_is_listed():
    listed = (INTEGRATIONS / "README.md").read_text()

    for folder in (path for path in INTEGRATIONS.iterdir() if path.is_dir()):
        assert (folder / "README.md").exists()
        assert f"({folder.name}/README.md)" in listed


@pytest.mark.parametrize("file", sorted(INTEGRATIONS.rglob("*.y*ml")), ids=lambda file: file.name)
def test_every_file_is_yaml(file: Path):
    assert yaml.safe_load(file.read_text())


# Argo CD


async def test_argo_cd_shows_a_sync_from_its_start_to_its_end(server: Local, key: str):
    argo = ArgoCd()

    await post(server, key, argo.event("started"))
    [running] = await deployments(server, key)
    await post(server, key, argo.event("succeeded", finishedAt="2026-03-01T12:01:00Z"))

    [shown] = await deployments(server, key)
    assert (running["status"], shown["status"]) == ("running", "completed")
    assert (shown["stack"], shown["environment"], shown["actor"]) == ("web", "prod", "alice")
    assert shown["commits"] == [{"sha": SHA, "repository": "https://github.com/acme/web"}]
    assert shown["url"] == "https://argocd.example.com/applications/web"
    assert (shown["ended"], shown["message"]) == (
        "2026-03-01T12:01:00.000000Z",
        'successfully "synced"',
    )


async def test_argo_cds_degraded_application_is_an_incident(server: Local, key: str):
    argo = ArgoCd()
    late = {"startedAt": "2199-03-01T12:10:00Z", "finishedAt": "2199-03-01T12:11:00Z"}
    later = {"startedAt": "2199-03-01T12:20:00Z", "finishedAt": "2199-03-01T12:21:00Z"}

    for event in (
        argo.event("started"),
        argo.event("succeeded", finishedAt="2026-03-01T12:01:00Z"),
        argo.event("degraded"),
        argo.event("failed", **late),
        argo.event("succeeded", **later),
        argo.event("recovered"),
    ):
        assert (await post(server, key, event)).status == 201

    first, failed, fixed = await deployments(server, key)
    assert (first["status"], first["rework_of"]) == ("completed", None)
    assert (failed["status"], failed["rework_of"]) == ("failed", "argocd/web degraded")
    assert fixed["restores"] == failed["id"]


def test_argo_cd_gives_a_chart_its_version_and_an_automatic_sync_no_actor():
    operation = {"initiatedBy": {"automated": True}, "sync": {"revision": "1.4.2"}}

    event = ArgoCd().event("started", operation=operation)

    assert "actor" not in event
    assert (event["data"]["version"], "commits" in event["data"]) == ("1.4.2", False)


def test_argo_cd_sends_what_it_has_templates_for():
    argo = ArgoCd()

    assert argo.triggers == argo.templates


# Spacelift


async def test_spacelift_shows_a_run_with_its_phases(server: Local, key: str):
    for state in ("QUEUED", "PLANNING", "UNCONFIRMED", "APPLYING", "FINISHED"):
        [request] = spacelift(state)
        assert request["headers"] == {"Content-Type": "application/json"}
        assert (await post(server, key, request["payload"])).status == 201

    [shown] = await deployments(server, key)
    assert (shown["stack"], shown["environment"], shown["status"], shown["actor"]) == (
        "network", "prod", "completed", "alice",
    )  # fmt: skip
    assert shown["url"] == "https://acme.app.spacelift.io/stack/network/run/01EF9PFPNF"
    assert shown["commits"] == [{"sha": SHA}]


def test_spacelift_sends_nothing_of_a_proposed_run_or_of_another_state():
    assert spacelift("PLANNING", type="PROPOSED") == []
    assert spacelift("UNHEARD") == []


# What runs a command


def a_terraform(directory: Path, name: str) -> None:
    """A program that prints what Terraform did."""
    tool = directory / name
    tool.write_text(f"#!/bin/sh\nexec cat '{SAMPLE}'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


async def test_atlantis_applies_in_deploylog(server: Local, key: str, tmp_path: Path):
    a_terraform(tmp_path, "terraform1.9.0")
    [step] = read("atlantis/repos.yaml")["workflows"]["deploylog"]["apply"]["steps"]

    code = await run(
        step["run"],
        {
            "DEPLOYLOG_SERVER": server.url,
            "DEPLOYLOG_KEY": key,
            "DEPLOYLOG_PROJECT": "acme",
            "ATLANTIS_TERRAFORM_VERSION": "1.9.0",
            "PROJECT_NAME": "network",
            "REPO_REL_DIR": "terraform/network",
            "WORKSPACE": "prod",
            "USER_NAME": "alice",
            "PLANFILE": "network.tfplan",
            "PULL_URL": "https://github.com/acme/infra/pull/7",
            "HEAD_COMMIT": SHA,
        },
        tmp_path,
    )

    [shown] = await deployments(server, key)
    assert code == 0
    assert (shown["stack"], shown["environment"], shown["actor"]) == ("network", "prod", "alice")
    assert (shown["status"], shown["counts"]["added"]) == ("completed", 9)
    assert shown["change_request"] == "https://github.com/acme/infra/pull/7"


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        ("true", 0, "completed"),
        ("echo one\nsh -c 'exit 3'", 3, "failed"),
        ("true && false", 1, "failed"),
    ],
)
async def test_the_github_action_records_a_command(
    server: Local, key: str, tmp_path: Path, command: str, code: int, status: str
):
    action = read("github-action/action.yml")
    [*_, step] = action["runs"]["steps"]
    inputs = {name: each.get("default", "") for name, each in action["inputs"].items()}
    inputs |= {"server": server.url, "key": key, "project": "acme", "stack": "web"}
    inputs |= {"run": command, "environment": "prod", "version": "1.4.2"}
    environ = {
        name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }

    ended = await run(
        step["run"], environ | {"GITHUB_ACTIONS": "true", "GITHUB_SHA": SHA}, tmp_path
    )

    [shown] = await deployments(server, key)
    assert (ended, shown["status"]) == (code, status)
    assert (shown["version"], shown["environment"]) == ("1.4.2", "prod")
    assert shown["commits"][0]["sha"] == SHA


# What posts with curl


@pytest.mark.parametrize(("status", "ended"), [("success", "completed"), ("canceled", "failed")])
async def test_the_gitlab_include_opens_and_ends_a_deployment(
    server: Local, key: str, tmp_path: Path, status: str, ended: str
):
    job = read("gitlab-ci/deploylog.gitlab-ci.yml")[".deploylog"]
    environ = {
        "DEPLOYLOG_SERVER": server.url,
        "DEPLOYLOG_KEY": key,
        "DEPLOYLOG_PROJECT": "acme",
        "DEPLOYLOG_STACK": "web",
        "CI_JOB_ID": "796",
        "CI_JOB_NAME_SLUG": "deploy",
        "CI_JOB_STARTED_AT": "2026-03-01T12:00:00Z",
        "CI_JOB_URL": "https://gitlab.example.com/shop/web/-/jobs/796",
        "CI_ENVIRONMENT_NAME": "prod",
        "CI_COMMIT_SHA": SHA,
        "CI_COMMIT_TAG": "v1.4.2",
        "CI_COMMIT_TIMESTAMP": "2026-03-01T11:50:00+01:00",
        "CI_PROJECT_URL": "https://gitlab.example.com/shop/web",
        "GITLAB_USER_LOGIN": "bob",
    }

    await run("\n".join(job["before_script"]), environ, tmp_path, "sh")
    [running] = await deployments(server, key)
    await run("\n".join(job["after_script"]), environ | {"CI_JOB_STATUS": status}, tmp_path, "sh")

    [shown] = await deployments(server, key)
    assert (running["status"], shown["status"]) == ("running", ended)
    assert (shown["version"], shown["actor"], shown["operation"]) == ("v1.4.2", "bob", "deploy")
    assert shown["started"] == "2026-03-01T12:00:00.000000Z"


async def test_the_gitlab_include_goes_on_without_the_service(key: str, tmp_path: Path):
    job = read("gitlab-ci/deploylog.gitlab-ci.yml")[".deploylog"]
    environ = {"DEPLOYLOG_SERVER": "http://127.0.0.1:9", "DEPLOYLOG_KEY": key}
    script = "\n".join(job["before_script"]).replace("--retry 3", "")

    assert await run(script, environ, tmp_path, "sh") == 0


@pytest.mark.parametrize(
    ("status", "ended"),
    [("Succeeded", "completed"), ("Completed", "completed"), ("None", "failed")],
)
async def test_the_tekton_task_reports_the_start_and_the_end(
    server: Local, key: str, tmp_path: Path, status: str, ended: str
):
    task = read("tekton/task.yaml")["spec"]
    pipeline = read("tekton/pipeline.yaml")["spec"]
    values = {
        "$(context.pipelineRun.uid)": "5d1c",
        "$(params.version)": "1.4.2",
        "$(tasks.status)": status,
    }

    for use in (pipeline["tasks"][0], *pipeline["finally"]):
        given = {each["name"]: values.get(each["value"], each["value"]) for each in use["params"]}
        assert await run(*_step(task, given | {"server": server.url}, key), tmp_path, "sh") == 0

    [shown] = await deployments(server, key)
    assert (shown["stack"], shown["environment"], shown["status"]) == ("web", "prod", ended)
    assert (shown["version"], shown["tool"]) == ("1.4.2", "tekton")


def _step(task: Any, given: dict[str, str], key: str) -> tuple[str, dict[str, str]]:
    """The script of the task's step, and the environment that Tekton gives it."""
    [step] = task["steps"]
    params = {each["name"]: each.get("default") for each in task["params"]} | given
    environ = {
        each["name"]: params[each["value"].removeprefix("$(params.").removesuffix(")")]
        for each in step["env"]
        if "value" in each
    }
    assert None not in environ.values(), "a parameter without a value"
    return step["script"], environ | {"DEPLOYLOG_KEY": key}
