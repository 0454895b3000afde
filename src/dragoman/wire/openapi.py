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
    schemas, components = _schemas(branch for route in dialect.routes for branch in (route, *route.forks.values()))
    paths: dict[str, dict[str, Any]] = {}
    for route in dialect.routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    tickets = {
        route.ticket: {"type": "apiKey", "in": "query", "name": route.ticket}
        for route in dialect.routes
        if route.ticket
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"credential": {"type": "http", "scheme": "bearer"}, **tickets},
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
    branches = _branches(route)
    operation: Document = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": _responses(branches, schemas),
    }
    if route.forks:
        operation["description"] = "\n".join(_of_branch(name, branch) for name, branch in route.forks.items())
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    if any(map(_begins_a_turn, branches)):
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    taken = _either(schemas[branch.takes] for branch in (route, *branches) if branch.takes is not None)
    if taken:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": taken}}}
    operation["security"] = _security(route)
    return operation


def _branches(route: Route[Any]) -> tuple[Route[Any], ...]:
    """What answers: the route itself, or its forks."""
    return tuple(route.forks.values()) or (route,)


def _of_branch(name: str, branch: Route[Any]) -> str:
    needs = f" (also needs {' and '.join(branch.scopes)})" if branch.scopes else ""
    return f"- `{name}`: {branch.summary}{needs}"


def _either(schemas: Iterable[Document]) -> Document:
    """What is of one of these schemas; {} if there are none."""
    different: list[Document] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return {"oneOf": different} if len(different) > 1 else different[0] if different else {}


def _security(route: Route[Any]) -> list[Document]:
    """Ways to be let in, any of which will do."""
    if route.open:
        return []
    ways: list[Document] = [{"credential": list(route.scopes)}]
    return [*ways, {route.ticket: []}] if route.ticket else ways


def _begins_a_turn(route: Route[Any]) -> bool:
    """Whether an idempotency key means anything here: what only asks or changes can be sent again without one."""
    return route.method == "POST" and route.answer is None


def _responses(branches: Iterable[Route[Any]], schemas: _Schemas) -> Document:
    streams = [branch.stream.media_type.partition(";")[0] for branch in branches if branch.stream is not None]
    whole = [branch for branch in branches if branch.stream is None]
    responses: Document = {}
    if streams:
        responses["200"] = {
            "description": "Frames, as they come",
            "content": {media_type: {} for media_type in streams},
        }
    if whole:
        schema = _either(schemas[branch.gives] for branch in whole if branch.gives is not None)
        content: Document = {"schema": schema} if schema else {}
        # Which of 200, 201 and 202 it is stands in code: the table does not say.
        responses["2XX"] = {"description": "The answer", "content": {"application/json": content}}
    return responses | {"default": {"description": "An error, in this API's own shape"}}
