"""Errors as visitors' pages are told them: one key, the wire's own words where it has some, when to come again."""

import json

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.dialects.rowboat.widget_errors import fail
from tests.dialects.rowboat.test_widget_decode import request

BEARER = {"authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (errors.BadRequest("Invalid chat ID"), 400, "Invalid chat ID"),
        (errors.TooLarge("x", bytes_max=9), 413, "The request body is too large: at most 9 bytes are taken."),
        (errors.NotAuthenticated("x"), 403, "Invalid session token"),
        (errors.NotAllowed("Not yours."), 403, "Not yours."),
        (errors.NotFound("x", what="widget_client"), 403, "Invalid client ID"),
        (errors.NotFound("x", what="widget_chat"), 404, "Chat not found"),
        (errors.NotFound("x", what="conversation"), 404, "Chat not found"),
        (errors.NotFound("x", what="workflow"), 404, "Workflow not found"),
        (
            errors.NotFound("x", what="published_workflow"),
            404,
            "No workflow id provided in request or project has no published workflow",
        ),
        (errors.NotFound("No such model.", what="model"), 404, "No such model."),
        (errors.WrongMethod("x", allowed=("GET", "POST")), 405, "This endpoint takes GET, POST."),
        (errors.Conflict("Too many."), 409, "Too many."),
        (errors.KeyReused("Taken."), 422, "Taken."),
        (errors.StillRunning("Wait."), 409, "Wait."),
        (errors.LimitReached("x", limit="per_project_rpm"), 429, "Query limit exceeded"),
        (errors.LimitReached("8 wait.", limit="queue_per_conversation"), 429, "8 wait."),
        (errors.NotOffered("No."), 501, "No."),
        (errors.Unavailable("Later.", code="storage_full"), 503, "Later."),
        (errors.BackendFailed("The model failed.", code="upstream_refused"), 502, "The model failed."),
        (DragomanError("Internal server error", internal="secret"), 500, "Internal server error"),
    ],
)
def test_an_error_has_a_status_and_a_sentence(error: DragomanError, status: int, sentence: str):
    reply = fail(error, request(headers=BEARER))
    assert (reply.status, json.loads(reply.body)) == (status, {"error": sentence})


@pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"authorization": "bearer x"}])
def test_without_a_bearer_token_the_request_is_bad(headers: dict[str, str]):
    reply = fail(errors.NotAuthenticated("x"), request(headers=headers))
    assert (reply.status, json.loads(reply.body)) == (400, {"error": "Authorization header must be a Bearer token"})
    assert fail(errors.NotAuthenticated("x"), None).status == 400


def test_where_sessions_are_opened_what_is_not_proven_is_the_user():
    reply = fail(errors.NotAuthenticated("x"), request(path="/api/widget/v1/session/user"))
    assert (reply.status, json.loads(reply.body)) == (403, {"error": "Invalid jwt"})


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.LimitReached("x", limit="per_project_rpm", retry_after_s=0.2), "1"),
        (errors.LimitReached("x", limit="per_project_rpm", retry_after_s=61.0), "61"),
        (errors.Unavailable("x", retry_after_s=4.1), "5"),
        (errors.StillRunning("x"), "1"),
    ],
)
def test_who_should_wait_is_told_how_long(error: DragomanError, seconds: str):
    assert fail(error, None).headers == (("retry-after", seconds),)


def test_what_methods_there_are_is_told():
    assert fail(errors.WrongMethod("x", allowed=("GET",)), None).headers == (("allow", "GET"),)
