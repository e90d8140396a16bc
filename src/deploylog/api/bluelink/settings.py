"""The settings of the Bluelink API."""

from typing import Annotated

import msgspec

from deploylog.api.settings import check_absolute, setting
from deploylog.errors import InvalidSettings

_MAX_PROJECT = 128


class BluelinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What Bluelink's clients may stage, and what their streams show."""

    plan_folders: Annotated[
        str,
        setting("Absolute folders, separated by commas, below which clients may name plan files."),
    ] = ""
    bluelink_project: Annotated[
        str,
        setting(
            "Project for changes that Bluelink clients stage for an instance that does not "
            "exist yet."
        ),
    ] = "default"
    bluelink_recent_seconds: Annotated[
        int,
        setting(
            "When a finished Bluelink stream is replayed, skip events older than this "
            "many seconds; 0 replays all.",
            0,
            1 << 31,
        ),
    ] = 300
    bluelink_drift_check: Annotated[
        bool,
        setting(
            "End the staging of a plan with drift as drift, unless the client skips the check."
        ),
    ] = False

    def __post_init__(self) -> None:
        check_absolute("plan_folders", self.plan_folders)
        if not 1 <= len(self.bluelink_project) <= _MAX_PROJECT:
            raise InvalidSettings(f"bluelink_project has 1 to {_MAX_PROJECT} characters")
