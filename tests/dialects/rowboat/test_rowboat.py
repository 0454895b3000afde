"""The wire as it is mounted: one path for all generations, its examples, its document, and what it leaves to others."""

import json
from typing import Any

import pytest

from dragoman.core.names import Scope
from dragoman.dialects.grip import DIALECT as GRIP
from dragoman.dialects.rowboat import CORS_HEADERS, DIALECT, examples
from dragoman.edge.routes import RouteTable
from dragoman.wire.openapi import openapi
from tests.dialects.rowboat.chatting import request

CHAT = next(route for route in DIALECT.routes if route.forks)


def test_one_route_answers_all_generations_and_asks_to_chat() -> None:
    assert (CHAT.method, CHAT.path, CHAT.scopes) == ("POST", "/api/v1/{projectId}/chat", (Scope.CHAT_RUN,))
    assert list(CHAT.forks) == ["g1", "g15", "g2", "g2_stream", "ambiguous"]
    assert [route.path for route in DIALECT.routes if not route.path.startswith("/api/widget/v1/")] == [CHAT.path]


def test_browsers_are_told_what_the_live_system_tells_them() -> None:
    assert dict(CORS_HEADERS) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
        "access-control-allow-headers": "Content-Type, x-client-id, Authorization",
    }
    assert DIALECT.cors_headers == CORS_HEADERS


@pytest.mark.parametrize("body", [examples.FIRST, examples.SUBSEQUENT])
def test_the_pages_requests_are_the_first_generations(body: Any) -> None:
    assert CHAT.choose is not None and CHAT.choose(request(body)) == "g1"


def test_the_document_shows_what_is_taken_and_given_with_the_pages_examples() -> None:
    document = openapi(DIALECT, version="1")
    operation = document["paths"]["/api/v1/{projectId}/chat"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    taken = {each["$ref"].rpartition("/")[2] for each in media["schema"]["oneOf"]}
    assert taken == {"ChatRequest", "MockingRequest", "TurnRequest", "PlainRequest"}
    assert [example["value"] for example in media["examples"].values()] == [examples.FIRST, examples.SUBSEQUENT]
    answers = operation["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "text/event-stream"}
    given = {each["$ref"].rpartition("/")[2] for each in answers["application/json"]["schema"]["oneOf"]}
    assert given == {"ChatReply", "MockingReply", "TurnReply", "EveryReply"}
    assert json.dumps(document)


# -- beside Grip, which owns the rest of /api/v1 -----------------------------------------------------------------------

TABLE = RouteTable((GRIP, DIALECT))


@pytest.mark.parametrize(
    ("method", "path", "dialect"),
    [
        ("POST", "/api/v1/default/chat", "rowboat"),
        ("POST", "/api/v1/chat/chat", "rowboat"),
        ("POST", "/api/v1/tools/chat", "rowboat"),
        ("POST", "/api/v1/chat", "grip"),
        ("POST", "/api/v1/chat/stream", "grip"),
        ("GET", "/api/v1/sessions/chat", "grip"),
        ("DELETE", "/api/v1/sessions/chat", "grip"),
        ("POST", "/api/v1/tools/x/execute", "grip"),
    ],
)
def test_each_path_has_one_wire(method: str, path: str, dialect: str) -> None:
    assert TABLE.find(method, path)[0].dialect.name == dialect


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/api/v1/default/chat", "rowboat"),
        ("/api/v1/sessions/chat", "grip"),
        ("/api/v1/workflows/chat", "grip"),
        ("/api/v1/cron/chat", "grip"),
        ("/api/v1/nothing", "grip"),
        ("/api/v1/default/chats", "grip"),
        ("/api/widget/v1/nothing", "rowboat"),
    ],
)
def test_who_speaks_of_what_is_not_there(path: str, dialect: str) -> None:
    owner = TABLE.owner(path)
    assert owner is not None and owner.name == dialect


def test_alone_it_speaks_of_all_that_is_not_there() -> None:
    assert RouteTable((DIALECT,)).owner("/api/v1/default/chats") is DIALECT
    assert RouteTable((DIALECT,)).owner("/api/v2/default/chats") is None
