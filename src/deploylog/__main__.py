"""``python -m deploylog``."""

from deploylog.cli import main

main()
