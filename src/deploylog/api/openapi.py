"""The description of the APIs: an OpenAPI 3.1 document."""

from functools import cache
from typing import Any

import msgspec

from deploylog import __version__
from deploylog.api import APIS
from deploylog.api.operation import Body, Operation, Parameter

_REF = "#/components/schemas/{name}"


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document. Its schemas are derived from the types that the code uses."""
    operations = [(api, operation) for api in APIS for operation in api.operations]
    types = {
        body.type
        for api, operation in operations
        for body in (*operation.bodies, api.error)
        if body.type
    }
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(
        ordered, schema_hook=_schema_of, ref_template=_REF
    )
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for api, operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, api.error, by_type
        )
    security = {name: each for api in APIS for name, each in api.security.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Deploylog",
            "version": __version__,
            "description": "The event log of your deployments.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        # No credential is required until authentication is configured.
        "security": [{}, *({name: []} for name in security)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": security,
        },
    }


@cache
def render_document() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document())


def _schema_of(type_: type) -> dict[str, Any]:
    """Return the schema of ``object``, which msgspec lacks: any JSON value."""
    if type_ is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError


def _operation(operation: Operation[Any], error: Body, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {str(body.status): _response(body, schemas) for body in operation.answers}
        | {"default": _response(error, schemas)},
    }
    if operation.description:
        described["description"] = operation.description
    if operation.request:
        described["requestBody"] = {
            "required": True,
            "content": {body.media: _media(body, schemas) for body in operation.request},
        }
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.help,
        "schema": parameter.schema,
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _response(body: Body, schemas: dict[Any, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": body.help}
    if body.media:
        response["content"] = {body.media: _media(body, schemas)}
    return response


def _media(body: Body, schemas: dict[Any, Any]) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": schemas[body.type] if body.type else {"type": "string"}}
    if body.example is not None:
        media["example"] = body.example
    return media
