"""I1-I6 and H1-H5 of the Elastic spec (7.2, 7.3): the internal chat/complete and chat."""

import asyncio
import json
from typing import Any

from tests.dialects.elastic.conformance.kit import (
    AT,
    COMPLETE,
    INTERNAL,
    MY_ACTION,
    Kibana,
    added,
    events_in,
    of_type,
    types_of,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, forced, of

CONTEXT_CALL = {
    "content": "",
    "role": "assistant",
    "function_call": {"name": "context", "trigger": "assistant"},
}
CONTEXT_RESULT = {"content": '{"screen_description":"","learnings":[]}', "name": "context", "role": "user"}


def plain_reply(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "role": "assistant",
        "function_call": {"name": "", "arguments": "", "trigger": "assistant"},
    }


def chatting(kibana: Kibana, **fields: Any) -> dict[str, Any]:
    """The body of an internal chat."""
    return {
        "name": "my_api_call",
        "systemMessage": "this is a system message",
        "messages": [user("test")],
        "connectorId": kibana.connector_id,
        "functions": [],
        "scopes": ["all"],
        **fields,
    }


async def test_I1_events_come_in_their_order(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello!")
    events = await kibana.complete([user("Good morning, bot!", data="{}")])
    expected = ["messageAdd", "messageAdd", "chatCompletionChunk", "chatCompletionMessage", "messageAdd"]
    assert types_of(events) == expected
    assert added(events) == [CONTEXT_CALL, CONTEXT_RESULT, plain_reply("Hello!")]
    assert (events[2].keys(), events[2]["message"]) == ({"type", "id", "message"}, {"content": "Hello!"})
    assert events[3]["message"] == {"content": "Hello!"}


async def test_I2_the_system_message_is_the_one_that_functions_shows(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello!")
    await kibana.complete()
    shown = (await kibana.get(f"{INTERNAL}/functions?scopes=all")).json["systemMessage"]
    (asked,) = llm.requests
    assert asked["messages"][0] == {"role": "system", "content": shown}


async def test_I3_a_new_conversation_is_told_at_the_end(kibana: Kibana, llm: Llm) -> None:
    llm.titles("Title for a new conversation")
    llm.says("Hello again")
    events = await kibana.complete(persist=True)
    assert added(events)[:2] == [CONTEXT_CALL, CONTEXT_RESULT]
    chunks = of_type("chatCompletionChunk", events)
    assert "".join(event["message"]["content"] for event in chunks) == "Hello again"
    rest = events[2 + len(chunks) :]
    assert types_of(rest) == ["chatCompletionMessage", "messageAdd", "conversationCreate"]
    assert rest[0]["message"] == {"content": "Hello again"}
    assert rest[1]["message"]["message"] == plain_reply("Hello again")
    told = rest[2]["conversation"]
    assert told.keys() == {"title", "id", "last_updated"}
    assert told["title"] == "Title for a new conversation"
    assert (await kibana.conversation(told["id"]))["conversation"] == told


async def test_I4_an_action_of_the_client_ends_the_stream_and_nothing_is_kept(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.calls("my_action", '{"foo":"bar"}')
    events = await kibana.complete(persist=True, screenContexts=[{"actions": [MY_ACTION]}])
    assert events[-1]["type"] == "messageAdd"
    assert events[-1]["message"]["message"] == {
        "content": "",
        "role": "assistant",
        "function_call": {"name": "my_action", "arguments": '{"foo":"bar"}', "trigger": "assistant"},
    }
    assert of_type("conversationCreate", events) == []
    assert await kibana.conversations() == []


async def test_I5_a_conversation_that_goes_on_keeps_its_title(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    llm.says("Bye")
    first = await kibana.complete(persist=True)
    conversation = first[-1]["conversation"]["id"]
    messages = (await kibana.conversation(conversation))["messages"]
    events = await kibana.complete([*messages, user("Good night, bot!")], persist=True, conversationId=conversation)
    assert events[-1]["type"] == "conversationUpdate"
    assert events[-1]["conversation"]["id"] == conversation
    assert events[-1]["conversation"]["title"] == "My Title"
    assert (len(llm.turns), len(of(forced("title_conversation"), llm.requests))) == (2, 1)


async def test_I6_a_viewer_may_not(kibana: Kibana) -> None:
    body = kibana.asked(screenContexts=[], scopes=["all"])
    answer = await kibana.send("POST", COMPLETE, body, who="viewer")
    assert (answer.status, answer.json["error"]) == (403, "Forbidden")


async def test_H1_an_unknown_connector_is_404(kibana: Kibana) -> None:
    answer = await kibana.send("POST", f"{INTERNAL}/chat", chatting(kibana, connectorId="does not exist"))
    assert answer.status == 404


async def test_H2_a_connector_that_is_known_answers(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    answer = await kibana.send("POST", f"{INTERNAL}/chat", chatting(kibana))
    assert answer.status == 200
    assert types_of(events_in(answer.body)) == ["chatCompletionChunk", "chatCompletionMessage"]


async def test_H3_the_system_message_goes_to_the_model_as_it_is(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    await kibana.send("POST", f"{INTERNAL}/chat", chatting(kibana))
    (asked,) = llm.requests
    assert asked["messages"] == [
        {"role": "system", "content": "this is a system message"},
        {"role": "user", "content": "test"},
    ]
    assert "tools" not in asked and "tool_choice" not in asked


async def test_H3_a_function_may_be_forced(kibana: Kibana, llm: Llm) -> None:
    llm.must_call("my_action", '{"foo":"bar"}')
    body = chatting(kibana, functions=[MY_ACTION], functionCall="my_action")
    answer = await kibana.send("POST", f"{INTERNAL}/chat", body)
    chunk, message = events_in(answer.body)
    call = {"name": "my_action", "arguments": '{"foo":"bar"}'}
    assert chunk["message"] == {"content": "", "function_call": call}
    assert message["message"]["function_call"].items() >= call.items()
    (asked,) = llm.requests
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["my_action"]


async def test_H4_each_chunk_of_the_model_is_one_that_is_sent_at_once(kibana: Kibana, llm: Llm) -> None:
    laid = llm.says("one two three four five")
    laid.steps = asyncio.Semaphore(0)
    body = json.dumps(chatting(kibana)).encode()
    seen: list[dict[str, Any]] = []
    async with kibana.client("editor").stream("POST", f"{INTERNAL}/chat", body=body) as answer:
        for _ in range(5):
            laid.steps.release()
            line = await answer.chunk()
            assert line.count(b"\n") == 1 and line.endswith(b"\n")
            seen.append(json.loads(line))
        laid.steps.release()  # its reason
        laid.steps.release()
        rest = await answer.rest()
    assert [event["type"] for event in seen] == ["chatCompletionChunk"] * 5
    assert [event["message"]["content"] for event in seen] == ["one", " two", " three", " four", " five"]
    assert types_of(events_in(rest)) == ["chatCompletionMessage"]


async def test_H5_a_viewer_may_not(kibana: Kibana) -> None:
    assert (await kibana.send("POST", f"{INTERNAL}/chat", chatting(kibana), who="viewer")).status == 403


async def test_an_internal_answer_may_come_as_one_json(kibana: Kibana, llm: Llm) -> None:
    """Spec 3.1: `isStream:false`."""
    llm.titles("My Title")
    llm.says("Hello again")
    body = kibana.asked(screenContexts=[], scopes=["observability"], persist=True, isStream=False)
    answer = await kibana.send("POST", COMPLETE, body)
    assert answer.status == 200
    assert answer.json.keys() == {"conversationId", "data", "connectorId"}
    assert (answer.json["data"], answer.json["connectorId"]) == ("Hello again", kibana.connector_id)
    document = await kibana.conversation(answer.json["conversationId"])
    assert document["conversation"]["title"] == "My Title" and document["messages"][0]["@timestamp"] == AT
