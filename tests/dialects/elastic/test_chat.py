"""Chat requests become turns; what came of them is answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.agents import NO_ARGUMENTS, ToolSpec
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.core.knowledge import ContextFound, FindContext
from dragoman.core.messages import Text, ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Instruction, Outcome, Started, StartTurn
from dragoman.core.screen import NO_SCREEN, Screen, ScreenItem
from dragoman.dialects.elastic import DIALECT, chat
from dragoman.wire.dialect import Request, Route

AT = "2025-06-25T23:45:00.000Z"
NONCE = "0123456789abcdef" * 2
NEW = "01234567-89ab-4def-8123-456789abcdef"
ACTION = {"name": "get_cluster_health", "description": "Health.", "parameters": {"type": "object"}}
TOOL = ToolSpec("get_cluster_health", "Health.", {"type": "object"})


def told(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"@timestamp": AT, "message": {"role": role, "content": content, **fields}}


HELLO = told("user", "Hello")
PUBLIC: dict[str, Any] = {"connectorId": "my-llm", "messages": [HELLO], "persist": False}
INSIDE = PUBLIC | {"screenContexts": [], "scopes": ["all"]}


def request(body: Any, query: dict[str, str] | None = None, **headers: str) -> Request:
    given = {"content-type": "application/json", "kbn-xsrf": "true"} | headers
    return Request("POST", "/x", {}, query or {}, given, json.dumps(body).encode(), "abcdef012345", NONCE, 5.0)


def public(**changes: Any) -> StartTurn:
    return chat.public_complete(request(PUBLIC | changes))


def inside(**changes: Any) -> StartTurn:
    return chat.internal_complete(request(INSIDE | changes))


def refused(decode: Any, body: Any, query: dict[str, str] | None = None) -> str:
    with pytest.raises(BadRequest) as caught:
        decode(request(body, query))
    return caught.value.detail


# -- the public route --------------------------------------------------------------------------------------------------


def test_the_documented_request_is_a_turn_that_leaves_nothing_behind() -> None:
    turn = public(disableFunctions=False, actions=[ACTION], instructions=["Use the tool."])
    assert (turn.conversation, turn.model, turn.origin) == (NEW, "my-llm", "elastic")
    assert [(message.role, *message.parts) for message in turn.messages] == [("user", Text("Hello"))]
    assert turn.client_tools == (TOOL,)
    assert (turn.ephemeral, turn.must_exist, turn.whole, turn.deltas) == (True, False, False, True)
    assert (turn.private, turn.tell_shared, turn.known_model, turn.screen) == (True, True, True, NO_SCREEN)
    assert turn.briefing is not None
    assert turn.briefing.notes == ()
    assert turn.briefing.instructions == (Instruction(f"{NONCE}-0", "Use the tool."),)
    loop = turn.loop
    assert loop is not None
    assert (loop.opening, loop.calls_max, loop.result_tokens_max, loop.temperature) == ("context", 8, 4000, 0.25)
    assert (loop.json_results, loop.checked, loop.whole_replies) == (True, True, True)
    assert (loop.tools, loop.own_tools, loop.choice, loop.titled) == (True, True, "", False)
    assert loop.closing is not None
    assert (loop.closing.name, loop.closing.parameters["required"]) == ("exit_loop", ["response"])


def test_Q13_without_persist_the_conversation_is_another_one() -> None:
    turn = public(conversationId="c-1", title="Mine")
    assert (turn.conversation, turn.must_exist, turn.whole, turn.title) == (NEW, False, False, "")


@pytest.mark.parametrize("persist", [True, "true", 1])
def test_a_new_conversation_gets_an_id_and_a_title(persist: Any) -> None:
    turn = public(persist=persist)
    assert (turn.conversation, turn.ephemeral, turn.must_exist, turn.whole) == (NEW, False, False, False)
    assert turn.loop is not None and turn.loop.titled


@pytest.mark.parametrize("persist", [False, "yes", None, 0])
def test_Q8_whatever_is_not_true_keeps_nothing(persist: Any) -> None:
    assert public(persist=persist).ephemeral


def test_persist_may_be_left_out() -> None:
    assert chat.public_complete(request({"connectorId": "my-llm", "messages": [HELLO]})).ephemeral


def test_a_title_that_is_given_is_kept_as_it_is() -> None:
    turn = public(persist=True, title="Mine")
    assert turn.title == "Mine" and turn.loop is not None and not turn.loop.titled


def test_a_conversation_goes_on_whole() -> None:
    turn = public(persist=True, conversationId="c-1", title="Mine")
    assert (turn.conversation, turn.must_exist, turn.whole, turn.title) == ("c-1", True, True, "Mine")
    assert turn.loop is not None and not turn.loop.titled


@pytest.mark.parametrize("conversation", ["x" * 129, "a\0b"])
def test_an_id_that_nothing_can_have_is_not_found(conversation: str) -> None:
    with pytest.raises(NotFound) as caught:
        public(persist=True, conversationId=conversation)
    assert caught.value.what == "conversation"


def test_Q5_an_empty_connector_is_not_the_default_one() -> None:
    with pytest.raises(NotFound) as caught:
        public(connectorId="")
    assert caught.value.what == "model"


def test_notes_of_the_system_and_of_the_application_go_into_the_briefing() -> None:
    turn = public(messages=[told("system", "Be kind."), told("elastic", "On: errors."), told("system", ""), HELLO])
    assert turn.briefing is not None
    assert turn.briefing.notes == ("Be kind.", "Context from the application:\nOn: errors.")
    assert [message.role for message in turn.messages] == ["user"]


def test_every_form_of_an_instruction_is_taken() -> None:
    given = [
        "Plain.",
        {"id": "a", "text": "A."},
        {"doc_id": "b", "text": "B."},
        {"text": "C.", "instruction_type": "user_instruction"},
    ]
    turn = public(instructions=given)
    assert turn.briefing is not None
    assert turn.briefing.instructions == (
        Instruction(f"{NONCE}-0", "Plain."),
        Instruction("a", "A."),
        Instruction("b", "B."),
        Instruction(f"{NONCE}-3", "C."),
    )


def test_an_action_without_parameters_takes_none() -> None:
    turn = public(actions=[{"name": "a", "description": "A."}])
    assert turn.client_tools == (ToolSpec("a", "A.", NO_ARGUMENTS),)


@pytest.mark.parametrize(
    ("disable", "tools", "own_tools", "only", "kept"),
    [
        (True, False, True, (), (TOOL,)),
        ("true", False, True, (), (TOOL,)),
        ("no", True, True, (), (TOOL,)),
        (None, True, True, (), (TOOL,)),
        ({"except": []}, False, False, (), ()),
        ({"except": ["get_cluster_health"]}, True, False, ("get_cluster_health",), (TOOL,)),
        ({"except": ["query"]}, True, False, ("query",), ()),
    ],
)
def test_functions_may_be_disabled(disable: Any, tools: bool, own_tools: bool, only: Any, kept: Any) -> None:
    turn = public(disableFunctions=disable, actions=[ACTION])
    loop = turn.loop
    assert loop is not None
    assert (loop.tools, loop.own_tools, loop.only, turn.client_tools) == (tools, own_tools, only, kept)


def test_of_several_actions_of_one_name_the_last_is_offered() -> None:
    assert public(actions=[{**ACTION, "description": "Old."}, ACTION]).client_tools == (TOOL,)


def test_is_stream_means_nothing_here() -> None:
    assert public(isStream=False) == public()


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"messages": []}, "in /messages: there must be"),
        ({"messages": [told("system", "x")]}, "in /messages: there must be"),
        ({"messages": [{"message": {"role": "user"}}]}, "in /messages/0/@timestamp: undefined"),
        ({"messages": [{"@timestamp": AT, "message": {"role": "human"}}]}, "in /messages/0/message/role"),
        ({"messages": [{"@timestamp": AT, "message": {"role": "user"}, "id": 1}]}, "Excess keys are not allowed"),
        ({"connectorId": 5}, "in /connectorId"),
        ({"screenContexts": []}, "Excess keys are not allowed:\nscreenContexts"),
        ({"scopes": ["all"]}, "Excess keys are not allowed:\nscopes"),
        ({"actions": [{"name": "a"}]}, "in /actions/0/description: undefined"),
        ({"actions": [ACTION | {"name": "context"}]}, "in /actions/0/name: 'context'"),
        ({"actions": [ACTION | {"name": ""}]}, "in /actions/0/name: ''"),
        ({"disableFunctions": {"only": []}}, "in /disableFunctions"),
        ({"instructions": [{"id": "a"}]}, "in /instructions/0/text: undefined"),
    ],
)
def test_D15_what_is_wrong_with_a_body_is_told(changes: dict[str, Any], detail: str) -> None:
    assert detail in refused(chat.public_complete, PUBLIC | changes)


def test_P7_the_connector_must_be_named() -> None:
    assert "Failed to validate" in refused(chat.public_complete, {"messages": [HELLO], "persist": False})


def test_the_public_form_of_a_message_has_no_deanonymizations() -> None:
    body = PUBLIC | {"messages": [told("user", "x", deanonymizations=[])]}
    assert refused(chat.public_complete, body) == ("Excess keys are not allowed:\nmessages.0.message.deanonymizations")
    assert inside(messages=[told("user", "x", deanonymizations=[])]).messages


def test_other_query_fields_are_refused() -> None:
    assert "query.x" in refused(chat.public_complete, PUBLIC, {"x": "1"})
    assert "query.format" in refused(chat.internal_complete, INSIDE, {"format": "openai"})


# -- which way it is answered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "query", "form"),
    [
        ("", {}, "octets"),
        ("text/event-stream, application/json", {}, "octets"),
        ("*/*", {"format": "openai"}, "octets"),
        ("text/event-stream", {}, "sse"),
        ("Text/Event-Stream;q=1", {"format": "openai"}, "sse"),
        ("text/event-stream", {"format": "default"}, "lines"),
    ],
)
def test_Q1_how_a_stream_is_framed(accept: str, query: dict[str, str], form: str) -> None:
    assert chat.public_form(request(PUBLIC, query, accept=accept)) == form


def test_another_format_is_refused() -> None:
    assert "query/format" in refused(chat.public_form, PUBLIC, {"format": "xml"})


@pytest.mark.parametrize(
    ("given", "form"), [({}, "ndjson"), ({"isStream": True}, "ndjson"), ({"isStream": False}, "json")]
)
def test_an_internal_answer_may_come_in_one_piece(given: dict[str, Any], form: str) -> None:
    asked = request(INSIDE | given)
    there = Request("POST", "/s/x/internal/observability_ai_assistant/chat/complete", *_rest(asked))
    assert chat.internal_form(there) == form


def _rest(asked: Request) -> Any:
    return asked.params, asked.query, asked.headers, asked.body, asked.id, asked.nonce, asked.at


def routes() -> list[Route[Any]]:
    return [branch for route in chat.ROUTES for branch in (route.forks.values() or (route,))]


def test_Q1_streams_are_octets_unless_an_event_stream_is_asked_for() -> None:
    types = [route.stream.media_type for route in routes() if route.stream is not None]
    assert sorted(types) == ["application/octet-stream"] * 4 + ["text/event-stream; charset=utf-8"]


def test_Q11_every_route_stands_in_a_space_too() -> None:
    assert all(route.also == (f"/s/{{space}}{route.path}",) for route in DIALECT.routes)
    assert {route.path for route in chat.ROUTES} < {route.path for route in DIALECT.routes}


# -- the internal routes -----------------------------------------------------------------------------------------------


def test_screens_are_told_and_offer_actions() -> None:
    screens = [
        {
            "description": "Logs.",
            "screenDescription": "A page.",
            "data": [{"name": "d", "description": "D", "value": {"a": 1}}],
        },
        {"description": "Logs.", "actions": [ACTION], "starterPrompts": [{"title": "t", "prompt": "p", "icon": "i"}]},
        {},
    ]
    turn = inside(screenContexts=screens)
    assert turn.screen == Screen("Logs.\n\nA page.", (ScreenItem("d", "D", '{"a":1}'),))
    assert turn.client_tools == (TOOL,)


def test_screens_and_scopes_are_needed_inside() -> None:
    assert "in /s" in refused(chat.internal_complete, PUBLIC)
    assert "Excess keys" in refused(chat.internal_complete, INSIDE | {"actions": []})
    body = INSIDE | {"screenContexts": [{"actions": [ACTION, ACTION | {"name": "exit_loop"}]}]}
    assert "in /screenContexts/0/actions/1/name" in refused(chat.internal_complete, body)


ONE: dict[str, Any] = {
    "name": "title",
    "systemMessage": "this is a system message",
    "messages": [HELLO],
    "connectorId": "my-llm",
    "functions": [ACTION],
    "scopes": ["all"],
}


def test_H3_one_reply_has_the_callers_own_system_message_and_functions() -> None:
    turn = chat.one_reply(request(ONE | {"functionCall": "get_cluster_health"}))
    assert (turn.system, turn.client_tools, turn.model) == ("this is a system message", (TOOL,), "my-llm")
    assert (turn.ephemeral, turn.known_model, turn.briefing) == (True, True, None)
    assert turn.loop is not None
    assert (turn.loop.choice, turn.loop.own_tools, turn.loop.opening) == ("get_cluster_health", False, "")
    assert (turn.loop.calls_max, turn.loop.closing, turn.loop.temperature) == (0, None, 0.25)


def test_system_messages_of_one_reply_come_behind_its_own() -> None:
    turn = chat.one_reply(request(ONE | {"messages": [told("system", "More."), HELLO]}))
    assert turn.system == "this is a system message\n\nMore."
    turn = chat.one_reply(request(ONE | {"systemMessage": "", "messages": [told("system", "More."), HELLO]}))
    assert turn.system == "More."


def test_a_function_that_must_be_called_must_be_there() -> None:
    assert "in /functionCall" in refused(chat.one_reply, ONE | {"functionCall": "other"})


def test_recall_looks_for_what_the_messages_ask() -> None:
    body = {"screenDescription": "A page.", "connectorId": "my-llm", "scopes": ["all"], "messages": [HELLO]}
    found = chat.recall(request(body))
    assert (found.model, found.screen, found.messages[0].text) == ("my-llm", Screen("A page."), "Hello")


def test_recall_takes_the_older_form() -> None:
    body = {"prompt": "Hello", "context": "A page.", "connectorId": "my-llm", "scopes": ["observability"]}
    assert chat.recall(request(body)) == FindContext((said("user", "Hello"),), "my-llm", Screen("A page."))
    assert "in /messages" in refused(chat.recall, body | {"prompt": ""})


RECALL: dict[str, Any] = {"screenDescription": "", "connectorId": "my-llm", "scopes": ["all"], "messages": [HELLO]}

# -- anything ----------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
roles = st.sampled_from(["system", "assistant", "function", "user", "elastic"])
given_messages = st.lists(
    st.builds(told, roles, st.text(max_size=9), name=st.sampled_from(["", "ls"]), data=st.sampled_from(["", "{}"])),
    max_size=4,
)


@pytest.mark.parametrize(
    ("decode", "body"),
    [(chat.public_complete, PUBLIC), (chat.internal_complete, INSIDE), (chat.one_reply, ONE), (chat.recall, RECALL)],
    ids=["public", "internal", "one reply", "recall"],
)
@given(data=st.data())
def test_no_json_crashes_a_decoder(decode: Any, body: dict[str, Any], data: st.DataObject) -> None:
    """The contract tests send no `kbn-xsrf`, so they do not come this far."""
    changed = dict(body) | {"messages": data.draw(given_messages)}
    for _ in range(data.draw(st.integers(0, 2))):
        changed[data.draw(st.sampled_from([*sorted(body), "disableFunctions", "title", "actions"]))] = data.draw(values)
    try:
        turn = decode(request(changed))
    except DragomanError as error:
        assert error.detail and DIALECT.fail(error, request(changed)).body
    else:
        assert turn.messages or turn.fault


# -- answers -----------------------------------------------------------------------------------------------------------

STARTED = Started(ConversationId("c-1"), Tape(1), RunId("run-1"), 2, created=True)
EPHEMERAL = Started(ConversationId("c-1"), Tape(1), RunId("run-1"), 2, created=True, ephemeral=True)
CALL = ToolCall(CallId("c1"), "get_cluster_health", "{}")


def outcome(end: Any, started: Started = STARTED, text: str = "Hi") -> Outcome:
    return Outcome(started, end, text, 1, (), Usage())


def test_the_conversation_that_is_kept_is_named() -> None:
    assert chat.named(STARTED) == (("x-conversation-id", "c-1"),)
    assert chat.named(EPHEMERAL) == ()


@pytest.mark.parametrize(
    ("started", "end", "text", "body"),
    [
        (STARTED, ev.RunCompleted(), "Hi", {"connectorId": "my-llm", "conversationId": "c-1", "data": "Hi"}),
        (EPHEMERAL, ev.RunCompleted(), "Hi", {"connectorId": "my-llm", "data": "Hi"}),
        (EPHEMERAL, ev.RunNeedsClient((CALL,)), "", {"connectorId": "my-llm", "data": ""}),
    ],
)
def test_an_answer_in_one_piece(started: Started, end: Any, text: str, body: Any) -> None:
    reply = chat.whole(outcome(end, started, text), request(INSIDE))
    assert (reply.status, json.loads(reply.body)) == (200, body)


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (ev.RunFailed("upstream_refused", "No."), 502, "Error calling connector: No."),
        (ev.RunFailed("reply_cut", "Token limit reached."), 500, "Token limit reached."),
        (ev.RunCancelled(), 500, "The answer was cancelled."),
    ],
)
def test_a_failure_in_one_piece(end: Any, status: int, message: str) -> None:
    reply = chat.whole(outcome(end), request(INSIDE))
    assert (reply.status, json.loads(reply.body)["message"]) == (status, message)


def test_what_was_recalled_is_one_line() -> None:
    learnings = [{"id": "a", "text": "A", "llmScore": 7, "esScore": 1.5}]
    content = json.dumps({"screen_description": "", "learnings": learnings})
    reply = chat.recalled(ContextFound(content, '{"llmScores":[],"suggestions":[]}'), request({}))
    assert reply.body.endswith(b"\n") and reply.body.count(b"\n") == 1
    event = json.loads(reply.body)
    assert (event["type"], event["id"]) == ("messageAdd", NEW)
    assert event["message"]["@timestamp"] == "1970-01-01T00:00:05.000Z"
    said_ = event["message"]["message"]
    assert json.loads(said_.pop("content")) == {"relevantDocuments": learnings}
    assert said_ == {"role": "user", "name": "context", "data": '{"llmScores":[],"suggestions":[]}'}
