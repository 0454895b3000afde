"""Every error as this wire says it: before an answer, and in place of a stream."""

import json
from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.operations import CallTool
from dragoman.dialects.elastic.errors import LACKS_SCOPE, fail, in_stream, truth
from dragoman.dialects.elastic.requests import INTERNAL, PUBLIC
from dragoman.edge.authenticate import Door, Limits
from dragoman.wire.dialect import Reply, Request, Route
from tests.support import FixedClock

COMPLETE = f"{PUBLIC}/chat/complete"
CONTINUES: dict[str, Any] = {"persist": True, "conversationId": "c-1", "connectorId": "my-llm"}
NO_CONVERSATION = errors.NotFound("There is no conversation c-1.", what="conversation")


def request(
    path: str = COMPLETE,
    body: Any = CONTINUES,
    *,
    method: str = "POST",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    **params: str,
) -> Request:
    data = b"" if body is None else json.dumps(body).encode()
    return Request(method, path, params, query or {}, headers or {}, data, "abcdef012345", "0" * 32, 0.0)


def said(reply: Reply) -> tuple[int, str]:
    body = json.loads(reply.body)
    assert reply.media_type == "application/json; charset=utf-8"
    assert body.keys() == {"statusCode", "error", "message", "attributes"}
    assert body["statusCode"] == reply.status
    return reply.status, body["message"]


# -- before an answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (errors.BadRequest("Wrong."), 400, "Bad Request"),
        (errors.NotAuthenticated("Who?"), 401, "Unauthorized"),
        (errors.NotAllowed("No."), 403, "Forbidden"),
        (errors.NotFound("Gone.", what="agent"), 404, "Not Found"),
        (errors.WrongMethod("No.", allowed=["GET"]), 404, "Not Found"),
        (errors.Conflict("Busy."), 409, "Conflict"),
        (errors.Expired("Old."), 410, "Gone"),
        (errors.TooLarge("Big.", bytes_max=5), 413, "Request Entity Too Large"),
        (errors.KeyReused("Taken."), 422, "Unprocessable Entity"),
        (errors.LimitReached("Wait.", limit="per_ip_rpm"), 429, "Too Many Requests"),
        (DragomanError("secret"), 500, "Internal Server Error"),
        (errors.NotOffered("Not here."), 501, "Not Implemented"),
        (errors.BackendFailed("No model."), 502, "Bad Gateway"),
        (errors.Unavailable("Later."), 503, "Service Unavailable"),
    ],
)
def test_Q20_each_error_has_its_status_and_shape(error: DragomanError, status: int, name: str) -> None:
    reply = fail(error, None)
    body = json.loads(reply.body)
    assert (reply.status, body["statusCode"], body["error"]) == (status, status, name)
    assert body["attributes"] == {"data": {} if status == 500 else None}
    assert body["message"] and "secret" not in body["message"]


def test_the_whole_body_of_a_refusal() -> None:
    reply = fail(errors.NotFound("There is no model.", what="model"), request(body={"connectorId": "missing"}))
    assert reply.body == (
        b'{"statusCode":404,"error":"Not Found","message":"No connector or inference endpoint found for ID '
        b'\'missing\'","attributes":{"data":null}}'
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(), "No connector or inference endpoint found for ID 'my-llm'"),
        (request(body=None, query={"connectorId": "q"}), "No connector or inference endpoint found for ID 'q'"),
        (request(body=None, connectorId="p"), "No connector or inference endpoint found for ID 'p'"),
        (request(body=[]), "There is no model."),
        (request(body={"connectorId": 5}), "There is no model."),
    ],
)
def test_Q5_an_unknown_connector_is_named(asked: Request, message: str) -> None:
    assert said(fail(errors.NotFound("There is no model.", what="model"), asked)) == (404, message)


def test_an_unknown_connector_is_named_as_each_route_names_it() -> None:
    gone = errors.NotFound("There is no connector.", what="connector")
    ours = request("/s/default/api/actions/connector/x", None, method="GET", id="x")
    assert said(fail(gone, ours)) == (404, "Saved object [action/x] not found")
    inside = request(f"{INTERNAL}/connectors/x", None, method="GET", connectorId="x")
    assert said(fail(gone, inside)) == (404, "No connector or inference endpoint found for ID 'x'")
    assert said(fail(gone, None)) == (404, "There is no connector.")


def test_other_sentences_of_this_wire() -> None:
    assert said(fail(errors.NotFound("Nothing.", what="route"), None)) == (404, "Not Found")
    assert said(fail(NO_CONVERSATION, request(f"{INTERNAL}/conversation/c-1", None, method="GET"))) == (
        404,
        "Conversation not found",
    )
    assert said(fail(errors.WrongMethod("No.", allowed=["GET", "PUT"]), None)) == (404, "Not Found")
    assert "5" in said(fail(errors.TooLarge("Big.", bytes_max=5), None))[1]


def test_who_lacks_a_scope_is_told_what_was_asked_and_which() -> None:
    lacking = errors.NotAllowed(f"{LACKS_SCOPE}chat:run.")
    assert said(fail(lacking, request(body=None))) == (
        403,
        f"API [POST {COMPLETE}] is unauthorized for user: This credential lacks the scope chat:run.",
    )
    assert said(fail(errors.NotAllowed("Not yours."), request("/x"))) == (403, "Not yours.")


def test_the_door_says_it_as_it_is_looked_for() -> None:
    limits = Limits(
        per_address_rpm=0, per_credential_rpm=0, per_project_rpm=0, body_bytes_max=1, readers_per_conversation=1
    )
    authenticator: Any = None  # nobody is authenticated here
    door = Door(authenticator, limits, FixedClock())
    route: Route[Any] = Route("POST", COMPLETE, lambda request: CallTool("x"), scopes=(Scope.CHAT_RUN,))
    with pytest.raises(errors.NotAllowed) as caught:
        door.check_scopes(route, Principal(ProjectId("p"), "c", "n", frozenset()))
    assert caught.value.detail.startswith(LACKS_SCOPE)


def test_headers_tell_when_to_try_again_and_how_to_ask() -> None:
    assert dict(fail(errors.LimitReached("Wait.", limit="x", retry_after_s=0.2), None).headers) == {"retry-after": "1"}
    assert dict(fail(errors.Unavailable("Later.", retry_after_s=4.1), None).headers) == {"retry-after": "5"}
    assert dict(fail(errors.WrongMethod("No.", allowed=["GET", "PUT"]), None).headers) == {"allow": "GET, PUT"}
    assert "www-authenticate" in dict(fail(errors.NotAuthenticated("Who?"), None).headers)


def test_K1_an_entry_that_is_not_there_cannot_be_deleted() -> None:
    gone = errors.NotFound("There is no entry.", what="entry")
    path = f"/s/default{INTERNAL}/kb/entries/x"
    assert fail(gone, request(path, None, method="DELETE", entryId="x")).status == 500
    assert fail(gone, request(path, None, method="GET", entryId="x")).status == 404
    space = errors.NotFound("There is no such space.", what="project")
    assert fail(space, request(path, None, method="DELETE", entryId="x")).status == 404


# -- in place of a stream ----------------------------------------------------------------------------------------------

SSE_GONE = b'data: {"error":{"message":"Conversation not found"}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("path", [COMPLETE, f"/s/default{COMPLETE}"])
def test_D1_a_conversation_that_is_not_there_is_said_in_the_stream(path: str) -> None:
    reply = fail(NO_CONVERSATION, request(path))
    assert reply == Reply(200, SSE_GONE, "application/octet-stream")


def test_Q1_who_wants_an_event_stream_alone_gets_one() -> None:
    reply = fail(NO_CONVERSATION, request(headers={"accept": "text/event-stream"}))
    assert (reply.status, reply.body, reply.media_type) == (200, SSE_GONE, "text/event-stream; charset=utf-8")
    both = fail(NO_CONVERSATION, request(headers={"accept": "text/event-stream, application/json"}))
    assert both.media_type == "application/octet-stream"


@pytest.mark.parametrize("asked", [request(query={"format": "default"}), request(f"{INTERNAL}/chat/complete")])
def test_D2_or_in_one_line(asked: Request) -> None:
    reply = fail(NO_CONVERSATION, asked)
    assert (reply.status, reply.media_type) == (200, "application/octet-stream")
    assert reply.body.endswith(b"\n") and json.loads(reply.body) == {
        "error": {"message": "Conversation not found", "code": "notFoundError", "meta": {}},
        "type": "chatCompletionError",
    }


def test_somebody_elses_conversation_is_said_in_the_stream() -> None:
    message = "Cannot update conversation that is not owned by the user"
    reply = fail(errors.NotAllowed("Not yours."), request())
    assert reply.status == 200 and message.encode() in reply.body
    inside = fail(errors.NotAllowed("Not yours."), request(f"{INTERNAL}/chat/complete"))
    assert json.loads(inside.body)["error"] == {"message": message, "meta": {}}
    assert fail(errors.NotAllowed(f"{LACKS_SCOPE}x."), request()).status == 403


@pytest.mark.parametrize("path", [COMPLETE, f"{INTERNAL}/chat/complete", f"{INTERNAL}/chat"])
def test_what_is_wrong_with_messages_is_said_in_the_stream(path: str) -> None:
    reply = fail(in_stream("Could not find tool call request for ls", place="messages.0"), request(path, {}))
    assert reply.status == 200 and b"Could not find tool call request for ls" in reply.body


@pytest.mark.parametrize(
    "asked",
    [
        request(f"{INTERNAL}/chat/complete", CONTINUES | {"isStream": False}),
        request(body=CONTINUES | {"persist": False}),
        request(body={"persist": True}),
        request(body=[]),
        request(body=None),
        request(method="GET"),
        request("/api/other"),
    ],
)
def test_whatever_is_no_stream_that_goes_on_is_answered_plainly(asked: Request) -> None:
    assert said(fail(NO_CONVERSATION, asked)) == (404, "Conversation not found")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (True, True),
        (False, False),
        (None, False),
        ("true", True),
        ("false", False),
        ("1", False),
        ("", False),
        (1, True),
        (0, False),
        ({}, True),
        ([], True),
    ],
)
def test_Q8_flags_are_read_leniently(value: Any, meaning: bool) -> None:
    assert truth(value) is meaning
