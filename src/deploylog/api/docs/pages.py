"""The pages, rendered from the OpenAPI document and the operations."""

from functools import cache

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from deploylog import __version__
from deploylog.api import APIS
from deploylog.api.docs.assets import assets
from deploylog.api.openapi import document


@cache
def render_viewer() -> str:
    """The page of the viewer."""
    return _environment().get_template("viewer.html").render(version=__version__)


@cache
def render_text() -> str:
    """The document as a page without scripts."""
    operations = [(api.title, api.operations, api.error) for api in APIS]
    schemas = {
        name: msgspec.json.format(msgspec.json.encode(schema)).decode()
        for name, schema in document()["components"]["schemas"].items()
    }
    return (
        _environment()
        .get_template("text.html")
        .render(version=__version__, dialects=operations, schemas=schemas)
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deploylog.api.docs", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = lambda name: f"docs/static/{name}?{assets()[name].digest}"
    return environment
