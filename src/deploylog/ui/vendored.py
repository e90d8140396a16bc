"""The libraries in ``static/vendor/``: which, whose, and exactly what file of each."""

import msgspec


class Vendored(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a package of the npm registry, unchanged."""

    package: str
    version: str
    #: SPDX; the text is in the folder ``static/vendor/licenses``.
    license: str
    #: Its name below ``static/vendor``.
    file: str
    #: Its path in the package.
    path: str
    sha256: str


#: By the name that modules import.
VENDORED: dict[str, Vendored] = {
    "idiomorph": Vendored(
        package="idiomorph",
        version="0.8.0",
        license="0BSD",
        file="idiomorph.js",
        path="dist/idiomorph.esm.js",
        sha256="e1e2c7dbd606233d302bac48074fd1307c15609b77ea485c18f1b13d6be67c14",
    ),
}
