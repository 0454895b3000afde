"""Route table + structs -> an OpenAPI 3.1 document for one dialect. What the table does not say is not made up."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Route

_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

Document = dict[str, Any]
"""JSON of an OpenAPI document."""


def openapi(dialect: Dialect, *, version: str) -> Document:
    """The document. Struct types named by routes become component schemas; an operation's id is its method and path."""
    types = _types(dialect.routes)
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in dialect.routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"credential": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(routes: Iterable[Route[Any]]) -> list[type]:
    named = (each for route in routes for each in (route.takes, route.gives) if each is not None)
    return list(dict.fromkeys(named))


def _operation(route: Route[Any]) -> Mapping[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": _responses(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.takes)}}}
    operation["security"] = [] if route.open else [{"credential": [route.scope] if route.scope else []}]
    return operation


def _responses(route: Route[Any]) -> Mapping[str, Any]:
    if route.stream is not None:
        media_type = route.stream.media_type.partition(";")[0]
        answer: dict[str, Any] = {"description": "Frames, as they come", "content": {media_type: {}}}
    else:
        schema = {} if route.gives is None else {"schema": _ref(route.gives)}
        answer = {"description": "The answer", "content": {"application/json": schema}}
    return {"200": answer, "default": {"description": "An error, in this API's own shape"}}


def _ref(type_: type) -> Mapping[str, Any]:
    return msgspec.json.schema_components([type_], ref_template="#/components/schemas/{name}")[0][0]
