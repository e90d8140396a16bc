"""The settings of the RFS API."""

from typing import Annotated

import msgspec

from deploylog.api.settings import setting


class RfsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the RFS API treats its clients."""

    rfs_strict: Annotated[
        bool,
        setting(
            "Refuse query parameters that the RFS API does not define, instead of ignoring them."
        ),
    ] = False
