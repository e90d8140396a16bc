"""Settings: one table; read once from options, environment and file into a frozen object."""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from deploylog.errors import InvalidSettings
from deploylog.server.settings.table import RENAMED, SETTINGS, Setting


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The choices made. Each field is the setting of that name."""

    host: str
    port: int
    store: str
    event_retention_days: float
    max_body_bytes: int
    max_decompressed_bytes: int
    max_batch_events: int
    heartbeat_seconds: float
    query_timeout_seconds: float
    max_stream_memory_mib: int
    rfs_strict: bool
    unix_socket: str
    base_paths: str
    plan_folders: str
    changeset_retention_days: float
    bluelink_project: str
    bluelink_recent_seconds: int
    bluelink_drift_check: bool
    escape_secret_file: str
    escape_upload_groups: str
    escape_page_size: int
    cloudformation_project: str
    cloudformation_region: str
    cloudformation_account: str
    parallelcluster_regions: str
    parallelcluster_region: str
    parallelcluster_raw_statuses: bool
    parallelcluster_version: str
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
    max_streams_per_principal: int
    max_failures_per_minute: int
    max_connections: int
    max_connections_per_address: int
    max_target_bytes: int
    max_header_bytes: int
    max_headers: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    public_url: str
    delivery_allowed_networks: str
    delivery_ca_file: str
    delivery_seconds: float
    delivery_concurrency: int
    delivery_per_second: float
    attempt_retention_days: float
    slack_api_url: str
    log_level: str


_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "event_retention_days": (0, 36500),
    "max_body_bytes": (1024, 1 << 30),
    "max_decompressed_bytes": (1024, 1 << 32),
    "max_batch_events": (1, 100_000),
    "heartbeat_seconds": (0.05, 3600),
    "query_timeout_seconds": (0.1, 3600),
    "max_stream_memory_mib": (8, 1 << 20),
    "changeset_retention_days": (0, 36500),
    "bluelink_recent_seconds": (0, 1 << 31),
    "escape_page_size": (1, 1000),
    "oidc_leeway_seconds": (0, 300),
    "signature_stream_seconds": (300, 86_400),
    "max_requests_per_second": (0, 1_000_000),
    "max_streams_per_principal": (1, 1_000_000),
    "max_failures_per_minute": (0, 1_000_000),
    "max_connections": (0, 1_000_000),
    "max_connections_per_address": (0, 1_000_000),
    "max_target_bytes": (1024, 1 << 20),
    "max_header_bytes": (1024, 1 << 20),
    "max_headers": (16, 10_000),
    "header_seconds": (0.1, 3600),
    "body_seconds": (0.1, 3600),
    "keep_alive_seconds": (0.1, 3600),
    "delivery_seconds": (0.1, 60),
    "delivery_concurrency": (1, 1000),
    "delivery_per_second": (0, 1_000_000),
    "attempt_retention_days": (0, 36500),
}

_REGION = re.compile("[a-z0-9-]+")
_ACCOUNT = re.compile("[0-9]{12}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*([a-z]+[0-9]*)?")

_LEVELS = ("debug", "info", "warning", "error")


def load_settings(
    options: Mapping[str, object], *, environ: Mapping[str, str], config: Path | None
) -> Settings:
    """Options win over the environment, that over the file, that over the defaults.

    An option that is ``None`` was not given. Raises InvalidSettings, naming the setting. A name
    in the file that is not a setting's is refused, and the right one is named if it is known.
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
    known = {setting.name for setting in SETTINGS}
    for name in sorted(values.keys() - known):
        raise InvalidSettings(f"{path}: unknown setting {name!r}{_instead(name, known)}")
    return values


def _instead(name: str, known: Collection[str]) -> str:
    """Which name to use, if one is known."""
    if name in RENAMED:
        return f": use {RENAMED[name]}"
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""


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
    for name in ("public_url", "slack_api_url"):
        url = getattr(settings, name)
        if url and not url.startswith(("http://", "https://")):
            raise InvalidSettings(f"{name} is {url!r}; it must be an http or https address")
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
    _check_aws(settings)
    if settings.log_level not in _LEVELS:
        raise InvalidSettings(f"log_level must be one of {', '.join(_LEVELS)}")


def _check_aws(settings: Settings) -> None:
    """What AWS's clients take as a region, an account or a version."""
    if not _REGION.fullmatch(settings.cloudformation_region):
        raise InvalidSettings("cloudformation_region is not a region")
    if not _ACCOUNT.fullmatch(settings.cloudformation_account):
        raise InvalidSettings("cloudformation_account has 12 digits")
    if not _VERSION.fullmatch(settings.parallelcluster_version):
        raise InvalidSettings("parallelcluster_version is not a version")
    region = settings.parallelcluster_region
    if region and region not in names_of(settings.parallelcluster_regions):
        raise InvalidSettings("parallelcluster_region is not one of parallelcluster_regions")
