"""D1-D15 of the Elastic spec (7.8): what follows from the sources of the system and no test of its own asserts."""

import json
from typing import Any

from dragoman.dialects.elastic import DIALECT
from dragoman.wire.dialect import Encoder, Route
from tests.dialects.elastic.conformance.kit import (
    AT,
    COMPLETE,
    INTERNAL,
    MY_ACTION,
    PUBLIC,
    UNKNOWN_ID,
    Kibana,
    added,
    called,
    history,
    message,
    of_type,
    result,
    sse_in,
    text_of,
    types_of,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, choice_of, delta, forced, of, plain

CALLS_MAX = 8


def tools_of(asked: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools", ())]


async def server_tool(kibana: Kibana) -> str:
    """A tool of the server's that takes no argument."""
    functions = (await kibana.get(f"{INTERNAL}/functions?scopes=all")).json["functionDefinitions"]
    names = {each["name"] for each in functions if not each.get("parameters", {}).get("required")}
    return next(name for name in sorted(names) if name not in ("context", "get_data_on_screen"))


async def test_D1_an_unknown_conversation_is_an_error_in_the_stream(kibana: Kibana, llm: Llm) -> None:
    answer = await kibana.public(persist=True, conversationId=UNKNOWN_ID)
    assert answer.status == 200
    assert answer.body == b'data: {"error":{"message":"Conversation not found"}}\n\ndata: [DONE]\n\n'
    assert llm.requests == []


async def test_D2_and_a_line_of_its_own_among_the_events(kibana: Kibana, llm: Llm) -> None:
    (event,) = await kibana.complete(persist=True, conversationId=UNKNOWN_ID)
    assert (event["type"], event["error"]["code"]) == ("chatCompletionError", "notFoundError")
    assert event["error"]["message"] == "Conversation not found"
    assert llm.requests == []


async def test_D3_the_eighth_request_is_made_to_end(kibana: Kibana, llm: Llm) -> None:
    name = await server_tool(kibana)
    llm.calls(name, {}, times=20)
    llm.must_call("exit_loop", {"response": "That is all I found."})
    answer = await kibana.public()
    assert len(llm.requests) == CALLS_MAX
    assert [asked["tool_choice"] for asked in llm.requests[:-1]] == ["auto"] * (CALLS_MAX - 1)
    assert choice_of(llm.requests[-1]) == "exit_loop" and tools_of(llm.requests[-1]) == ["exit_loop"]
    chunks = sse_in(answer.body)
    calls = [chunk["choices"][0]["delta"].get("function_call", {}).get("name") for chunk in chunks]
    assert calls == [*[name] * (CALLS_MAX - 1), "exit_loop", None]
    assert text_of(chunks) == "That is all I found."


async def test_D4_a_tool_that_was_not_offered_is_answered_with_an_error(kibana: Kibana, llm: Llm) -> None:
    llm.calls("nope", {})
    llm.says("Then not.")
    events = await kibana.complete()
    (recovery,) = [event for event in events if event.get("id") == "error_recovery_message"]
    call = {"name": "nope", "arguments": "", "trigger": "assistant"}
    assert recovery["message"]["message"]["function_call"] == call
    refused, said = added(events)[-2:]
    assert (refused["name"], said["content"]) == ("nope", "Then not.")
    assert json.loads(refused["content"])["error"]
    assert len(llm.requests) == 2


async def test_D5_arguments_of_an_action_that_do_not_fit_are_answered_with_an_error(kibana: Kibana, llm: Llm) -> None:
    llm.calls("my_action", {"foo": 5})
    llm.calls("my_action", {"foo": "bar"})
    events = await kibana.complete(screenContexts=[{"actions": [MY_ACTION]}])
    first, refused, last = added(events)[-3:]
    assert (first["function_call"]["arguments"], refused["name"]) == ('{"foo":5}', "my_action")
    assert "foo" in json.loads(refused["content"])["error"]["message"]
    assert last["function_call"]["arguments"] == '{"foo":"bar"}'
    assert len(llm.requests) == 2


async def test_D6_a_reply_that_was_cut_short_is_an_error(kibana: Kibana, llm: Llm) -> None:
    ended = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    llm.lay(plain, delta(content="Well"), ended, times=2)
    *chunks, event = sse_in((await kibana.public()).body)
    assert "Well" in text_of(chunks)
    assert event["error"]["message"].startswith("Token limit reached")


async def test_D7_an_error_of_the_model_in_the_midst_of_its_reply(kibana: Kibana, llm: Llm) -> None:
    fault = json.dumps({"error": {"message": "the model fell over"}})
    llm.lay(plain, delta(content="Well"), fault, times=2)
    *chunks, event = sse_in((await kibana.public()).body)
    assert text_of(chunks) == "Well"
    assert event["error"]["message"].startswith("Error calling connector: ")


async def test_D8_a_history_that_ends_with_an_answer_needs_none(kibana: Kibana, llm: Llm) -> None:
    context = [called("context", {}), result("context", {"screen_description": "", "learnings": []})]
    answered = [user("hi"), *context, message("assistant", "Hello")]
    assert (await kibana.public(answered)).body == b"data: [DONE]\n\n"
    assert llm.requests == []


async def test_D8_and_without_its_context_is_given_one_and_asked(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello again")
    answer = await kibana.public([user("hi"), message("assistant", "Hello")])
    assert text_of(sse_in(answer.body)) == "Hello again"
    assert len(llm.requests) == 1


async def test_D9_without_functions_the_model_is_sent_no_tools(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    await kibana.public(disableFunctions=True, actions=[MY_ACTION])
    (asked,) = llm.requests
    assert "tools" not in asked and "tool_choice" not in asked
    assert [each["role"] for each in asked["messages"]] == ["system", "user", "assistant", "tool"]


async def test_D10_a_title_that_cannot_be_thought_of_is_a_plain_one(kibana: Kibana, llm: Llm) -> None:
    llm.fails(when=forced("title_conversation"), times=5)
    llm.says("Hello")
    events = await kibana.complete(persist=True)
    assert events[-1]["conversation"]["title"] == "New conversation"


async def test_D11_a_long_result_is_cut(kibana: Kibana, llm: Llm) -> None:
    rows = [f"row {at} " + "word " * 20 for at in range(300)]
    screen = {"data": [{"name": "rows", "description": "Rows", "value": rows}]}
    llm.calls("get_data_on_screen", {"data": ["rows"]})
    llm.says("Long.")
    events = await kibana.complete(screenContexts=[screen])
    cut = json.loads(added(events)[-2]["content"])
    assert cut.keys() == {"message", "truncated"}
    assert cut["message"] == "Function response exceeded the maximum length allowed and was truncated"
    told = [each["content"] for each in llm.turns[-1]["messages"] if each["role"] == "tool"]
    assert json.loads(told[-1]) == cut and cut["truncated"].startswith('{"data":[')


def encoder_of(path: str, branch: str = "") -> Encoder:
    """What a reader of this route is given; `branch` where the route is a fork."""
    (route,) = [each for each in DIALECT.routes if (each.method, each.path) == ("POST", path)]
    chosen: Route[Any] = route.forks[branch] if branch else route
    assert chosen.stream is not None
    return chosen.stream.encoder(None)


async def test_D12_only_events_are_kept_alive_in_a_long_silence() -> None:
    """The edge asks for it every 15 seconds."""
    lines = encoder_of(COMPLETE, "ndjson")
    assert [lines.silence() for _ in range(4)] == [b"", b'{"type":"bufferFlush","data":"0"}\n'] * 2


async def test_D13_the_result_of_an_action_goes_to_the_model_with_its_call(kibana: Kibana, llm: Llm) -> None:
    asked_for = called("my_action", {"foo": "bar"})
    llm.says("It is bar.")
    answer = await kibana.public([user("hi"), asked_for, result("my_action", {"got": "bar"})], actions=[MY_ACTION])
    assert text_of(sse_in(answer.body)) == "It is bar."
    (asked,) = llm.requests
    calls = [call for each in asked["messages"] for call in each.get("tool_calls", ())]
    told = {each["tool_call_id"]: each["content"] for each in asked["messages"] if each["role"] == "tool"}
    (mine,) = [call for call in calls if call["function"]["name"] == "my_action"]
    assert mine["function"]["arguments"] == '{"foo":"bar"}'
    assert json.loads(told[mine["id"]]) == {"got": "bar"}
    assert told.keys() == {call["id"] for call in calls}


async def test_D14_an_instruction_beyond_the_budget_is_left_out(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    await kibana.public(instructions=["short and kept", "word " * 2000])
    system = llm.requests[0]["messages"][0]["content"]
    assert "short and kept" in system and "word word" not in system


async def test_D15_a_key_that_is_not_known_is_400(kibana: Kibana) -> None:
    answer = await kibana.public(extra=1)
    assert answer.status == 400 and answer.json["message"].startswith("Excess keys are not allowed:")
    query = await kibana.send("POST", f"{PUBLIC}?nope=1", kibana.asked())
    assert query.status == 400
    nested: dict[str, Any] = {"@timestamp": AT, "message": {"role": "user", "content": "hi", "deanonymizations": []}}
    assert (await kibana.public([nested])).status == 400


async def test_a_run_may_begin_with_a_function_that_the_user_asks_for(kibana: Kibana, llm: Llm) -> None:
    """Spec 4.3: the server runs it before the model is asked."""
    name = await server_tool(kibana)
    llm.says("Seen.")
    events = await kibana.complete([user("hi"), called(name, {}, trigger="user")])
    assert [each.get("name", "") for each in added(events)] == [name, ""]
    assert added(events)[-1]["content"] == "Seen."
    (asked,) = of(plain, llm.requests)
    assert asked["messages"][-1]["role"] == "tool"
    again = await kibana.complete([user("hi"), called(name, {}, trigger="user"), *history(events), user("and?")])
    assert of_type("chatCompletionError", again) and types_of(again)[-1] == "chatCompletionError"
