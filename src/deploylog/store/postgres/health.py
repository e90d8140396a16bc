"""Health: which errors are trouble of the store."""

from psycopg import errors

from deploylog.errors import StoreUnavailable

#: Errors that the data of one request can cause. Other errors are trouble of the store.
_CAUSED_BY_DATA = (
    errors.DataError,
    errors.IntegrityError,
    errors.ProgrammingError,
    errors.NotSupportedError,
    errors.ProgramLimitExceeded,
)


def is_trouble(error: Exception) -> bool:
    """Whether the store is in trouble, rather than one request."""
    return isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, _CAUSED_BY_DATA)
