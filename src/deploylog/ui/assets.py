"""Static files: each under a name that holds its hash, so that browsers may keep it for ever."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import msgspec

from deploylog.ui.vendored import VENDORED

#: Where the files are.
FOLDER = Path(__file__).parent / "static"

#: Media types by suffix; other files are not served.
_MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: What a module imports: the only strings that name files.
_IMPORT = re.compile(rb'(?P<before>\b(?:from|import)\s*\(?\s*")(?P<name>[^"]+)(?P<after>")')


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file as browsers get it."""

    #: Its name, with the hash in it.
    name: str
    media: str
    body: bytes
    #: The files of its imports, and theirs, by their original names.
    imports: tuple[str, ...]

    @property
    def gzipped(self) -> bytes:
        """The body, compressed when it is first asked for."""
        return _gzipped(self.body)


@cache
def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


class Assets:
    """Every static file, read once. Imports name the hashed files: no build step, no import map."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        #: By original name: the path below the folder.
        self._assets: dict[str, Asset] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix in _MEDIA:
                self._load(path.relative_to(folder).as_posix(), ())
        self._by_hashed_name = {asset.name: asset for asset in self._assets.values()}

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._assets.values())

    def asset(self, name: str) -> Asset:
        """The file with this original name; raises KeyError."""
        return self._assets[name]

    def find(self, hashed_name: str) -> Asset | None:
        """The file that browsers know by this name."""
        return self._by_hashed_name.get(hashed_name)

    def _load(self, name: str, importing: tuple[str, ...]) -> Asset:
        """Load a file after what it imports, as its hash covers theirs."""
        if name in importing:
            raise ValueError(f"{name} imports itself: {' -> '.join(importing)}")
        if name not in self._assets:
            self._assets[name] = self._read(name, (*importing, name))
        return self._assets[name]

    def _read(self, name: str, importing: tuple[str, ...]) -> Asset:
        path = self._folder / name
        body = path.read_bytes()
        found: dict[str, Asset] = {}

        def hashed(match: re.Match[bytes]) -> bytes:
            target = _resolve(name, match["name"].decode())
            found[target] = self._load(target, importing)
            return match["before"] + _relative(name, found[target].name).encode() + match["after"]

        if path.suffix == ".js":
            body = _IMPORT.sub(hashed, body)
        deeper = (each for asset in found.values() for each in asset.imports)
        return Asset(
            name=_hashed_name(name, body),
            media=_MEDIA[path.suffix],
            body=body,
            imports=tuple(dict.fromkeys((*found, *deeper))),
        )


@cache
def program_assets() -> Assets:
    """The files of this program, which are read once."""
    return Assets()


def _resolve(importer: str, specifier: str) -> str:
    """The original name of what ``importer`` imports; a bare name is a vendored library."""
    if specifier in VENDORED:
        return f"vendor/{VENDORED[specifier].file}"
    if not specifier.startswith("./"):
        raise ValueError(f'{importer} imports "{specifier}", which is neither ours nor vendored')
    return (PurePosixPath(importer).parent / specifier).as_posix()


def _relative(importer: str, target: str) -> str:
    """The specifier by which ``importer`` names ``target``."""
    up = "../" * (len(PurePosixPath(importer).parts) - 1)
    return f"{up or './'}{target}"


def _hashed_name(name: str, body: bytes) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(body).hexdigest()[:12]}{dot}{suffix}"
