"""The syntax of the program, for tests of what stands in it."""

import ast
import gc
from pathlib import Path


def parse_module(file: Path) -> ast.Module:
    # Garbage may format a traceback when it is collected, and so parse a line. Python 3.11.7
    # counts the depth of both in one place, and fails with a SystemError or a RecursionError.
    gc.disable()
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    finally:
        gc.enable()
