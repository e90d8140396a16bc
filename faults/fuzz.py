"""Send every API what its OpenAPI allows, and what it does not: nothing may be a bug of ours.

schemathesis draws requests for each operation of each API, without credentials, with a key and with
a key that is none; hypothesis draws input for every parser. No answer is a 5xx, but 503 and 507
while nothing can be recorded, and none takes longer than ten seconds.
"""

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

_REQUEST_SECONDS = 10

#: Operations whose answers have no end, or that would lock the others out.
_LEFT_OUT = r"stream|/wait|/keys"

_GENERATED = re.compile(r"(\d+) generated")

_FAILED = re.compile(r"^_{3,} (.*) _{3,}$", re.MULTILINE)


async def run(trial: Trial) -> Outcome:
    """The APIs as three callers, then the parsers."""
    found: list[str] = []
    requests = 0
    with TemporaryDirectory(prefix="faults-fuzz-") as name:
        folder = Path(name)
        async with servers.deploylog(
            folder, program=trial.program, options=("--max-failures-per-minute", "0")
        ) as server:
            for caller in ("anyone", "a key", "no key"):
                header = _credentials(folder, caller)
                number, faults = _fuzz(server.port, header, trial)
                requests += number
                found += [f"as {caller}: {each}" for each in faults]
            log = (folder / "server.log").read_text(errors="replace")
    found += ["the service logs an unexpected error"] * log.count("unexpected error")
    for each in parsers.PARSERS:
        found += parsers.faults_of(each, trial["inputs"])
    return Outcome(
        figures={
            "requests": requests,
            "parsers": len(parsers.PARSERS),
            "inputs": trial["inputs"] * len(parsers.PARSERS),
        },
        findings=found,
    )


def _credentials(folder: Path, caller: str) -> str | None:
    """The header of a caller. From the first key on, every request needs one."""
    if caller == "anyone":
        return None
    if caller == "no key":
        return "Authorization: Bearer nothing"
    store = f"sqlite:///{folder / 'deploylog.db'}"
    command = (sys.executable, "-m", "deploylog", "keys", "add", "fuzz", "--store", store)
    grants = ("--grant", "admin:/")
    key = subprocess.check_output((*command, *grants), text=True, env=servers.environment())
    return f"Authorization: Bearer {key.split()[-1]}"


def _fuzz(port: int, header: str | None, trial: Trial) -> tuple[int, list[str]]:
    """Fuzz as one caller; how many requests, and which operations failed."""
    if not _SCHEMATHESIS.exists():
        raise servers.Unavailable("schemathesis is not here: run make fuzz")
    command = [
        str(_SCHEMATHESIS), "run", f"http://127.0.0.1:{port}/openapi.json", "--no-color",
        "--checks", "not_a_server_error", "--phases", "coverage,fuzzing",
        "--max-examples", str(trial["examples"]), "--seed", str(trial.seed),
        "--request-timeout", str(_REQUEST_SECONDS), "--exclude-path-regex", _LEFT_OUT,
        "--suppress-health-check", "all", "--continue-on-failure",
    ]  # fmt: skip
    environment = servers.environment() | {"SCHEMATHESIS_HOOKS": "faults.fuzzhooks"}
    done = subprocess.run(
        [*command, *(("-H", header) if header else ())],
        capture_output=True, text=True, env=environment, cwd=servers.ROOT, check=False,
    )  # fmt: skip
    number = sum(map(int, _GENERATED.findall(done.stdout)))
    if done.returncode == 0:
        return number, []
    return number, _FAILED.findall(done.stdout) or [(done.stdout + done.stderr)[-500:]]


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
