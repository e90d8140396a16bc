"""Standard output and standard error of this process."""

import os
import sys


def log_line(line: str) -> None:
    """Print a line about the command itself on standard error."""
    print(f"deploylog: {line}", file=sys.stderr)


def discard_stdout() -> None:
    """Send standard output to nowhere: its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
