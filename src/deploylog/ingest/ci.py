"""What a CI system says about a run, in the environment variables that it documents."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from deploylog.deployments.details import Commit, Details, check_details
from deploylog.errors import InvalidInput

Environ = Mapping[str, str]


class CiSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A CI system. A template is filled from variables, and void if one of them is not set."""

    name: str
    #: The variable that says that a process runs in it.
    marker: str
    #: The first template that can be filled is taken.
    sha: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    committed: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    change_request: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


#: Each with the variables of its documentation; ``docs/reference/cli.md`` has the table.
SYSTEMS = (
    CiSystem(
        name="GitHub Actions",
        marker="GITHUB_ACTIONS",
        sha=("{GITHUB_SHA}",),
        repository=("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}",),
        actor=("{GITHUB_TRIGGERING_ACTOR}", "{GITHUB_ACTOR}"),
        url=("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",),
        change_request=("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/pull/{GITHUB_REF:refs/pull/}",),
        version=("{GITHUB_REF:refs/tags/}",),
    ),
    CiSystem(
        name="GitLab CI",
        marker="GITLAB_CI",
        sha=("{CI_COMMIT_SHA}",),
        repository=("{CI_PROJECT_URL}",),
        committed=("{CI_COMMIT_TIMESTAMP}",),
        actor=("{GITLAB_USER_LOGIN}",),
        url=("{CI_JOB_URL}", "{CI_PIPELINE_URL}"),
        change_request=("{CI_MERGE_REQUEST_PROJECT_URL}/-/merge_requests/{CI_MERGE_REQUEST_IID}",),
        version=("{CI_COMMIT_TAG}",),
        environment=("{CI_ENVIRONMENT_NAME}",),
    ),
    CiSystem(
        name="Jenkins",
        marker="JENKINS_URL",
        sha=("{GIT_COMMIT}",),
        repository=("{GIT_URL}",),
        actor=("{BUILD_USER_ID}",),
        url=("{BUILD_URL}",),
        change_request=("{CHANGE_URL}",),
        version=("{TAG_NAME}",),
    ),
    CiSystem(
        name="Buildkite",
        marker="BUILDKITE",
        sha=("{BUILDKITE_COMMIT}",),
        repository=("{BUILDKITE_REPO}",),
        actor=("{BUILDKITE_BUILD_CREATOR}",),
        url=("{BUILDKITE_BUILD_URL}",),
        version=("{BUILDKITE_TAG}",),
    ),
    CiSystem(
        name="CircleCI",
        marker="CIRCLECI",
        sha=("{CIRCLE_SHA1}",),
        repository=("{CIRCLE_REPOSITORY_URL}",),
        actor=("{CIRCLE_USERNAME}",),
        url=("{CIRCLE_BUILD_URL}",),
        change_request=("{CIRCLE_PULL_REQUEST}",),
        version=("{CIRCLE_TAG}",),
    ),
    CiSystem(
        name="Azure Pipelines",
        marker="TF_BUILD",
        sha=("{BUILD_SOURCEVERSION}",),
        repository=("{BUILD_REPOSITORY_URI}",),
        actor=("{BUILD_REQUESTEDFOR}",),
        url=("{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",),
        version=("{BUILD_SOURCEBRANCH:refs/tags/}",),
    ),
    CiSystem(
        name="Bitbucket Pipelines",
        marker="BITBUCKET_BUILD_NUMBER",
        sha=("{BITBUCKET_COMMIT}",),
        repository=("{BITBUCKET_GIT_HTTP_ORIGIN}",),
        url=("{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",),
        change_request=("{BITBUCKET_GIT_HTTP_ORIGIN}/pull-requests/{BITBUCKET_PR_ID}",),
        version=("{BITBUCKET_TAG}",),
        environment=("{BITBUCKET_DEPLOYMENT_ENVIRONMENT}",),
    ),
    CiSystem(
        name="Atlantis",
        marker="ATLANTIS_TERRAFORM_VERSION",
        sha=("{HEAD_COMMIT}",),
        actor=("{USER_NAME}",),
        change_request=("{PULL_URL}",),
    ),
    CiSystem(
        name="any other",
        marker="CI",
        sha=("{GIT_COMMIT}", "{COMMIT_SHA}"),
        actor=("{CI_ACTOR}",),
        url=("{BUILD_URL}", "{CI_JOB_URL}"),
    ),
)


class GitCommit(msgspec.Struct, frozen=True, kw_only=True):
    """What git says about the commit in a working directory."""

    sha: str
    committed: str | None = None
    repository: str | None = None
    #: A tag of this commit.
    tag: str | None = None


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a run without being told."""

    details: Details = Details()
    actor: str | None = None
    environment: str | None = None


def system_of(environ: Environ) -> CiSystem | None:
    """The CI system that this process runs in."""
    return next((each for each in SYSTEMS if environ.get(each.marker, "") not in _NO), None)


#: Values of a marker that deny it.
_NO = ("", "false", "0")


def commit_in(environ: Environ) -> str | None:
    """The commit that the CI system names."""
    system = system_of(environ)
    return _first(system.sha, environ) if system else None


def detect(environ: Environ, git: GitCommit | None, *, sha: str | None = None) -> Detected:
    """Read what the CI system says, and what git adds. What is not valid is left out.

    ``sha`` is the commit, if it is known; else the CI system names it, or git.
    """
    system = system_of(environ) or CiSystem(name="", marker="")
    named = _first(system.sha, environ)
    sha = sha or named or (git.sha if git else None)
    in_git = git if git and sha and git.sha.startswith(sha) else None
    repository = _first(system.repository, environ) or (git.repository if git else None)
    committed = _first(system.committed, environ) if sha == named else None
    tag = in_git.tag if in_git else None
    found = {
        "commits": sha
        and (
            Commit(
                sha=(in_git.sha if in_git else sha).lower(),
                repository=without_credentials(repository) if repository else None,
                committed=committed or (in_git.committed if in_git else None),
            ),
        ),
        "version": _first(system.version, environ) or tag,
        "url": _first(system.url, environ),
        "change_request": _first(system.change_request, environ),
    }
    valid = {name: value for name, value in found.items() if value and _is_valid(name, value)}
    return Detected(
        details=Details(**valid),  # type: ignore[arg-type]
        actor=_first(system.actor, environ),
        environment=_first(system.environment, environ),
    )


def without_credentials(url: str) -> str:
    """The URL of a repository without user and password."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _is_valid(name: str, value: object) -> bool:
    try:
        check_details(Details(**{name: value}))  # type: ignore[arg-type]
    except InvalidInput:
        return False
    return True


#: A variable; after a colon, what its value must start with, and a slash ends the rest.
_PLACE = re.compile(r"\{(\w+)(?::([^}]*))?\}")


def _first(templates: tuple[str, ...], environ: Environ) -> str | None:
    filled = (_fill(template, environ.get) for template in templates)
    return next((text for text in filled if text), None)


def _fill(template: str, get: Callable[[str], str | None]) -> str | None:
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        found, start = get(match[1]) or "", match[2]
        if start is not None:
            found = found.removeprefix(start) if found.startswith(start) else ""
            found = found.partition("/")[0] if start == "refs/pull/" else found
        missing = missing or not found
        return found

    text = _PLACE.sub(value, template)
    return None if missing else text
