"""The static files of the pages. Their links name a digest, so that browsers may keep them."""

import gzip
import hashlib
from functools import cache
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "static"

#: Media types by suffix; other files are not served.
_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file as browsers get it."""

    media: str
    gzipped: bytes
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Every file by its name; read once, when a page first needs one."""
    return {path.name: _asset(path) for path in FOLDER.iterdir() if path.suffix in _MEDIA}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(
        media=_MEDIA[path.suffix],
        gzipped=gzip.compress(body, mtime=0),
        digest=hashlib.sha256(body).hexdigest()[:12],
    )
