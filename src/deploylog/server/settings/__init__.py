"""Settings: read once from options, environment and file into a frozen object."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from deploylog.api import APIS
from deploylog.api.settings import check_absolute
from deploylog.errors import InvalidSettings
from deploylog.server.settings.server import ServerSettings
from deploylog.server.settings.table import RENAMED, SETTINGS, Setting

S = TypeVar("S", bound=msgspec.Struct)


class Settings(ServerSettings, frozen=True, kw_only=True):
    """The settings of the server, and the section of each API."""

    sections: Mapping[type[msgspec.Struct], msgspec.Struct]

    def section(self, kind: type[S]) -> S:
        """The settings of the APIs that have sections of this kind."""
        section = self.sections[kind]
        assert isinstance(section, kind)
        return section


_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMATS = ("text", "json")


def load_settings(
    options: Mapping[str, object], *, environ: Mapping[str, str], config: Path | None
) -> Settings:
    """Load the settings: options win over the environment, then the file, then the defaults.

    An option that is ``None`` is not set. Raises InvalidSettings, which names the setting. An
    unknown name in the file is an error, which suggests the right name if there is one.
    """
    chosen: dict[str, object] = {setting.name: setting.default for setting in SETTINGS}
    chosen |= _from_file(config) if config is not None else {}
    chosen |= {s.name: environ[s.env] for s in SETTINGS if s.env in environ}
    chosen |= {name: value for name, value in options.items() if value is not None}
    converted: dict[str, Any] = {
        setting.name: _convert(setting, chosen[setting.name]) for setting in SETTINGS
    }
    own = {name: converted[name] for name in ServerSettings.__struct_fields__}
    settings = Settings(**own, sections=_sections(converted))
    _check(settings)
    return settings


def _sections(values: Mapping[str, object]) -> dict[type[msgspec.Struct], msgspec.Struct]:
    return {api.settings: msgspec.convert(values, api.settings) for api in APIS}


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
    """The name to use instead, if there is one."""
    if name in RENAMED:
        return f": use {RENAMED[name]}"
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _convert(setting: Setting, value: object) -> object:
    try:
        converted: Any = msgspec.convert(value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(
            f"{setting.name} is {value!r}; it must be of type {setting.type.__name__}"
        ) from error
    if setting.range is not None:
        low, high = setting.range
        if not low <= converted <= high:
            raise InvalidSettings(f"{setting.name} must be between {low} and {high}")
    return converted


def _check(settings: Settings) -> None:
    for name in ("public_url", "slack_api_url"):
        url = getattr(settings, name)
        if url and not url.startswith(("http://", "https://")):
            raise InvalidSettings(f"{name} is {url!r}; it must be an http or https address")
    check_absolute("base_paths", settings.base_paths)
    if not settings.oidc_issuer and (settings.oidc_audience or settings.oidc_default_grants):
        raise InvalidSettings("oidc_audience and oidc_default_grants need oidc_issuer")
    if settings.oidc_issuer and not settings.oidc_audience:
        raise InvalidSettings("oidc_issuer needs oidc_audience: whom its tokens must be for")
    if settings.oidc_client_id and not settings.oidc_issuer:
        raise InvalidSettings("oidc_client_id needs oidc_issuer")
    if settings.log_level not in _LEVELS:
        raise InvalidSettings(f"log_level must be one of {', '.join(_LEVELS)}")
    if settings.log_format not in _LOG_FORMATS:
        raise InvalidSettings(f"log_format must be one of {', '.join(_LOG_FORMATS)}")
