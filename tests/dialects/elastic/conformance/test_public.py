"""P1-P9 of the Elastic spec (7.1): the public chat/complete."""

import socket
from typing import Any

from tests.dialects.elastic.conformance.kit import (
    INTERNAL,
    MY_ACTION,
    PUBLIC,
    Kibana,
    sse_in,
    text_of,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm

DOCUMENT_KEYS = {
    "@timestamp",
    "archived",
    "conversation",
    "labels",
    "messages",
    "namespace",
    "numeric_labels",
    "public",
    "systemMessage",
    "user",
}
KIBANA_ERROR = ["statusCode", "error", "message", "attributes"]


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


async def test_P1_instructions_reach_the_system_message(kibana: Kibana, llm: Llm) -> None:
    llm.calls("my_action", '{"foo":"bar"}')
    answer = await kibana.public(instructions=["This is a random instruction"], actions=[MY_ACTION])
    (asked,) = llm.requests
    assert asked["messages"][0]["role"] == "system"
    assert "This is a random instruction" in asked["messages"][0]["content"]
    assert answer.status == 200
    (chunk,) = sse_in(answer.body)
    assert chunk["choices"][0]["delta"] == {
        "content": "",
        "function_call": {"name": "my_action", "arguments": '{"foo":"bar"}'},
    }


async def test_P2_the_answer_is_framed_as_server_sent_events(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    answer = await kibana.public(persist=True)
    assert answer.headers["content-type"] == "application/octet-stream"
    (chunk,) = sse_in(answer.body)
    assert list(chunk) == ["model", "choices", "created", "id", "object"]
    assert isinstance(chunk.pop("id"), str)
    assert chunk.pop("created") == int(kibana.clock.at * 1000)
    choice: dict[str, Any] = {"delta": {"content": "Hello"}, "finish_reason": None, "index": 0}
    assert chunk == {"model": "unknown", "choices": [choice], "object": "chat.completion.chunk"}


async def test_P2_a_reply_without_a_finish_reason_is_whole_once_it_is_done(kibana: Kibana, llm: Llm) -> None:
    """The system's own fake sends none."""
    llm.gives_reasons = False
    llm.says("Hello")
    (chunk,) = sse_in((await kibana.public()).body)
    assert chunk["choices"][0]["delta"] == {"content": "Hello"}


async def test_P3_a_model_that_cannot_be_reached_is_an_error_in_the_stream(kibana: Kibana) -> None:
    connector = await kibana.connect(f"http://127.0.0.1:{closed_port()}/v1/chat/completions")
    told: dict[str, Any] = {"disableFunctions": True, "instructions": ["Answer concisely."], "title": "smoke"}
    answer = await kibana.public(connectorId=connector, **told)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    (event,) = sse_in(answer.body)
    assert list(event) == ["error"] and list(event["error"]) == ["message"]
    assert event["error"]["message"].startswith("Error calling connector: ")


async def test_P4_the_path_may_name_the_space(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    answer = await kibana.send("POST", f"/s/default{PUBLIC}", kibana.asked(disableFunctions=True))
    assert (answer.status, text_of(sse_in(answer.body))) == (200, "Hello")


async def test_P5_an_unknown_connector_is_404_before_the_stream(kibana: Kibana) -> None:
    answer = await kibana.public(connectorId="missing")
    assert (answer.status, list(answer.json)) == (404, KIBANA_ERROR)
    assert answer.json["message"] == "No connector or inference endpoint found for ID 'missing'"
    assert answer.json["attributes"] == {"data": None}


async def test_P6_a_message_without_its_time_is_400(kibana: Kibana) -> None:
    answer = await kibana.public([{"message": {"role": "user", "content": "hi"}}])
    assert (answer.status, list(answer.json)) == (400, KIBANA_ERROR)
    assert "Failed to validate" in answer.json["message"] and "@timestamp" in answer.json["message"]


async def test_P7_a_request_without_a_connector_is_400(kibana: Kibana) -> None:
    body = kibana.asked()
    del body["connectorId"]
    answer = await kibana.send("POST", PUBLIC, body)
    assert (answer.status, answer.json["attributes"]) == (400, {"data": None})
    assert "Failed to validate" in answer.json["message"] and "connectorId" in answer.json["message"]


async def test_P8_is_stream_false_is_accepted_and_still_streams(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    answer = await kibana.public(isStream=False)
    assert (answer.status, text_of(sse_in(answer.body))) == (200, "Hello")
    assert "x-conversation-id" not in answer.headers


async def test_P9_a_conversation_goes_on_under_its_id(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    llm.says("Bye")
    first = await kibana.public(persist=True)
    conversation = first.headers["x-conversation-id"]
    document = await kibana.conversation(conversation)
    messages = [*document["messages"], user("Good night, bot!")]
    again = await kibana.public(messages, persist=True, conversationId=conversation)
    assert (again.status, text_of(sse_in(again.body))) == (200, "Bye")
    assert again.headers["x-conversation-id"] == conversation
    document = await kibana.conversation(conversation)
    assert document.keys() == DOCUMENT_KEYS
    assert document["conversation"]["id"] == conversation
    said = [each["message"] for each in document["messages"] if not each["message"].get("name")]
    texts = [(each["role"], each["content"]) for each in said if each["content"]]
    assert texts == [
        ("user", "Good morning, bot!"),
        ("assistant", "Hello"),
        ("user", "Good night, bot!"),
        ("assistant", "Bye"),
    ]
    assert len(await kibana.conversations()) == 1
    assert (await kibana.get(f"{INTERNAL}/conversation/{conversation}", who="other")).status == 404
