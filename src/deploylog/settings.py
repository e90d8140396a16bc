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
        help="Address to listen on. Anything but loopback needs authentication.",
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
        name="unix_socket",
        type=str,
        default="",
        help="Path of a unix socket to listen on, too; only this user may connect.",
    ),
    Setting(
        name="base_paths",
        type=str,
        default="",
        help="Paths, separated by commas, that may stand before every other, such as /bluelink.",
    ),
    Setting(
        name="plan_folders",
        type=str,
        default="",
        help="Absolute folders, separated by commas, below which clients may name plan files.",
    ),
    Setting(
        name="changeset_days",
        type=float,
        default=0.0,
        help="Days that a cleanup leaves change sets for; 0 leaves them for ever.",
    ),
    Setting(
        name="bluelink_project",
        type=str,
        default="default",
        help="Project of what Bluelink clients stage for an instance that there is not yet.",
    ),
    Setting(
        name="bluelink_recent_seconds",
        type=int,
        default=300,
        help="Age in seconds from which a Bluelink stream of something finished leaves events"
        " out; 0 leaves none out.",
    ),
    Setting(
        name="bluelink_drift_check",
        type=bool,
        default=False,
        help="End the staging of a plan that shows drift as drift, unless the client skips that.",
    ),
    Setting(
        name="escape_secret_file",
        type=str,
        default="",
        help="File of the secret with which EscapeKit's services may create events.",
    ),
    Setting(
        name="escape_upload_groups",
        type=str,
        default="*",
        help="Groups, separated by commas, that may see what an Inventory says was uploaded.",
    ),
    Setting(
        name="escape_page_size",
        type=int,
        default=50,
        help="Events on a page for EscapeKit's clients that do not say how many.",
    ),
    Setting(
        name="secret_key_file",
        type=str,
        default="",
        help="File of the keys that seal stored secrets, one a line; the first one seals.",
    ),
    Setting(
        name="oidc_issuer",
        type=str,
        default="",
        help="Issuer of bearer tokens, by host or URL; none accepts no tokens.",
    ),
    Setting(
        name="oidc_audience",
        type=str,
        default="",
        help="Audience that a token must be for; needed with an issuer.",
    ),
    Setting(
        name="oidc_algorithms",
        type=str,
        default="RS256,ES256,EdDSA",
        help="Algorithms, separated by commas, that a token may be signed with.",
    ),
    Setting(
        name="oidc_groups_claim",
        type=str,
        default="groups",
        help="Claim that holds the groups, such as realm_access.roles.",
    ),
    Setting(
        name="oidc_grants_claim",
        type=str,
        default="deploylog_grants",
        help="Claim that holds the grants, such as read:project/acme.",
    ),
    Setting(
        name="oidc_default_grants",
        type=str,
        default="",
        help="Grants, separated by blanks, of a token without the claim that holds them.",
    ),
    Setting(
        name="oidc_leeway_seconds",
        type=int,
        default=30,
        help="Seconds that the clocks of the issuer and the service may differ.",
    ),
    Setting(
        name="sns_topics",
        type=str,
        default="",
        help="Topics of SNS that may deliver, separated by commas, each ARN=PROJECT, or ARN alone.",
    ),
    Setting(
        name="signature_stream_seconds",
        type=int,
        default=300,
        help="Age in seconds that a Bluelink signature may have on a stream that reconnects.",
    ),
    Setting(
        name="max_requests_per_second",
        type=float,
        default=0.0,
        help="Most requests a second of each principal; 0 is no limit.",
    ),
    Setting(
        name="max_streams",
        type=int,
        default=2_000,
        help="Most open streams of each principal.",
    ),
    Setting(
        name="max_failures_per_minute",
        type=int,
        default=60,
        help="Most failed authentications a minute of each address; 0 is no limit.",
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
    unix_socket: str
    base_paths: str
    plan_folders: str
    changeset_days: float
    bluelink_project: str
    bluelink_recent_seconds: int
    bluelink_drift_check: bool
    escape_secret_file: str
    escape_upload_groups: str
    escape_page_size: int
    secret_key_file: str
    oidc_issuer: str
    oidc_audience: str
    oidc_algorithms: str
    oidc_groups_claim: str
    oidc_grants_claim: str
    oidc_default_grants: str
    oidc_leeway_seconds: int
    sns_topics: str
    signature_stream_seconds: int
    max_requests_per_second: float
    max_streams: int
    max_failures_per_minute: int
    log_level: str


_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "retention_days": (0, 36500),
    "max_body_bytes": (1024, 1 << 30),
    "max_unpacked_bytes": (1024, 1 << 32),
    "max_batch_events": (1, 100_000),
    "heartbeat_seconds": (0.05, 3600),
    "changeset_days": (0, 36500),
    "bluelink_recent_seconds": (0, 1 << 31),
    "escape_page_size": (1, 1000),
    "oidc_leeway_seconds": (0, 300),
    "signature_stream_seconds": (300, 86_400),
    "max_requests_per_second": (0, 1_000_000),
    "max_streams": (1, 1_000_000),
    "max_failures_per_minute": (0, 1_000_000),
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


def paths_of(text: str) -> tuple[str, ...]:
    """The paths that a setting lists, without a slash at their end."""
    return tuple(path.strip().rstrip("/") for path in text.split(",") if path.strip(" /"))


def names_of(text: str) -> tuple[str, ...]:
    """The names that a setting lists."""
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))


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
    for name in ("plan_folders", "base_paths"):
        for path in paths_of(getattr(settings, name)):
            if not path.startswith("/") or ".." in path.split("/"):
                raise InvalidSettings(f"{name}: {path!r} is not an absolute path")
    if not 1 <= len(settings.bluelink_project) <= 128:
        raise InvalidSettings("bluelink_project has 1 to 128 characters")
    if not settings.oidc_issuer and (settings.oidc_audience or settings.oidc_default_grants):
        raise InvalidSettings("oidc_audience and oidc_default_grants need oidc_issuer")
    if len(names_of(settings.escape_upload_groups)) > 64:
        raise InvalidSettings("escape_upload_groups has at most 64 groups")
    if settings.oidc_issuer and not settings.oidc_audience:
        raise InvalidSettings("oidc_issuer needs oidc_audience: whom its tokens must be for")
    if settings.log_level not in _LEVELS:
        raise InvalidSettings(f"log_level must be one of {', '.join(_LEVELS)}")
