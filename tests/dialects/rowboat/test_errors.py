"""Every error in this wire's own shape, with the texts that its callers know."""

import json
from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.dialects.rowboat.errors import fail, sentence_of
from dragoman.wire.dialect import Request
from tests.dialects.rowboat.chatting import request


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (errors.BadRequest("Invalid JSON in request body"), 400, "Invalid JSON in request body"),
        (
            errors.NotAuthenticated("Authorization header must be a Bearer token"),
            400,
            "Authorization header must be a Bearer token",
        ),
        (errors.NotAuthenticated("Missing API key in request"), 400, "Missing API key in request"),
        (errors.NotAuthenticated("Whatever else"), 403, "Invalid API key"),
        (errors.NotAllowed("Lacks the scope."), 403, "Lacks the scope."),
        (errors.NotFound("x", what="project"), 403, "Invalid API key"),
        (errors.NotFound("x", what="workflow"), 404, "Workflow not found"),
        (errors.NotFound("x", what="test_profile"), 404, "Test profile not found"),
        (
            errors.NotFound("x", what="published_workflow"),
            404,
            "No workflow id provided in request or project has no published workflow",
        ),
        (errors.NotFound("x", what="conversation"), 404, "Conversation not found"),
        (errors.NotFound("There is no agent x.", what="agent"), 404, "There is no agent x."),
        (errors.WrongMethod("x", allowed=("POST",)), 405, "x"),
        (errors.TooLarge("Too large.", bytes_max=1), 413, "Too large."),
        (errors.LimitReached("x", limit="per_project_rpm"), 429, "Query limit exceeded"),
        (errors.LimitReached("x", limit="per_ip_rpm"), 429, "Query limit exceeded"),
        (errors.LimitReached("The queue is full.", limit="queue_per_conversation"), 429, "The queue is full."),
        (errors.Unavailable("Later.", code="storage_full"), 503, "Later."),
        (errors.BackendFailed("It failed."), 502, "It failed."),
        (errors.BackendFailed("Too slow.", code="upstream_idle"), 504, "Too slow."),
        (DragomanError("It broke."), 500, "Internal server error"),
    ],
)
def test_each_error_has_its_status_and_sentence(error: DragomanError, status: int, sentence: str) -> None:
    reply = fail(error, request({}))
    assert (reply.status, json.loads(reply.body)) == (status, {"error": sentence})
    assert sentence_of(error) == sentence


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (errors.LimitReached("x", limit="per_project_rpm", retry_after_s=2.1), ("retry-after", "3")),
        (errors.LimitReached("x", limit="per_project_rpm", retry_after_s=0.0), ("retry-after", "1")),
        (errors.Unavailable("x", retry_after_s=5.0), ("retry-after", "5")),
        (errors.WrongMethod("x", allowed=("POST", "PUT")), ("allow", "POST, PUT")),
    ],
)
def test_who_may_try_again_is_told_when_and_how(error: DragomanError, header: tuple[str, str]) -> None:
    assert fail(error, None).headers == (header,)


@pytest.mark.parametrize(("path", "sentence"), [("/api/widget/v1/chats", "session"), ("/api/v1/p/chat", "API key")])
def test_the_widget_has_words_of_its_own(path: str, sentence: str) -> None:
    asked = request({}, authorization="Bearer x")
    there = Request(asked.method, path, *_rest(asked))
    assert sentence in json.loads(fail(errors.NotAuthenticated("x"), there).body)["error"]


def _rest(asked: Request) -> tuple[Any, ...]:
    return (asked.params, asked.query, asked.headers, asked.body, asked.id, asked.nonce, asked.at)
