"""The exit code of each error."""

import os

from deploylog.client import TransientError, Unanswered
from deploylog.client.uploader import Undelivered
from deploylog.errors import DeploylogError, OperatorError

#: The nearest class in an error's ancestry decides.
EXIT_CODES: dict[type[DeploylogError], int] = {
    DeploylogError: 1,
    OperatorError: 2,
    Undelivered: os.EX_TEMPFAIL,
    Unanswered: os.EX_TEMPFAIL,
    TransientError: os.EX_TEMPFAIL,
}


def exit_code(error: DeploylogError) -> int:
    """Return the code with which the process exits after ``error``."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
