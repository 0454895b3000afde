"""Grip's route table: what is offered, to whom, and what is declined."""

import json
from typing import Any

import pytest

from dragoman.core.errors import NotOffered
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Scope
from dragoman.core.operations import StartTurn
from dragoman.dialects.grip import DIALECT, decode, shapes
from dragoman.dialects.grip.encode import Stream
from dragoman.wire.dialect import Request, Route

OFFERED = {
    ("POST", "/api/v1/chat"): Scope.CHAT_RUN,
    ("POST", "/api/v1/chat/stream"): Scope.CHAT_RUN,
    ("GET", "/api/v1/sessions"): Scope.CONVERSATIONS_READ,
    ("GET", "/api/v1/sessions/{key}/messages"): Scope.CONVERSATIONS_READ,
    ("GET", "/api/v1/sessions/{key:path}"): Scope.CONVERSATIONS_READ,
    ("DELETE", "/api/v1/sessions/{key:path}"): Scope.CONVERSATIONS_WRITE,
    ("GET", "/api/v1/tools"): Scope.CHAT_READ,
    ("POST", "/api/v1/tools/{name}/execute"): Scope.TOOLS_USE,
    ("GET", "/api/v1/health"): None,
    ("GET", "/api/v1/status"): Scope.CHAT_READ,
    ("GET", "/api/v1/metrics"): Scope.METRICS_READ,
}

DECLINED = {
    ("GET", "/api/v1/memory"),
    ("GET", "/api/v1/memory/search"),
    ("GET", "/api/v1/config"),
    ("GET", "/api/v1/skills"),
    ("GET", "/api/v1/workflows"),
    ("GET", "/api/v1/workflows/{name}"),
    ("POST", "/api/v1/convert"),
    ("GET", "/api/v1/cron"),
    ("POST", "/api/v1/cron"),
    ("DELETE", "/api/v1/cron/{id}"),
    ("POST", "/api/v1/cron/{id}/enable"),
    ("POST", "/api/v1/cron/{id}/disable"),
    ("GET", "/api/v1/mcp/servers"),
    ("GET", "/api/v1/mcp/callback"),
    ("GET", "/api/v1/mcp/{server}/status"),
    ("POST", "/api/v1/mcp/{server}/login"),
    ("POST", "/api/v1/mcp/{server}/enable"),
    ("POST", "/api/v1/mcp/{server}/disable"),
}

ROUTES = {(route.method, route.path): route for route in DIALECT.routes}


def request(route: Route[Any], body: Any = None) -> Request:
    content = b"" if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return Request(route.method, route.path, {}, {"q": "x"}, headers, content, "id", "0" * 32, 0.0)


def test_the_table_holds_every_route_of_a_released_server_and_one_of_our_own() -> None:
    assert set(ROUTES) == set(OFFERED) | DECLINED
    assert len(DIALECT.routes) == len(ROUTES)


def test_each_route_asks_for_the_scope_of_what_it_does() -> None:
    assert {row: ROUTES[row].scopes for row in OFFERED} == {
        row: (scope,) if scope else () for row, scope in OFFERED.items()
    }


def test_only_the_callback_of_an_mcp_login_asks_for_no_credential() -> None:
    assert [route.path for route in DIALECT.routes if route.open] == ["/api/v1/mcp/callback"]


def test_every_request_counts_against_the_limits() -> None:
    assert all(route.counted for route in DIALECT.routes)


@pytest.mark.parametrize("row", sorted(DECLINED), ids=" ".join)
def test_what_is_not_offered_is_declined_with_a_sentence(row: tuple[str, str]) -> None:
    with pytest.raises(NotOffered) as caught:
        ROUTES[row].decode(request(ROUTES[row]))
    assert caught.value.detail.endswith(".")


def test_the_stream_is_not_buffered_by_a_proxy_in_front() -> None:
    stream = ROUTES["POST", "/api/v1/chat/stream"].stream
    assert stream is not None
    assert (stream.encoder, stream.media_type, stream.headers) == (
        Stream,
        "text/event-stream; charset=utf-8",
        (("x-accel-buffering", "no"),),
    )


def test_the_examples_are_the_requests_of_the_reference_page() -> None:
    assert [(example.method, example.path, example.body) for example in DIALECT.examples] == [
        (
            "POST",
            "/api/v1/chat",
            {"message": "List all files in the workspace", "session_key": "my-session", "model": "claude-4.5-sonnet"},
        ),
        ("POST", "/api/v1/chat/stream", {"message": "Analyze this codebase", "session_key": "stream-session"}),
        ("GET", "/api/v1/sessions/my-session", None),
    ]


def test_the_first_example_starts_a_turn_of_its_session() -> None:
    example = DIALECT.examples[0]
    route = ROUTES[example.method, example.path]
    assert route.decode(request(route, example.body)) == StartTurn(
        ConversationId("my-session"),
        (said("user", "List all files in the workspace"),),
        model="claude-4.5-sonnet",
        deltas=False,
        origin="grip",
    )


def test_unknown_paths_of_the_version_are_answered_in_this_dialect() -> None:
    assert DIALECT.prefixes == ("/api/v1/",)
    assert DIALECT.credential is decode.credential


def test_every_offered_answer_has_a_documented_shape() -> None:
    given = {row: (route.takes, route.gives) for row, route in ROUTES.items() if row in OFFERED}
    assert given == {
        ("POST", "/api/v1/chat"): (shapes.ChatRequest, shapes.ChatReply),
        ("POST", "/api/v1/chat/stream"): (shapes.ChatRequest, None),
        ("GET", "/api/v1/sessions"): (None, shapes.SessionKeys),
        ("GET", "/api/v1/sessions/{key}/messages"): (None, shapes.SessionMessages),
        ("GET", "/api/v1/sessions/{key:path}"): (None, shapes.SessionDetail),
        ("DELETE", "/api/v1/sessions/{key:path}"): (None, shapes.SessionDeleted),
        ("GET", "/api/v1/tools"): (None, shapes.Tools),
        ("POST", "/api/v1/tools/{name}/execute"): (shapes.ToolExecuteRequest, shapes.ToolExecuted),
        ("GET", "/api/v1/health"): (None, shapes.Health),
        ("GET", "/api/v1/status"): (None, shapes.ServerStatus),
        ("GET", "/api/v1/metrics"): (None, shapes.Metrics),
    }
