"""A former version of Deploylog, out of the repository's history, in processes of its own.

The arguments are the folder that has its source, and those of ``deploylog``.
"""

import io
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

from bench.servers import ROOT, Unavailable

#: The last version whose log had a table of postings: schema 5, no index of segments.
FORMER = "bf98083"


def extract_former(folder: Path) -> tuple[str, ...]:
    """Put the former version's source into ``folder``; return what Python runs instead of a module.

    Raises Unavailable when the repository has no history, as a shallow clone or an archive.
    """
    command = ("git", "-C", str(ROOT), "archive", FORMER, "src")
    try:
        packed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"version {FORMER} is not here: clone the repository with its whole history"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return ("-m", "faults.former", str(folder / "src"))


if __name__ == "__main__":
    # Before the version of this repository, which is on the path as well.
    sys.path.insert(0, sys.argv[1])
    sys.argv = ["deploylog", *sys.argv[2:]]
    runpy.run_module("deploylog", run_name="__main__", alter_sys=True)
