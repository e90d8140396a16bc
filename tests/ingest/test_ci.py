"""What CI systems and git say about a run, after the variables that they document."""

import pytest

from deploylog.deployments.details import Commit, Details
from deploylog.ingest.ci import (
    SYSTEMS,
    Detected,
    GitCommit,
    commit_in,
    detect,
    system_of,
    without_credentials,
)

SHA = "4be3708830794b57b2c7cad331fc094b00000000"

GITHUB = {
    "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_SHA": SHA, "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/web",
    "GITHUB_RUN_ID": "17", "GITHUB_ACTOR": "octocat", "GITHUB_TRIGGERING_ACTOR": "hubot",
}  # fmt: skip

GITLAB = {
    "CI": "true", "GITLAB_CI": "true", "CI_COMMIT_SHA": SHA, "CI_COMMIT_TAG": "v1.4.2",
    "CI_COMMIT_TIMESTAMP": "2026-11-28T08:00:00+01:00", "GITLAB_USER_LOGIN": "ann",
    "CI_PROJECT_URL": "https://gitlab.com/acme/web",
    "CI_JOB_URL": "https://gitlab.com/acme/web/-/jobs/1",
    "CI_MERGE_REQUEST_PROJECT_URL": "https://gitlab.com/acme/web",
    "CI_MERGE_REQUEST_IID": "7", "CI_ENVIRONMENT_NAME": "production",
}  # fmt: skip


def test_github_actions():
    assert detect(GITHUB, None) == Detected(
        actor="hubot",
        details=Details(
            commits=(Commit(sha=SHA, repository="https://github.com/acme/web"),),
            url="https://github.com/acme/web/actions/runs/17",
            change_request="https://github.com/acme/web/pull/7",
        ),
    )


def test_a_tag_of_github_is_the_version_and_no_change_request():
    details = detect(GITHUB | {"GITHUB_REF": "refs/tags/v1/rc"}, None).details

    assert (details.version, details.change_request) == ("v1/rc", None)


def test_gitlab_ci():
    assert detect(GITLAB, None) == Detected(
        actor="ann",
        environment="production",
        details=Details(
            version="v1.4.2",
            commits=(
                Commit(
                    sha=SHA,
                    repository="https://gitlab.com/acme/web",
                    committed="2026-11-28T08:00:00+01:00",
                ),
            ),
            url="https://gitlab.com/acme/web/-/jobs/1",
            change_request="https://gitlab.com/acme/web/-/merge_requests/7",
        ),
    )


GIT = GitCommit(
    sha=SHA, committed="2026-11-28T08:00:00Z", repository="https://ann:pw@git.example/web", tag="v1"
)


def test_git_alone_gives_the_commit_and_its_tag():
    assert detect({}, GIT).details == Details(
        version="v1",
        commits=(
            Commit(sha=SHA, repository="https://git.example/web", committed="2026-11-28T08:00:00Z"),
        ),
    )


def test_git_adds_the_time_of_the_commit_that_ci_names_and_of_no_other():
    [commit] = detect(GITHUB, GIT).details.commits
    [other] = detect(GITHUB | {"GITHUB_SHA": "a" * 40}, GIT).details.commits

    assert (commit.committed, commit.repository) == (
        "2026-11-28T08:00:00Z",
        "https://github.com/acme/web",
    )
    assert (other.sha, other.committed) == ("a" * 40, None)


def test_a_short_sha_that_is_given_is_completed_by_git():
    [commit] = detect({}, GIT, sha=SHA[:8]).details.commits

    assert commit.sha == SHA


def test_nothing_is_made_of_what_is_missing_or_not_valid():
    assert detect({}, None) == Detected()
    assert detect({"GITHUB_ACTIONS": "false", "GITHUB_SHA": SHA}, None) == Detected()
    broken = {"JENKINS_URL": "x", "GIT_COMMIT": "main", "BUILD_URL": "job/1", "CHANGE_URL": "y"}
    assert detect(broken, None) == Detected()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_each_system_is_recognized_by_its_marker(system):
    assert system_of({system.marker: "1", "CI": "1"}) == system
    assert commit_in({system.marker: "1"}) is None


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://ann:pw@git.example/web.git", "https://git.example/web.git"),
        ("git@github.com:acme/web.git", "git@github.com:acme/web.git"),
        ("https://git.example/web", "https://git.example/web"),
    ],
)
def test_credentials_are_not_part_of_a_repository(url: str, clean: str):
    assert without_credentials(url) == clean
