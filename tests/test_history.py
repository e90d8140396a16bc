"""A commit's subject names the part, says in the imperative what the commit does, and is short."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: The rule holds for every commit that is not this one or an ancestor of it.
START = "3f28557c8a9f29167046a636af6a27b84fbf9b12"

MAX_LENGTH = 72

#: Two merges that are older than this test.
EXEMPT = ("b876581", "afe45b1")

_PART = r"[a-z][a-z0-9_.-]*"
_SUBJECT = re.compile(rf"{_PART}(?:, {_PART})*: (?P<verb>[a-z-]+)\b.*[^.\s]")
_MERGE = re.compile(r"Merge \S.*[^.\s]")

#: ``adds``, ``added`` and ``adding`` are not imperative. The verbs below only look like them.
_OTHER_MOOD = re.compile(r".+[^s]s|.{2,}ed|.{2,}ing")
_IMPERATIVE = {
    "alias", "bias", "bring", "embed", "exceed", "feed", "focus", "need", "ping", "proceed",
    "ring", "seed", "shed", "speed", "string",
}  # fmt: skip


def git(*args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commits() -> list[tuple[str, str, str]]:
    """The id, the parents and the subject of each commit that the rule holds for.

    A shallow clone may lack the starting commit: then these are all the commits that it has.
    """
    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT.resolve():
            return []
        has_start = git("rev-list", "--no-walk", "--ignore-missing", START)
        since = [f"^{START}"] if has_start else []
        log = git("log", "--format=%H%x00%P%x00%s", "HEAD", *since)
    except (OSError, subprocess.CalledProcessError):
        return []
    fields = [line.split("\0") for line in log.splitlines()]
    return [(id, parents, subject) for id, parents, subject in fields]


def problem_with(subject: str, *, is_merge: bool = False) -> str | None:
    """What is wrong with the subject of a commit, or ``None``."""
    if len(subject) > MAX_LENGTH:
        return f"has {len(subject)} characters, and at most {MAX_LENGTH} are allowed"
    if is_merge and _MERGE.fullmatch(subject):
        return None
    matched = _SUBJECT.fullmatch(subject)
    if matched is None:
        return "is not of the form `part: do something`, without a full stop"
    verb = matched["verb"]
    if _OTHER_MOOD.fullmatch(verb) and verb not in _IMPERATIVE:
        return f"is not in the imperative: {verb}"
    return None


@pytest.mark.process
def test_the_subjects_of_commits_follow_the_rule():
    checked = commits()
    if not checked:
        pytest.skip("no git history here (a source archive?): no commit subject was checked")

    problems = [
        f"{id[:7]} {subject!r} {problem}"
        for id, parents, subject in checked
        if not id.startswith(EXEMPT)
        and (problem := problem_with(subject, is_merge=" " in parents)) is not None
    ]

    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "subject",
    [
        "delivery: honour Retry-After dates",
        "cli, client: one retry loop, options defined once",
        "auth: process 3 headers",
        "store: embed the schema",
        f"store: do {'x' * 62}",
    ],
)
def test_a_good_subject_has_no_problem(subject: str):
    assert problem_with(subject) is None


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("Honour Retry-After dates", "part"),
        ("delivery: Honour dates", "part"),
        ("delivery: honour dates.", "full stop"),
        ("delivery:honour dates", "part"),
        ("Merge branch 'x'", "part"),
        ("delivery: honours dates", "imperative: honours"),
        ("delivery: honoured dates", "imperative: honoured"),
        ("delivery: honouring dates", "imperative: honouring"),
        (f"store: do {'x' * 63}", "73 characters"),
    ],
)
def test_a_bad_subject_has_a_problem(subject: str, problem: str):
    found = problem_with(subject)

    assert found is not None
    assert problem in found


def test_a_merge_has_gits_own_subject():
    assert problem_with("Merge branch 'fix'", is_merge=True) is None
    assert problem_with("wip", is_merge=True) is not None
    assert problem_with(f"Merge branch '{'x' * 72}'", is_merge=True) is not None
