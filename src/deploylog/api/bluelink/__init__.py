"""The Bluelink API: what the Deploy Engine's clients ask of it while changes are staged."""

from collections.abc import Iterator
from pathlib import Path

from deploylog.api.api import Api
from deploylog.api.bluelink.errors import respond
from deploylog.api.bluelink.operations import ERROR, RESOURCES
from deploylog.api.bluelink.paths import PREFIXES
from deploylog.api.bluelink.settings import BluelinkSettings
from deploylog.api.settings import paths_of


def _warnings(settings: BluelinkSettings) -> Iterator[str]:
    for folder in paths_of(settings.plan_folders):
        if not Path(folder).is_dir():
            yield f"plan_folders: there is no folder {folder}"


API = Api(
    title="Bluelink: the Deploy Engine's API",
    prefixes=PREFIXES,
    settings=BluelinkSettings,
    resources=RESOURCES,
    respond=respond,
    error=ERROR,
    security={
        "bluelinkApiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "Bluelink-Api-Key",
            "description": "An API key, as Bluelink's clients send it.",
        },
        "bluelinkSignature": {
            "type": "apiKey",
            "in": "header",
            "name": "Bluelink-Signature-V1",
            "description": "An HMAC-SHA256 of a key pair over the header Bluelink-Date, which must"
            " be there too.",
        },
    },
    warnings=_warnings,
    answers_head=False,
)
