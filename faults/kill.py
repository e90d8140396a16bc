"""Kill the service again and again while it records, on either store, and examine the log.

Eight writers post batches: half of them with the ids of events, half with the key of the request.
After the next start each sends again what was not acknowledged, and the last batch that was, which
must get the first answer. Two readers follow the stream, and come back. Each round kills with
SIGKILL at a random moment; see ``bench.crash`` for what must be true of the log. Each reader must
have seen the whole log, every event once and in order.
"""

import random
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers
from bench.crash import Trial as Crashes
from bench.crash import check_file, read_log

from faults.database import store_url
from faults.findings import as_text
from faults.suite import Outcome, Suite, Trial
from faults.tails import Tail, caught_up, faults_of, following

_WRITERS = 8
_READERS = 2

#: Small and few, for the whole log is read in every round.
_LARGEST_BATCH = 8
_PAUSE_SECONDS = 0.01


async def run(trial: Trial) -> Outcome:
    """All rounds on one store."""
    with (
        TemporaryDirectory(prefix="faults-kill-") as name,
        store_url(trial.store, Path(name)) as url,
    ):
        serve = partial(servers.deploylog, Path(name), store=url, program=trial.program)
        crashes = Crashes(
            Path(name),
            random.Random(trial.seed),
            writers=_WRITERS,
            largest=_LARGEST_BATCH,
            keyed=_WRITERS // 2,
            pause=_PAUSE_SECONDS,
            serve=serve,
        )
        readers = [Tail("scope=project/crash") for _ in range(_READERS)]
        found = await _rounds(crashes, readers, trial["rounds"])
        found += as_text(await crashes.settle())
        async with serve() as server:
            log = [(each.id, int(each.position)) for each in await read_log(server.port)]
            async with following(readers, server.port):
                await caught_up(readers, len(log))
        for reader in readers:
            found += faults_of(reader, log)
        if (
            trial.store == "sqlite"
            and (integrity := check_file(Path(name, "deploylog.db"))) != "ok"
        ):
            found.append(f"integrity check: {integrity}")
    return Outcome(
        figures={
            "rounds": trial["rounds"],
            "acknowledged": crashes.acknowledged,
            "sent_again": crashes.retried,
            "of_these_recorded_before": crashes.recognized,
            "streams_resumed": sum(reader.resumed for reader in readers),
        },
        findings=found,
    )


async def _rounds(crashes: Crashes, readers: list[Tail], rounds: int) -> list[str]:
    for number in range(1, rounds + 1):
        findings = await crashes.crash(beside=lambda port: [each.follow(port) for each in readers])
        if not findings.is_clean:
            return [f"round {number}: {each}" for each in as_text(findings)]
    return []


SUITE = Suite(
    name="kill",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={
        "sqlite": ("commit", "identities", "keys"),
        "postgresql": ("identities", "keys"),
    },
    numbers={"rounds": 50},
)

if __name__ == "__main__":
    SUITE.main()
