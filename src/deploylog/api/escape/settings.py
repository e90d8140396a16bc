"""The settings of the Escape API."""

from typing import Annotated

import msgspec

from deploylog.api.settings import names_of, setting
from deploylog.errors import InvalidSettings

_MAX_UPLOAD_GROUPS = 64


class EscapeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How EscapeKit's services and clients are treated."""

    escape_secret_file: Annotated[
        str,
        setting("File of the secret that lets EscapeKit's services create events."),
    ] = ""
    escape_upload_groups: Annotated[
        str,
        setting("Groups, separated by commas, that may see the uploads that an Inventory reports."),
    ] = "*"
    escape_page_size: Annotated[
        int,
        setting("Events per page for EscapeKit clients that do not ask for a number.", 1, 1000),
    ] = 50

    def __post_init__(self) -> None:
        if len(names_of(self.escape_upload_groups)) > _MAX_UPLOAD_GROUPS:
            raise InvalidSettings(f"escape_upload_groups has at most {_MAX_UPLOAD_GROUPS} groups")
