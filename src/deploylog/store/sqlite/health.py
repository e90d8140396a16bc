"""Health: which errors are trouble of the store."""

import apsw

from deploylog.errors import StoreUnavailable

#: Errors that the data of one request can cause. Other errors are trouble of the store.
_CAUSED_BY_DATA = (
    apsw.ConstraintError,
    apsw.TooBigError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
)


def is_trouble(error: Exception) -> bool:
    """Whether the store is in trouble, rather than one request."""
    return isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, _CAUSED_BY_DATA)
