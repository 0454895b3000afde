"""Errors as this wire says them."""

import json

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.dialects.grafana.errors import fail


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (errors.BadRequest("prompt is required."), 400, "prompt is required."),
        (errors.NotAuthenticated("Send a credential."), 401, "Send a credential."),
        (errors.NotAllowed("Lacks a scope."), 403, "Lacks a scope."),
        (errors.NotFound("There is no conversation c1.", what="conversation"), 404, "Chat not found"),
        (errors.NotFound("Not Found", what="route"), 404, "There is no such endpoint here."),
        (errors.NotFound("There is no rule r1.", what="rule"), 404, "There is no rule r1."),
        (errors.WrongMethod("No.", allowed=["GET", "PUT"]), 405, "This endpoint takes GET, PUT."),
        (errors.Conflict("It was decided already."), 409, "It was decided already."),
        (errors.Expired("Too late."), 410, "Too late."),
        (errors.TooLarge("Too large.", bytes_max=9), 413, "The request body is too large: at most 9 bytes are taken."),
        (errors.KeyReused("Another request."), 422, "Another request."),
        (errors.LimitReached("Wait.", limit="per_ip_rpm"), 429, "Wait."),
        (DragomanError("Secret."), 500, "Something went wrong in the server; its log says more."),
        (errors.BackendFailed("The model did not answer."), 502, "The model did not answer."),
        (errors.Unavailable("The server is stopping."), 503, "The server is stopping."),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_an_error_has_its_status_and_says_one_sentence_under_both_keys(
    error: DragomanError, status: int, sentence: str
) -> None:
    reply = fail(error, None)
    assert (reply.status, reply.media_type) == (status, "application/json")
    assert json.loads(reply.body) == {"status": "error", "message": sentence, "error": sentence}


def test_what_is_not_offered_says_so_by_name() -> None:
    reply = fail(errors.NotOffered("No investigations here."), None)
    assert reply.status == 501
    assert json.loads(reply.body) == {
        "status": "error",
        "message": "No investigations here.",
        "error": "No investigations here.",
        "name": "NOT_IMPLEMENTED",
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.NotAuthenticated("x"), {"www-authenticate": "Bearer"}),
        (errors.WrongMethod("x", allowed=["GET", "PUT"]), {"allow": "GET, PUT"}),
        (errors.LimitReached("x", limit="per_ip_rpm", retry_after_s=1.2), {"retry-after": "2"}),
        (errors.Unavailable("x", retry_after_s=0.0), {"retry-after": "1"}),
        (errors.StillRunning("x", retry_after_s=3.0), {"retry-after": "3"}),
        (errors.Conflict("x"), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_headers_say_what_a_client_can_act_on(error: DragomanError, headers: dict[str, str]) -> None:
    assert dict(fail(error, None).headers) == headers
