"""A client that a generator makes of the OpenAPI document works against the service."""

import asyncio
import os
import re
import sys
from pathlib import Path

from deploylog.api.openapi import render_document
from deploylog.store.contract import Store
from support.paths import ROOT
from support.servers import running
from support.subscribers import add_key

PAGE = ROOT / "docs" / "how-to" / "generate-a-client.md"

#: What openapi-python-client says of the media types that it does not know.
KNOWN_WARNINGS = ["Unsupported content type application/x-ndjson"]


async def run(*command: str, directory: Path, **environ: str) -> str:
    """The output of a Python module or script, which must succeed."""
    # httpx takes no file without a certificate.
    trusting = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=directory, env={**trusting, **environ},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_client_of_the_how_to_appends_lists_follows_and_waits(
    store: Store, tmp_path: Path
):
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "openapi.json").write_bytes(render_document())
    (tmp_path / "example.py").write_text(example)
    said = await run(
        "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none",
        "--output-path", "deploylog_client",
        directory=tmp_path, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )  # fmt: skip
    async with running(store) as service:
        _, headers = await add_key(store, "admin:/")
        key = headers["Authorization"].removeprefix("Bearer ")

        printed = await run(
            "example.py", directory=tmp_path, DEPLOYLOG_SERVER=service.url, DEPLOYLOG_KEY=key
        )

    warnings = re.findall(r"(?:Unsupported|Parameters with).*", said)
    assert [line for line in warnings if line not in KNOWN_WARNINGS] == []
    first, *_, last = printed.splitlines()
    assert re.fullmatch(r"[0-9T:.-]+\+00:00 deployment\.completed", first)
    assert re.fullmatch(r"completed after [0-9.]+ s", last)
