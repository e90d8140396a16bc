"""The viewer in ``static/``: which, whose, and exactly what files."""

import msgspec


class VendoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a package of the npm registry, unchanged."""

    package: str
    version: str
    #: SPDX; the texts are in the folder ``static/licenses``.
    license: str
    #: Its name in ``static``, which is its path in the package.
    file: str
    sha256: str


_PACKAGE, _VERSION, _LICENSE = "swagger-ui-dist", "5.35.0", "Apache-2.0"

VENDORED = (
    VendoredFile(
        package=_PACKAGE,
        version=_VERSION,
        license=_LICENSE,
        file="swagger-ui-bundle.js",
        sha256="e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    ),
    VendoredFile(
        package=_PACKAGE,
        version=_VERSION,
        license=_LICENSE,
        file="swagger-ui.css",
        sha256="5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    ),
)
