"""Route tables -> OpenAPI documents: nothing missing, nothing made up, every reference resolves."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Never

import msgspec
import pytest
from msgspec import Meta

from dragoman.core.errors import DragomanError
from dragoman.core.names import Scope
from dragoman.core.operations import ReadStatus
from dragoman.dialects import installed
from dragoman.wire.dialect import Dialect, Example, Parameter, Reply, Request, Route, Streamed
from dragoman.wire.openapi import openapi

COMPONENT = re.compile(r"[a-zA-Z0-9._-]+")
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


class Ask(msgspec.Struct):
    text: str


class Item(msgspec.Struct):
    name: str


class Answer(msgspec.Struct):
    items: tuple[Item, ...]


def twin() -> type[msgspec.Struct]:
    """Another struct that is called Ask, as a second module of shapes may well have."""
    return msgspec.defstruct("Ask", [("number", int)], module="elsewhere")


def answer(result: object, request: Request) -> Reply:
    return Reply(200)


def encoder(request: Request | None) -> Never:
    raise AssertionError("a document needs no encoder")


def route(method: str, path: str, **settings: Any) -> Route[Any]:
    way = {} if "stream" in settings else {"answer": answer}
    return Route(method, path, lambda request: ReadStatus(), **way, **settings)


def dialect(*routes: Route[Any]) -> Dialect:
    def credential(headers: Mapping[str, str]) -> str:
        return ""

    def fail(error: DragomanError, request: Request | None) -> Reply:
        return Reply(500)

    return Dialect("toy", "A toy", ("/",), routes, credential, fail)


def document(*routes: Route[Any]) -> dict[str, Any]:
    return as_json(openapi(dialect(*routes), version="1.2.3"))


def as_json(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


ERROR = {"description": "An error, in this API's own shape"}


def test_a_document_says_what_the_table_says_and_no_more() -> None:
    found = document(
        route("POST", "/ask/{id}/{rest:path}", takes=Ask, gives=Answer, scopes=(Scope.CHAT_RUN,), summary="Ask"),
        route("GET", "/card", open=True, summary="Who we are"),
        route("GET", "/frames", stream=Streamed(encoder, "application/x-ndjson; charset=utf-8"), summary="Follow"),
    )
    answered = {"description": "The answer", "content": {"application/json": {}}}
    assert found == {
        "openapi": "3.1.0",
        "info": {"title": "A toy", "version": "1.2.3"},
        "servers": [{"url": ".."}],
        "paths": {
            "/ask/{id}/{rest}": {
                "post": {
                    "operationId": "post_ask_id_rest_path",
                    "summary": "Ask",
                    "parameters": [
                        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                        {"name": "rest", "in": "path", "required": True, "schema": {"type": "string"}},
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}},
                    },
                    "responses": {
                        "200": {
                            "description": "The answer",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
                        },
                        "default": ERROR,
                    },
                    "security": [{"credential": ["chat:run"]}],
                }
            },
            "/card": {
                "get": {
                    "operationId": "get_card",
                    "summary": "Who we are",
                    "responses": {"200": answered, "default": ERROR},
                    "security": [],
                }
            },
            "/frames": {
                "get": {
                    "operationId": "get_frames",
                    "summary": "Follow",
                    "responses": {
                        "200": {"description": "The answer", "content": {"application/x-ndjson": {}}},
                        "default": ERROR,
                    },
                    "security": [{"credential": []}],
                }
            },
        },
        "components": {
            "schemas": {
                "Ask": {
                    "title": "Ask",
                    "type": "object",
                    "properties": {"text": {"type": "string"}},
                    "required": ["text"],
                },
                "Item": {
                    "title": "Item",
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                },
                "Answer": {
                    "title": "Answer",
                    "type": "object",
                    "properties": {"items": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}}},
                    "required": ["items"],
                },
            },
            "securitySchemes": {"credential": {"type": "http", "scheme": "bearer"}},
        },
    }


KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your own name for this request. Sent again under it within 24 hours, it begins nothing new.",
    "schema": {"type": "string", "minLength": 1},
}


def test_a_request_that_begins_a_turn_may_have_a_key_and_no_other() -> None:
    streamed = Streamed(encoder)
    found = document(
        Route("POST", "/accept", lambda request: ReadStatus(), accept=answer),
        Route("POST", "/collect/{id}", lambda request: ReadStatus(), collect=answer),
        route("POST", "/stream", stream=streamed),
        route("GET", "/follow", stream=streamed),
        route("POST", "/answer"),
    )
    keyed = [path for path, _, row in operations(found) if KEY in row.get("parameters", [])]
    assert keyed == ["/accept", "/collect/{id}", "/stream"]


def test_the_branches_of_a_path_are_one_operation_of_all_that_they_take_and_give() -> None:
    def branch(**settings: Any) -> Route[Any]:
        return Route("POST", "/x", lambda request: ReadStatus(), **settings)

    forks = {
        "ask": branch(stream=Streamed(encoder), takes=Ask, summary="Ask", scopes=(Scope.CHAT_RUN, Scope.TOOLS_USE)),
        "look": branch(answer=answer, takes=Item, gives=Answer, summary="Look"),
        "wait": branch(collect=answer, takes=Ask, gives=Answer, summary="Wait"),
    }
    forked = branch(forks=forks, choose=lambda request: "ask", summary="Any of it", scopes=(Scope.CHAT_READ,))
    found = operations(document(forked))
    ((_, _, row),) = found
    assert (row["summary"], row["security"]) == ("Any of it", [{"credential": ["chat:read"]}])
    assert row["description"] == "- `ask`: Ask (also needs chat:run and tools:use)\n- `look`: Look\n- `wait`: Wait"
    (media,) = row["requestBody"]["content"].values()
    assert media["schema"] == {"oneOf": [{"$ref": "#/components/schemas/Ask"}, {"$ref": "#/components/schemas/Item"}]}
    assert row["responses"]["200"]["content"] == {
        "text/event-stream": {},
        "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
    }
    assert KEY in row["parameters"]


def test_what_a_route_asks_for_stands_behind_its_path_s_parameters() -> None:
    asks = (
        Parameter("limit", "How many", Annotated[int, Meta(ge=1)]),
        Parameter("X-Place", "Where", where="header", required=True),
    )
    ((_, _, row),) = operations(document(route("GET", "/x/{id}", asks=asks)))
    assert row["parameters"][1:] == [
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "description": "How many",
            "schema": {"type": "integer", "minimum": 1},
        },
        {
            "name": "X-Place",
            "in": "header",
            "required": True,
            "description": "Where",
            "schema": {"type": "string"},
        },
    ]


def test_an_answer_has_its_status_and_its_media_type() -> None:
    found = document(route("POST", "/x", status=201, gives=Item), route("GET", "/page", gives_media_type="text/html"))
    made, page = (row["responses"] for _, _, row in operations(found))
    assert list(made) == ["201", "default"]
    assert page["200"]["content"] == {"text/html": {}}
    assert page["default"]["content"] == {"text/html": {}}, "what is wrong is said on the page"


def test_a_refusal_has_the_dialect_s_shape_or_one_of_the_route_s_own() -> None:
    refusing = msgspec.structs.replace(dialect(route("GET", "/a"), route("GET", "/b", refusal=Item)), refusal=Answer)
    plain, own = (row["responses"]["default"]["content"] for _, _, row in operations(openapi(refusing, version="1")))
    answer, item = ({"$ref": f"#/components/schemas/{name}"} for name in ("Answer", "Item"))
    assert plain == {"application/json": {"schema": answer}}
    assert own == {"application/json": {"schema": {"oneOf": [answer, item]}}}


def test_a_ticket_is_a_second_way_in() -> None:
    found = document(route("GET", "/x/{id}", ticket="pass", ticket_for="id", scopes=(Scope.CHAT_READ,)))
    ((_, _, row),) = operations(found)
    assert row["security"] == [{"credential": ["chat:read"]}, {"pass": []}]
    assert found["components"]["securitySchemes"]["pass"] == {"type": "apiKey", "in": "query", "name": "pass"}


def test_every_form_of_login_is_a_way_in() -> None:
    known = msgspec.structs.replace(
        dialect(route("GET", "/x", scopes=(Scope.CHAT_READ,))), logins=("basic", "apikey", "bearer")
    )
    found = as_json(openapi(known, version="1"))
    ((_, _, row),) = operations(found)
    assert row["security"] == [{name: ["chat:read"]} for name in ("password", "key", "credential")]
    schemes = found["components"]["securitySchemes"]
    assert [schemes[name]["type"] for name in schemes] == ["http", "apiKey", "http"]
    assert schemes["key"]["name"] == "Authorization"


def test_other_paths_of_a_route_and_examples_of_its_body_are_told() -> None:
    examples = (
        Example("Ask it", "POST", "/x", {"text": "hi"}),
        Example("Look", "GET", "/x"),
        Example("Elsewhere", "POST", "/y", {"text": "no"}),
    )
    known = msgspec.structs.replace(
        dialect(route("POST", "/x", takes=Ask, also=("/s/{space}/x/{rest:path}",))), examples=examples
    )
    ((_, _, row),) = operations(as_json(openapi(known, version="1")))
    assert row["description"] == "The same at `/s/{space}/x/{rest}`."
    (media,) = row["requestBody"]["content"].values()
    assert media["examples"] == {"example_1": {"summary": "Ask it", "value": {"text": "hi"}}}


def test_an_example_may_fill_the_paths_parameters_in() -> None:
    bodies = {path: {"text": path} for path in ("/a/x/b", "/a/{id}/b", "/a/x/y/b", "/a//b", "/a/x/c", "/a/x/b?q=1")}
    known = msgspec.structs.replace(
        dialect(route("POST", "/a/{id}/b", takes=Ask)),
        examples=tuple(Example(path, "POST", path, body) for path, body in bodies.items()),
    )
    ((_, _, row),) = operations(as_json(openapi(known, version="1")))
    (media,) = row["requestBody"]["content"].values()
    assert [each["summary"] for each in media["examples"].values()] == ["/a/x/b", "/a/{id}/b"]


def test_methods_of_one_path_stand_beside_each_other() -> None:
    assert list(document(route("GET", "/x/{id}"), route("DELETE", "/x/{id:path}"))["paths"]["/x/{id}"]) == [
        "get",
        "delete",
    ]


def test_two_structs_of_one_name_stay_two() -> None:
    found = document(route("POST", "/x", takes=Ask, gives=twin()))
    operation = found["paths"]["/x"]["post"]
    taken = resolve(found, operation["requestBody"]["content"]["application/json"]["schema"]["$ref"])
    given = resolve(found, operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"])
    assert (list(taken["properties"]), list(given["properties"])) == (["text"], ["number"])


def resolve(found: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), f"{reference} leads out of the document"
    place: Any = found
    for step in reference.removeprefix("#/").split("/"):
        place = place[step]
    return place


# -- the documents of this server ------------------------------------------------------------------------------------


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def operations(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, row) for path, rows in found["paths"].items() for method, row in rows.items()]


@pytest.fixture(params=installed(), ids=lambda each: each.name)
def served(request: pytest.FixtureRequest) -> tuple[Dialect, dict[str, Any]]:
    return request.param, as_json(openapi(request.param, version="1"))


def test_every_route_is_in_its_document(served: tuple[Dialect, dict[str, Any]]) -> None:
    spoken, found = served
    rows = [(row.method.lower(), re.sub(r":path}", "}", row.path)) for row in spoken.routes]
    assert sorted((method, path) for path, method, _ in operations(found)) == sorted(rows)


def test_every_operation_has_the_shape_that_openapi_asks_for(served: tuple[Dialect, dict[str, Any]]) -> None:
    _, found = served
    assert re.fullmatch(r"3\.1\.\d+", found["openapi"]) and set(found["info"]) >= {"title", "version"}
    for path, method, row in operations(found):
        assert path.startswith("/") and method in METHODS
        assert row["responses"] and all(re.fullmatch(r"[1-5](\d\d|XX)|default", code) for code in row["responses"])
        assert all("description" in response for response in row["responses"].values())
        declared = [
            (parameter["name"], parameter["in"], parameter["required"]) for parameter in row.get("parameters", [])
        ]
        in_path = [(name, "path", True) for name in re.findall(r"\{(\w+)\}", path)]
        assert declared[: len(in_path)] == in_path and len(set(declared)) == len(declared)
        assert {where for _, where, _ in declared[len(in_path) :]} <= {"query", "header"}


def test_no_two_paths_differ_only_in_the_names_of_their_parameters(served: tuple[Dialect, dict[str, Any]]) -> None:
    bare = [re.sub(r"\{\w+\}", "{}", path) for path in served[1]["paths"]]
    assert sorted(set(bare)) == sorted(bare)


def test_every_operation_has_an_id_of_its_own(served: tuple[Dialect, dict[str, Any]]) -> None:
    ids = [row["operationId"] for _, _, row in operations(served[1])]
    assert sorted(set(ids)) == sorted(ids)


def test_every_reference_resolves_inside_the_document(served: tuple[Dialect, dict[str, Any]]) -> None:
    _, found = served
    assert all(resolve(found, reference) for reference in references(found))
    assert all(COMPONENT.fullmatch(name) for name in found["components"]["schemas"])


def test_every_scope_is_one_of_ours_and_every_scheme_is_declared(served: tuple[Dialect, dict[str, Any]]) -> None:
    _, found = served
    for _, _, row in operations(found):
        for need in row["security"]:
            assert need.keys() <= found["components"]["securitySchemes"].keys()
            assert set(need.get("credential", ())) <= set(Scope)
