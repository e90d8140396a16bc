"""Static files: names with hashes, imports that name them, and the libraries among them."""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from deploylog.ui.assets import FOLDER, Assets
from deploylog.ui.vendored import VENDORED
from support.browser import AXE, AXE_SHA256
from support.paths import ROOT

#: Bytes of all scripts together, compressed.
MAX_SCRIPT = 60 * 1024


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets()


def written(folder: Path, **files: str) -> Assets:
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text)
    return Assets(folder)


def test_a_name_holds_the_hash_of_what_the_browser_gets(assets: Assets):
    for asset in assets:
        assert hashlib.sha256(asset.body).hexdigest()[:12] in asset.name
        assert gzip.decompress(asset.gzipped) == asset.body


def test_an_import_names_the_file_that_browsers_know(assets: Assets):
    live = assets.asset("live.js")

    assert live.imports == ("vendor/idiomorph.js", "times.js")
    for name in live.imports:
        assert f'"./{assets.asset(name).name}"'.encode() in live.body


def test_a_name_changes_with_what_the_file_imports(tmp_path: Path):
    before = written(tmp_path, a='import "./b.js"', b="1").asset("a.js").name
    after = written(tmp_path, b="2").asset("a.js").name

    assert before != after


def test_what_imports_itself_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"a\.js -> b\.js"):
        written(tmp_path, a='import "./b.js"', b='import "./a.js"')


def test_what_is_neither_ours_nor_vendored_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="neither ours nor vendored"):
        written(tmp_path, a='import "https://elsewhere.example/x.js"')


def test_all_scripts_together_are_small(assets: Assets):
    scripts = [asset for asset in assets if asset.name.endswith(".js")]

    assert sum(len(asset.gzipped) for asset in scripts) <= MAX_SCRIPT


def test_a_vendored_file_is_the_one_that_the_list_names():
    for each in VENDORED.values():
        content = (FOLDER / "vendor" / each.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.sha256, each.package
        assert (FOLDER / "vendor" / "licenses" / f"{each.package}.txt").is_file()


def test_every_vendored_file_is_in_the_list_and_used(assets: Assets):
    listed = {f"vendor/{each.file}" for each in VENDORED.values()}
    files = {p.relative_to(FOLDER).as_posix() for p in (FOLDER / "vendor").glob("*.*")}
    used = {name for asset in assets for name in asset.imports if name.startswith("vendor/")}

    assert files == listed == used


def test_the_vendored_axe_is_the_one_that_the_tests_name():
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == AXE_SHA256


def test_no_script_writes_markup():
    """Text becomes a document in one place: ``live.js``, from what the service rendered."""
    for path in FOLDER.glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()
        )
        assert found == [], path.name


def test_the_wheel_has_every_file_of_the_pages():
    """Everything below the package is packaged, unless git ignores it."""
    patterns = (ROOT / ".gitignore").read_text().split()
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files = [p.relative_to(ROOT).as_posix() for p in FOLDER.parent.rglob("*") if p.is_file()]

    assert "wheel" not in config["tool"]["hatch"]["build"]["targets"]
    kept = [name for name in files if "__pycache__" not in name]
    assert not [n for n in kept for pattern in patterns if PurePosixPath(n).match(f"*{pattern}")]
