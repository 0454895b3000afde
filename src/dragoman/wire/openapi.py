"""Route table + structs -> an OpenAPI 3.1 document for one dialect. What the table does not say is not made up."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Example, Login, Parameter, Route

_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

Document = dict[str, Any]
"""JSON of an OpenAPI document, or of a part of one."""

_Schemas = dict[Any, Document]

SERVERS: list[Document] = [{"url": ".."}]
"""Relative to the document's own place, `/openapi/NAME.json`: it also holds below a base path, and behind a proxy."""

_LOGINS: dict[Login, tuple[str, Document]] = {
    "bearer": ("credential", {"type": "http", "scheme": "bearer"}),
    "basic": ("password", {"type": "http", "scheme": "basic", "description": "Any name, the credential as password"}),
    "apikey": (
        "key",
        {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`ApiKey`, a space, and the credential, or the base64 of `id:credential`",
        },
    ),
}
"""Security schemes with their names."""

_KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your own name for this request. Sent again under it within 24 hours, it begins nothing new.",
    "schema": {"type": "string", "minLength": 1},
}


def openapi(dialect: Dialect, *, version: str) -> Document:
    """The document. Struct types named by routes become component schemas; an operation's id is its method and path."""
    schemas, components = _schemas(dialect)
    paths: dict[str, dict[str, Any]] = {}
    for route in dialect.routes:
        path = _shown(route.path)
        operation = _operation(route, schemas, dialect)
        operation["responses"] |= {"default": _refusal(dialect, route, schemas)}
        paths.setdefault(path, {})[route.method.lower()] = operation
    tickets = {
        route.ticket: {"type": "apiKey", "in": "query", "name": route.ticket}
        for route in dialect.routes
        if route.ticket
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": version},
        "servers": SERVERS,
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {**dict(_LOGINS[login] for login in dialect.logins), **tickets},
        },
    }


def _schemas(dialect: Dialect) -> tuple[_Schemas, Document]:
    """The schema of each type that routes name, most of them a reference, and the components they refer to.

    All are asked for at once: only so do two types of one name get two components.
    """
    types: list[Any] = [dialect.refusal]
    for route in dialect.routes:
        for branch in (route, *route.forks.values()):
            types += [branch.takes, branch.gives, branch.refusal, *(asked.shape for asked in branch.asks)]
    different = [each for each in dict.fromkeys(types) if each is not None]
    schemas, components = msgspec.json.schema_components(different, ref_template="#/components/schemas/{name}")
    return dict(zip(different, schemas, strict=True)), components


def _operation(route: Route[Any], schemas: _Schemas, dialect: Dialect) -> Document:
    branches = _branches(route)
    operation: Document = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": _responses(route, branches, schemas),
    }
    if said := _description(route):
        operation["description"] = said
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [_parameter(asked, schemas) for asked in route.asks]
    if any(map(_begins_a_turn, branches)):
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    taken = _either(schemas[branch.takes] for branch in (route, *branches) if branch.takes is not None)
    if taken:
        examples = _examples(route, dialect.examples)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": taken} | examples}}
    operation["security"] = _security(route, dialect.logins)
    return operation


def _description(route: Route[Any]) -> str:
    """The ways of answering, and the other paths."""
    lines = [_of_branch(name, branch) for name, branch in route.forks.items()]
    if route.also:
        lines += ["", *(f"The same at `{_shown(path)}`." for path in route.also)]
    return "\n".join(lines).strip()


def _shown(path: str) -> str:
    return _PARAMETER.sub(r"{\1}", path)


def _examples(route: Route[Any], examples: Sequence[Example]) -> Document:
    """Those of the system's own documentation that this very route answers."""
    named: Document = {
        f"example_{number}": {"summary": example.title, "value": example.body}
        for number, example in enumerate(examples, start=1)
        if example.method == route.method and _is_of(route, example.path) and example.body is not None
    }
    return {"examples": named} if named else {}


def _is_of(route: Route[Any], path: str) -> bool:
    """Whether that is the route's path with something in the place of each parameter."""
    pieces = [re.escape(piece) for piece in re.split(r"\{\w+(?::path)?\}", route.path)]
    return re.fullmatch("[^/?]+".join(pieces), path) is not None


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


def _security(route: Route[Any], logins: Sequence[Login]) -> list[Document]:
    """Ways to be let in, any of which will do."""
    if route.open:
        return []
    ways: list[Document] = [{_LOGINS[login][0]: list(route.scopes)} for login in logins]
    return [*ways, {route.ticket: []}] if route.ticket else ways


def _begins_a_turn(route: Route[Any]) -> bool:
    """Whether an idempotency key means anything here: what only asks or changes can be sent again without one."""
    return route.method == "POST" and route.answer is None


def _refusal(dialect: Dialect, route: Route[Any], schemas: _Schemas) -> Document:
    schema = _either(schemas[each] for each in (dialect.refusal, route.refusal) if each is not None)
    content: Document = {"application/json": {"schema": schema}} if schema else {}
    if route.gives_media_type != "application/json":  # a page says on the page what is wrong
        content[route.gives_media_type] = {}
    return {"description": "An error, in this API's own shape"} | ({"content": content} if content else {})


def _parameter(asked: Parameter, schemas: _Schemas) -> Document:
    return {
        "name": asked.name,
        "in": asked.where,
        "required": asked.required,
        "description": asked.summary,
        "schema": schemas[asked.shape],
    }


def _responses(route: Route[Any], branches: Sequence[Route[Any]], schemas: _Schemas) -> Document:
    """By status. A fork's own `gives` is what any of its branches may answer besides."""
    responses: dict[str, Document] = {}
    for branch in branches:
        content = responses.setdefault(str(branch.status), {"description": "The answer", "content": {}})["content"]
        if branch.stream is not None:
            content[branch.stream.media_type.partition(";")[0]] = {}
            continue
        given = [each.gives for each in (route, *branches) if each.gives is not None and each.status == branch.status]
        schema = _either(schemas[each] for each in given)
        content[branch.gives_media_type] = {"schema": schema} if schema else {}
    return responses
