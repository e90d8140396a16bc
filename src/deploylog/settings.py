"""Settings: one table; read once from options, environment and file into a frozen object."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploylog.errors import InvalidSettings


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an operator can choose."""

    name: str
    type: type
    default: str | int | float | bool
    help: str

    @property
    def env(self) -> str:
        """The environment variable."""
        return f"DEPLOYLOG_{self.name.upper()}"

    @property
    def option(self) -> str:
        """The command-line option."""
        return f"--{self.name.replace('_', '-')}"


SETTINGS = (
    Setting(
        name="host",
        type=str,
        default="127.0.0.1",
        help="Address to listen on. Anything but loopback needs at least one key.",
    ),
    Setting(name="port", type=int, default=8325, help="Port to listen on; 0 takes a free one."),
    Setting(
        name="store",
        type=str,
        default="sqlite:///deploylog.db",
        help="Where the log is kept: sqlite:///PATH.",
    ),
    Setting(
        name="retention_days",
        type=float,
        default=0.0,
        help="Days that events are retained; 0 retains them for ever.",
    ),
    Setting(
        name="max_body_bytes",
        type=int,
        default=8 * 1024 * 1024,
        help="Largest request body, as sent.",
    ),
    Setting(
        name="max_unpacked_bytes",
        type=int,
        default=32 * 1024 * 1024,
        help="Largest request body after it was unpacked.",
    ),
    Setting(
        name="max_batch_events",
        type=int,
        default=5_000,
        help="Most events of one request.",
    ),
    Setting(
        name="heartbeat_seconds",
        type=float,
        default=15.0,
        help="Seconds after which a silent stream shows that it is alive.",
    ),
    Setting(
        name="rfs_strict",
        type=bool,
        default=False,
        help="Refuse query parameters that the RFS API does not know, instead of ignoring them.",
    ),
    Setting(
        name="log_level",
        type=str,
        default="info",
        help="What the service says of itself: debug, info, warning or error.",
    ),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The choices made. Each field is the setting of that name."""

    host: str
    port: int
    store: str
    retention_days: float
    max_body_bytes: int
    max_unpacked_bytes: int
    max_batch_events: int
    heartbeat_seconds: float
    rfs_strict: bool
    log_level: str


_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "retention_days": (0, 36500),
    "max_body_bytes": (1024, 1 << 30),
    "max_unpacked_bytes": (1024, 1 << 32),
    "max_batch_events": (1, 100_000),
    "heartbeat_seconds": (0.05, 3600),
}

_LEVELS = ("debug", "info", "warning", "error")


def load_settings(
    options: Mapping[str, object], *, environ: Mapping[str, str], config: Path | None
) -> Settings:
    """Options win over the environment, that over the file, that over the defaults.

    An option that is ``None`` was not given. Raises InvalidSettings, naming the setting.
    """
    chosen: dict[str, object] = {setting.name: setting.default for setting in SETTINGS}
    chosen |= _from_file(config) if config is not None else {}
    chosen |= {s.name: environ[s.env] for s in SETTINGS if s.env in environ}
    chosen |= {name: value for name, value in options.items() if value is not None}
    converted = {setting.name: _convert(setting, chosen[setting.name]) for setting in SETTINGS}
    settings = msgspec.convert(converted, Settings)
    _check(settings)
    return settings


def _from_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path} is not TOML: {error}") from error
    unknown = values.keys() - {setting.name for setting in SETTINGS}
    if unknown:
        raise InvalidSettings(f"{path}: there is no setting {sorted(unknown)[0]!r}")
    return values


def _convert(setting: Setting, value: object) -> object:
    try:
        return msgspec.convert(value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(
            f"{setting.name} is {value!r}; it must be of type {setting.type.__name__}"
        ) from error


def _check(settings: Settings) -> None:
    for name, (low, high) in _RANGES.items():
        if not low <= getattr(settings, name) <= high:
            raise InvalidSettings(f"{name} must be between {low} and {high}")
    if settings.log_level not in _LEVELS:
        raise InvalidSettings(f"log_level must be one of {', '.join(_LEVELS)}")
