"""Route table + structs -> an OpenAPI 3.1 document for one dialect. What the table does not say is not made up."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Route

_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

Document = dict[str, Any]
"""JSON of an OpenAPI document, or of a part of one."""

_Schemas = dict[type, Document]

_KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your own name for this request. Sent again under it within 24 hours, it begins nothing new.",
    "schema": {"type": "string", "minLength": 1},
}


def openapi(dialect: Dialect, *, version: str) -> Document:
    """The document. Struct types named by routes become component schemas; an operation's id is its method and path."""
    schemas, components = _schemas(dialect.routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in dialect.routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"credential": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Iterable[Route[Any]]) -> tuple[_Schemas, Document]:
    """The schema of each type that routes name, most of them a reference, and the components they refer to.

    All are asked for at once: only so do two types of one name get two components.
    """
    named = (each for route in routes for each in (route.takes, route.gives) if each is not None)
    types = list(dict.fromkeys(named))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return dict(zip(types, schemas, strict=True)), components


def _operation(route: Route[Any], schemas: _Schemas) -> Document:
    operation: Document = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": _responses(route, schemas),
    }
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    if _begins_a_turn(route):
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[route.takes]}}}
    operation["security"] = [] if route.open else [{"credential": [route.scope] if route.scope else []}]
    return operation


def _begins_a_turn(route: Route[Any]) -> bool:
    """Whether an idempotency key means anything here: what only asks or changes can be sent again without one."""
    return route.method == "POST" and route.answer is None


def _responses(route: Route[Any], schemas: _Schemas) -> Document:
    error = {"description": "An error, in this API's own shape"}
    if route.stream is not None:
        media_type = route.stream.media_type.partition(";")[0]
        return {"200": {"description": "Frames, as they come", "content": {media_type: {}}}, "default": error}
    schema = {} if route.gives is None else {"schema": schemas[route.gives]}
    # Which of 200, 201 and 202 it is stands in code: the table does not say.
    return {"2XX": {"description": "The answer", "content": {"application/json": schema}}, "default": error}
