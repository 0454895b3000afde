"""Quirks of WIRE.md that no numbered case shows, and what is beyond upstream on the public route."""

from tests.dialects.elastic.conformance.kit import (
    AT,
    INTERNAL,
    PUBLIC,
    UNKNOWN_ID,
    Kibana,
    events_in,
    message,
    result,
    sse_in,
    text_of,
    types_of,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, forced, of


async def test_Q1_event_stream_only_for_who_takes_nothing_else(kibana: Kibana, llm: Llm) -> None:
    accepted = {
        "text/event-stream": "text/event-stream; charset=utf-8",
        "text/event-stream, application/json": "application/octet-stream",
        "*/*": "application/octet-stream",
    }
    for accept, expected in accepted.items():
        llm.says("Hello")
        answer = await kibana.send("POST", PUBLIC, kibana.asked(), accept=accept)
        assert (answer.headers["content-type"], text_of(sse_in(answer.body))) == (expected, "Hello")


async def test_Q8_an_absent_persist_means_false(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    body = kibana.asked()
    del body["persist"]
    answer = await kibana.send("POST", PUBLIC, body)
    assert text_of(sse_in(answer.body)) == "Hello"
    assert await kibana.conversations() == []


async def test_Q10_a_write_without_kbn_xsrf_is_refused(kibana: Kibana) -> None:
    answer = await kibana.send("POST", PUBLIC, kibana.asked(), kbn_xsrf="")
    assert (answer.status, answer.json["message"]) == (400, "Request must contain a kbn-xsrf header.")
    deleted = await kibana.send("DELETE", f"{INTERNAL}/conversation/{UNKNOWN_ID}", kbn_xsrf="")
    assert deleted.status == 400


async def test_Q13_without_persist_nothing_is_looked_up_or_titled(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    answer = await kibana.public(conversationId=UNKNOWN_ID)
    assert text_of(sse_in(answer.body)) == "Hello"
    assert of(forced("title_conversation"), llm.requests) == []
    assert await kibana.conversations() == []


async def test_Q15_a_result_of_no_call_is_an_error_in_the_stream(kibana: Kibana, llm: Llm) -> None:
    answer = await kibana.public([user("hi"), result("my_action", {"got": 1})])
    assert answer.status == 200
    (event,) = sse_in(answer.body)
    assert event == {"error": {"message": "Could not find tool call request for my_action"}}
    assert llm.requests == []


async def test_Q17_what_was_answered_is_kept_when_the_stream_ends(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    answer = await kibana.public(persist=True)
    document = await kibana.conversation(answer.headers["x-conversation-id"])
    assert document["conversation"]["title"] == "My Title"
    assert document["messages"][-1]["message"]["content"] == "Hello"


async def test_a_title_that_is_given_is_kept_and_none_is_thought_of(kibana: Kibana, llm: Llm) -> None:
    """Spec 1.7."""
    llm.says("Hello")
    answer = await kibana.public(persist=True, title="Given")
    document = await kibana.conversation(answer.headers["x-conversation-id"])
    assert (document["conversation"]["title"], len(llm.requests)) == ("Given", 1)


async def test_what_others_share_is_not_gone_on_with(kibana: Kibana, llm: Llm) -> None:
    """Spec 1.7: an error of its own, in the stream."""
    llm.titles("My Title")
    llm.says("Hello")
    conversation = (await kibana.public(persist=True)).headers["x-conversation-id"]
    await kibana.send("PATCH", f"{INTERNAL}/conversation/{conversation}", {"public": True})
    answer = await kibana.public(persist=True, conversationId=conversation, who="other")
    (event,) = sse_in(answer.body)
    assert event["error"]["message"] == "Cannot update conversation that is not owned by the user"
    assert len(llm.requests) == 2


async def test_messages_of_the_system_and_of_the_application_reach_the_system_message(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello")
    told = [message("system", "Be brief."), message("elastic", "The user looks at hosts."), user("hi")]
    assert text_of(sse_in((await kibana.public(told)).body)) == "Hello"
    (asked,) = llm.requests
    system = asked["messages"][0]["content"]
    assert "Be brief." in system and "The user looks at hosts." in system
    assert [each["role"] for each in asked["messages"]].count("system") == 1


async def test_a_function_message_is_a_result(kibana: Kibana, llm: Llm) -> None:
    """The page's role `function`."""
    call = {"name": "my_action", "arguments": "{}", "trigger": "assistant"}
    told = [
        user("hi"),
        message("assistant", "", function_call=call),
        message("function", '{"got":1}', name="my_action"),
    ]
    llm.says("Got it.")
    assert text_of(sse_in((await kibana.public(told)).body)) == "Got it."
    results = [each["content"] for each in llm.requests[0]["messages"] if each["role"] == "tool"]
    assert '{"got":1}' in results


async def test_instructions_may_be_objects(kibana: Kibana, llm: Llm) -> None:
    """Spec 1.2: the forms of all versions."""
    llm.says("Hello")
    forms = [
        "first text",
        {"id": "a", "text": "second text"},
        {"doc_id": "b", "text": "third text"},
        {"text": "fourth text", "instruction_type": "user_instruction"},
    ]
    assert (await kibana.public(instructions=forms)).status == 200
    system = llm.requests[0]["messages"][0]["content"]
    assert all(f"{number} text" in system for number in ("first", "second", "third", "fourth"))


async def test_format_default_answers_with_events(kibana: Kibana, llm: Llm) -> None:
    llm.says("Hello", times=2)
    answer = await kibana.send("POST", f"{PUBLIC}?format=default", kibana.asked())
    assert types_of(events_in(answer.body))[-2:] == ["chatCompletionMessage", "messageAdd"]
    answer = await kibana.send("POST", f"{PUBLIC}?format=openai", kibana.asked())
    assert text_of(sse_in(answer.body)) == "Hello"


async def test_what_a_client_sent_comes_back_as_it_was(kibana: Kibana, llm: Llm) -> None:
    """Times, data and events of messages are the client's."""
    llm.titles("My Title")
    llm.says("Hello")
    sent = {"@timestamp": "not even a time", "message": {"role": "user", "content": "hi", "data": "{}", "event": "e"}}
    events = await kibana.complete([sent], persist=True)
    document = await kibana.conversation(events[-1]["conversation"]["id"])
    assert document["messages"][0] == sent
    assert AT not in document["messages"][1]["@timestamp"]
