"""The pages of the documentation: what they send, and the vendored viewer."""

import gzip
import hashlib
import re

import pytest

from deploylog.api.docs.assets import FOLDER, assets
from deploylog.api.docs.vendored import VENDORED
from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import running


def test_a_vendored_file_is_the_one_that_the_list_names():
    for each in VENDORED:
        content = (FOLDER / each.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.sha256, each.file
        assert (FOLDER / "licenses" / f"{each.package}.txt").is_file()


def test_every_static_file_is_vendored_or_ours():
    ours = {"pages.css", "start.js"}

    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == ours | {
        each.file for each in VENDORED
    }


@pytest.mark.parametrize("path", ["/docs", "/docs/text"])
async def test_a_page_has_nothing_inline_and_its_files_exist(store: Store, path: str):
    async with running(store) as server:
        page = await server.get(path)
        text = page.body.decode()
        base = path.rpartition("/")[0] + "/"
        links = re.findall(r'(?:src|href)="([^"#]+)"', text)
        found = {
            link: (await server.get(f"{base}{link}".replace("/docs/../", "/"))).status
            for link in links
            if not link.startswith("data:")
        }

    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style|style=|<script>|\son\w+=", text)
    assert found
    assert set(found.values()) == {200}


async def test_a_file_is_compressed_for_who_accepts_it(store: Store):
    async with running(store) as server:
        small = await server.get("/docs/static/start.js", headers={"Accept-Encoding": "gzip"})
        plain = await server.get("/docs/static/start.js", headers={"Accept-Encoding": "identity"})
        missing = await server.get("/docs/static/vendored.py")

    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.body == gzip.decompress(assets()["start.js"].gzipped)
    assert "immutable" in plain.headers["cache-control"]
    assert_problem(missing, 404, "not-found")


def test_the_viewer_is_small_enough():
    assert sum(len(asset.gzipped) for asset in assets().values()) < 550 * 1024
