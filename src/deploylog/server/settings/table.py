"""The table of settings, read from the structs that declare them."""

from collections.abc import Iterator

import msgspec

from deploylog.api import APIS
from deploylog.server.settings.server import ServerSettings


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as an operator sees it."""

    name: str
    type: type
    default: str | int | float | bool
    help: str
    #: The lowest and the highest value of a number that has a range.
    range: tuple[float, float] | None = None

    @property
    def env(self) -> str:
        """The environment variable."""
        return f"DEPLOYLOG_{self.name.upper()}"

    @property
    def option(self) -> str:
        """The command-line option."""
        return f"--{self.name.replace('_', '-')}"


#: Former names of settings.
RENAMED = {
    "retention_days": "event_retention_days",
    "changeset_days": "changeset_retention_days",
    "attempt_days": "attempt_retention_days",
    "delivery_networks": "delivery_allowed_networks",
    "max_streams": "max_streams_per_principal",
    "max_unpacked_bytes": "max_decompressed_bytes",
}


def settings_of(section: type[msgspec.Struct]) -> Iterator[Setting]:
    """The settings that a struct declares: its fields, whose ``Meta`` has the range and help."""
    for field in msgspec.structs.fields(section):
        [meta] = field.type.__metadata__
        yield Setting(
            name=field.name,
            type=field.type.__origin__,
            default=field.default,
            help=meta.description,
            range=None if meta.ge is None else (meta.ge, meta.le),
        )


#: What declares settings: the server, then each API.
SECTIONS: tuple[type[msgspec.Struct], ...] = (ServerSettings, *(api.settings for api in APIS))

#: Every setting, once: two APIs may share some.
SETTINGS = tuple({each.name: each for kind in SECTIONS for each in settings_of(kind)}.values())
