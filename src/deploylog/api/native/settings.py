"""The settings of the native API."""

from typing import Annotated

import msgspec

from deploylog.api.settings import setting


class NativeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the native API accepts."""

    max_batch_events: Annotated[
        int,
        setting("Maximum number of events in one request.", 1, 100_000),
    ] = 5_000
