"""Send every API what its OpenAPI allows, and what it does not: nothing may be a bug of ours.

schemathesis draws requests for each operation of each API, without credentials, with a key and with
a key that is none; hypothesis draws input for every parser. No answer is a 5xx, but 503 and 507
while nothing can be recorded, and none takes longer than ten seconds.
"""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers

from faults import parsers
from faults.suite import Outcome, Suite, Trial

#: Its environment, which has schemathesis: see the Makefile.
_SCHEMATHESIS = servers.ROOT / ".venv-fuzz" / "bin" / "schemathesis"

#: Who sends the requests: everybody is let in, or not.
_CALLERS = ("anyone", "a key", "no key")

_REQUEST_SECONDS = 10

#: Operations whose answers have no end, or that would lock the others out.
_LEFT_OUT = r"stream|/wait|/keys"

_GENERATED = re.compile(r"(\d+) generated")

_FAILED = re.compile(r"^_{3,} (.*) _{3,}$", re.MULTILINE)


async def run(trial: Trial) -> Outcome:
    """The APIs as three callers at once, each at a service of its own; then the parsers."""
    if not _SCHEMATHESIS.exists():
        raise servers.Unavailable("schemathesis is not here: run make fuzz")
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(_fuzz_as(caller, trial)) for caller in _CALLERS]
    found = [fault for each in callers for fault in each.result()[1]]
    for name in parsers.PARSERS:
        found += parsers.faults_of(name, trial["inputs"])
    return Outcome(
        figures={
            "requests": sum(each.result()[0] for each in callers),
            "parsers": len(parsers.PARSERS),
            "inputs": trial["inputs"] * len(parsers.PARSERS),
        },
        findings=found,
    )


async def _fuzz_as(caller: str, trial: Trial) -> tuple[int, list[str]]:
    """Fuzz a fresh service as one caller; how many requests, and what went wrong."""
    with TemporaryDirectory(prefix="faults-fuzz-") as name:
        folder = Path(name)
        async with servers.deploylog(
            folder, program=trial.program, options=("--max-failures-per-minute", "0")
        ) as server:
            number, faults = await _fuzz(server.port, _credentials(folder, caller), trial)
        log = (folder / "server.log").read_text(errors="replace")
    unexpected = ["the service logs an unexpected error"] * log.count("unexpected error")
    return number, [f"as {caller}: {each}" for each in faults + unexpected]


def _credentials(folder: Path, caller: str) -> str | None:
    """The header of a caller. From the first key on, every request needs one."""
    if caller == "anyone":
        return None
    store = f"sqlite:///{folder / 'deploylog.db'}"
    command = (sys.executable, "-m", "deploylog", "keys", "add", "fuzz", "--store", store)
    grants = ("--grant", "admin:/")
    key = subprocess.check_output((*command, *grants), text=True, env=servers.environment())
    return f"Authorization: Bearer {key.split()[-1] if caller == 'a key' else 'nothing'}"


async def _fuzz(port: int, header: str | None, trial: Trial) -> tuple[int, list[str]]:
    """Send requests with this header; how many, and which operations failed."""
    command = [
        str(_SCHEMATHESIS), "run", f"http://127.0.0.1:{port}/openapi.json", "--no-color",
        "--checks", "not_a_server_error", "--phases", "coverage,fuzzing",
        "--max-examples", str(trial["examples"]), "--seed", str(trial.seed),
        "--request-timeout", str(_REQUEST_SECONDS), "--exclude-path-regex", _LEFT_OUT,
        "--suppress-health-check", "all", "--continue-on-failure",
        "--generation-database", "none",
    ]  # fmt: skip
    done = await asyncio.create_subprocess_exec(
        *command, *(("-H", header) if header else ()),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=servers.ROOT,
        env=servers.environment() | {"SCHEMATHESIS_HOOKS": "faults.fuzzhooks"},
    )  # fmt: skip
    text = (await done.communicate())[0].decode(errors="replace")
    number = sum(map(int, _GENERATED.findall(text)))
    return number, (_FAILED.findall(text) or [text[-500:]]) if done.returncode else []


SUITE = Suite(
    name="fuzz",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("sqlite",),
    protections={"sqlite": ("validation",)},
    numbers={"examples": 100, "inputs": 2_000},
)

if __name__ == "__main__":
    SUITE.main()
