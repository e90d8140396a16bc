"""What git says about the working directory."""

import subprocess
from pathlib import Path

import pytest

from deploylog.cli.details import read_git


def git(*arguments: str) -> None:
    names = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    subprocess.run(["git", *names, *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


async def test_a_commit_is_read_with_its_time_repository_and_tag(repository: Path):
    git("init", "--quiet")
    git("remote", "add", "origin", "https://git.example/acme/web.git")
    git("commit", "--quiet", "--allow-empty", "--date=2026-01-01T00:00:00Z", "-m", "first")
    git("tag", "v1.4.2")

    found = await read_git(None)

    assert found is not None
    assert (found.repository, found.tag) == ("https://git.example/acme/web.git", "v1.4.2")
    assert found.committed is not None
    assert await read_git(found.sha[:10]) == found
    assert await read_git("0" * 40) is None


async def test_a_directory_without_git_has_no_commit(repository: Path):
    assert await read_git(None) is None


async def test_a_machine_without_git_has_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(repository))

    assert await read_git(None) is None
