"""Plan files: only files below the configured directories are read."""

import os
from pathlib import Path

import pytest

from deploylog.api.bluelink.plan_files import PlanFiles
from deploylog.errors import PlanNotFound, TooLarge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plans = tmp_path / "plans"
    (plans / "web").mkdir(parents=True)
    (plans / "web" / "plan.json").write_text("the plan")
    (tmp_path / "secret.json").write_text("a secret")
    return plans


def files(folder: Path, limit: int = 100) -> PlanFiles:
    return PlanFiles([str(folder)], limit=limit, reserved=lambda file: False)


def test_a_file_below_a_folder_is_read(folder: Path):
    assert files(folder).read(str(folder / "web"), "plan.json") == b"the plan"
    assert files(folder).read(str(folder), "web/plan.json") == b"the plan"


def test_without_folders_no_file_is_found(folder: Path):
    with pytest.raises(PlanNotFound):
        PlanFiles([], limit=100, reserved=lambda file: False).read(str(folder / "web"), "plan.json")


@pytest.mark.parametrize(
    ("directory", "file"),
    [
        ("{folder}", "missing.json"),
        ("{folder}", "web"),
        ("{folder}", ""),
        ("{folder}", "."),
        ("{folder}", "../secret.json"),
        ("{folder}/web", "../../secret.json"),
        ("{folder}/../", "secret.json"),
        ("{folder}/..", "plans/web/plan.json"),
        ("{folder}s", "plan.json"),
        ("{folder}", "/etc/hostname"),
        ("/etc", "hostname"),
        ("relative", "plan.json"),
        ("{folder}", "web\0/plan.json"),
        ("{folder}", "w" * 5000),
    ],
)
def test_other_files_are_neither_read_nor_mentioned(folder: Path, directory: str, file: str):
    with pytest.raises(PlanNotFound) as raised:
        files(folder).read(directory.format(folder=folder), file)

    assert raised.value.message == "The plan file cannot be opened."


def test_no_link_is_followed(folder: Path):
    (folder / "out.json").symlink_to(folder.parent / "secret.json")
    (folder / "away").symlink_to(folder.parent)
    (folder / "within.json").symlink_to(folder / "web" / "plan.json")

    for directory, file in ((folder, "out.json"), (folder / "away", "secret.json"),
                            (folder, "within.json")):  # fmt: skip
        with pytest.raises(PlanNotFound):
            files(folder).read(str(directory), file)


def test_the_folder_itself_may_be_a_link(folder: Path):
    link = folder.parent / "link"
    link.symlink_to(folder)

    assert files(link).read(str(link / "web"), "plan.json") == b"the plan"


def test_only_regular_files_are_opened(folder: Path):
    os.mkfifo(folder / "pipe.json")

    with pytest.raises(PlanNotFound):
        files(folder).read(str(folder), "pipe.json")


def test_a_file_has_a_limit(folder: Path):
    assert files(folder, limit=8).read(str(folder / "web"), "plan.json") == b"the plan"

    with pytest.raises(TooLarge):
        files(folder, limit=7).read(str(folder / "web"), "plan.json")
