"""The service log, as text or as JSON."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from deploylog.errors import StoreUnavailable


def configure_logging(level: str, form: str, *, worker: int | None = None) -> None:
    """Log to standard error; ``form`` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker) if form == "json" else _text_formatter(worker))
    handler.addFilter(_NotReported())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _text_formatter(worker: int | None) -> logging.Formatter:
    who = "" if worker is None else f" worker {worker}"
    return logging.Formatter(f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s")


class JsonFormatter(logging.Formatter):
    """One JSON object per line; ``fields`` of a record are members of their own."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._constant = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _NotReported(logging.Filter):
    """Drops an error that the store has logged, which every retrying loop would repeat."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, StoreUnavailable) and error.reported)
