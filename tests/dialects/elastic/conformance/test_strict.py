"""What callers send that no case of the spec has, and what must hold of it all the same: the order of checks, histories
that are out of order, actions of every kind, streams without a word."""

import json
from typing import Any

import pytest

from tests.dialects.elastic.conformance.kit import (
    AT,
    COMPLETE,
    INTERNAL,
    MY_ACTION,
    PUBLIC,
    UNKNOWN_ID,
    Json,
    Kibana,
    added,
    called,
    events_in,
    message,
    of_type,
    result,
    sse_in,
    text_of,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, choice_of
from tests.streaming_client import Client

SCREEN = [{"actions": [MY_ACTION]}]
OTHER_ACTION = {"name": "other_action", "description": "Another."}


def told(asked: Json) -> list[tuple[str, str]]:
    """What the model was told behind the system message: role, and text or calls or whose result."""
    rows: list[tuple[str, str]] = []
    for each in asked["messages"][1:]:
        calls = ",".join(call["id"] for call in each.get("tool_calls", ()))
        rows.append((each["role"], calls or each.get("tool_call_id") or each["content"]))
    return rows


def in_order(asked: Json) -> bool:
    """Each call of an assistant has its one result right behind it, and nothing else is a result."""
    due: list[str] = []
    for each in asked["messages"]:
        if each["role"] == "tool":
            if each["tool_call_id"] not in due:
                return False
            due.remove(each["tool_call_id"])
            continue
        if due:
            return False
        due = [call["id"] for call in each.get("tool_calls", ())]
    return not due


def names_of(asked: Json) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools", ())]


async def told_anew(kibana: Kibana, run: str) -> tuple[int, int]:
    """Of a run's turn on the tape: its messages, and how many of them tell again what was said before."""
    bearer = f"Bearer {kibana.credentials['editor']}"
    entries = (await kibana.send("GET", f"/api/runs/{run}", authorization=bearer)).json["entries"]
    received = entries[0]["event"]
    return len(received["messages"]), received.get("restates", 0)


# -- before the stream -------------------------------------------------------------------------------------------------


async def test_who_asks_comes_before_the_header_and_that_before_the_query_and_the_body(kibana: Kibana) -> None:
    credential = {"authorization": f"ApiKey {kibana.credentials['editor']}"}
    statuses: list[tuple[int, str]] = []
    for headers in ({}, credential, {**credential, "kbn-xsrf": "x"}):
        answer = await Client(kibana.house.app, headers=headers).request("POST", f"{PUBLIC}?nope=1", body=b"{")
        statuses.append((answer.status, json.loads(answer.body)["message"]))
    assert [status for status, _ in statuses] == [401, 400, 400]
    assert statuses[1][1] == "Request must contain a kbn-xsrf header."
    assert statuses[2][1].startswith("Excess keys are not allowed:")


async def test_a_body_that_is_not_there_is_told_as_what_is_wrong_with_it(kibana: Kibana) -> None:
    credential = {"authorization": f"ApiKey {kibana.credentials['editor']}", "kbn-xsrf": "x"}
    answer = await Client(kibana.house.app, headers=credential).request("POST", PUBLIC)
    assert answer.status == 400 and json.loads(answer.body)["message"].startswith("Failed to validate: ")


@pytest.mark.parametrize(("method", "path"), [("GET", PUBLIC), ("DELETE", "/api/status"), ("POST", f"{PUBLIC}/nope")])
async def test_what_there_is_no_route_for_is_not_found(kibana: Kibana, method: str, path: str) -> None:
    answer = await kibana.send(method, path)
    body = {"statusCode": 404, "error": "Not Found", "message": "Not Found", "attributes": {"data": None}}
    assert (answer.status, answer.json) == (404, body)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/s/default/api/spaces/space/default", 200),
        ("/s/default/api/spaces/space/other", 404),
        ("/s/other/api/spaces/space/default", 404),
        ("/s/other/api/spaces/space/other", 404),
    ],
)
async def test_Q11_a_space_is_asked_about_from_inside_one(kibana: Kibana, path: str, status: int) -> None:
    assert (await kibana.get(path)).status == status


# -- what the model is told --------------------------------------------------------------------------------------------

ASKED = called("my_action", {"foo": "1"})
DONE = result("my_action", {"ok": 1})


@pytest.mark.parametrize(
    "messages",
    [
        [user("a"), ASKED, user("b")],
        [user("a"), ASKED, ASKED, DONE, user("b")],
        [user("a"), ASKED, user("b"), DONE],
        [user("a"), ASKED, called("other_action", {}), DONE, result("other_action", {}), user("b")],
        [user("a"), ASKED, called("other_action", {}), result("other_action", {}), DONE],
        [user("a"), ASKED, DONE, DONE],
        [message("assistant", "hm"), ASKED, message("assistant", "so"), DONE, user("b")],
    ],
)
async def test_calls_and_results_reach_the_model_side_by_side(kibana: Kibana, llm: Llm, messages: list[Json]) -> None:
    """However they are sent (elastic/kibana#214005); and of a conversation that is kept, as they were sent."""
    llm.says("Good.", times=3)
    answer = await kibana.public(messages, actions=[MY_ACTION, OTHER_ACTION], persist=True, title="T")
    assert text_of(sse_in(answer.body)) == "Good."
    conversation = answer.headers["x-conversation-id"]
    kept = (await kibana.conversation(conversation))["messages"]
    assert kept[: len(messages)] == messages
    again = await kibana.public([*kept, user("And?")], persist=True, conversationId=conversation)
    assert text_of(sse_in(again.body)) == "Good."
    assert (await kibana.conversation(conversation))["messages"][: len(kept)] == kept
    assert await told_anew(kibana, again.headers["x-run-id"]) == (1, 0)
    assert [in_order(asked) for asked in llm.turns] == [True, True]
    spoken = {each["message"]["content"] for each in messages if "name" not in each["message"]} - {""}
    assert spoken <= {text for _, text in told(llm.turns[0])}


async def test_a_result_that_is_an_array_is_wrapped_and_kept_as_it_is(kibana: Kibana, llm: Llm) -> None:
    """Some providers take no array (elastic/kibana#226594)."""
    llm.says("Two.")
    messages = [user("a"), ASKED, result("my_action", [1, 2])]
    answer = await kibana.public(messages, actions=[MY_ACTION], persist=True, title="T")
    (content,) = [each["content"] for each in llm.requests[0]["messages"] if each["role"] == "tool"][:1]
    assert json.loads(content) == {"response": [1, 2]}
    kept = await kibana.conversation(answer.headers["x-conversation-id"])
    assert kept["messages"][:3] == messages


async def test_data_goes_to_no_model(kibana: Kibana, llm: Llm) -> None:
    llm.says("Good.")
    shown: Json = {"@timestamp": AT, "message": {"role": "user", "name": "my_action", "content": "{}", "data": "SHOWN"}}
    await kibana.public([user("a", data="SHOWN"), ASKED, shown])
    assert "SHOWN" not in json.dumps(llm.requests)


async def test_a_call_without_arguments_has_none(kibana: Kibana, llm: Llm) -> None:
    llm.says("Good.")
    bare = message("assistant", "", function_call={"name": "my_action", "trigger": "assistant"})
    await kibana.public([user("a"), bare, DONE])
    (call,) = llm.requests[0]["messages"][2]["tool_calls"]
    assert call["function"] == {"name": "my_action", "arguments": "{}"}


# -- actions -----------------------------------------------------------------------------------------------------------


async def test_an_action_with_which_messages_end_is_the_callers(kibana: Kibana, llm: Llm) -> None:
    """Spec 4.2, step 2: the stream ends without a word, and ends properly."""
    assert (await kibana.public([user("a"), ASKED], actions=[MY_ACTION])).body == b"data: [DONE]\n\n"
    body = kibana.asked([user("a"), ASKED], screenContexts=SCREEN, scopes=["all"])
    answer = await kibana.send("POST", COMPLETE, body)
    assert (answer.status, answer.body) == (200, b"")
    assert llm.requests == []


async def test_and_one_that_does_not_fit_is_answered_and_the_model_asked(kibana: Kibana, llm: Llm) -> None:
    llm.says("Once more.")
    events = await kibana.complete([user("a"), called("my_action", {"foo": 1})], screenContexts=SCREEN)
    failed, answer = added(events)
    assert failed["name"] == "my_action" and "error" in json.loads(failed["content"])
    assert answer["content"] == "Once more."
    (asked,) = llm.requests
    assert in_order(asked) and [role for role, _ in told(asked)] == ["user", "assistant", "tool"]


async def test_of_two_actions_of_one_name_the_model_is_told_once(kibana: Kibana, llm: Llm) -> None:
    """Several parts of a screen may offer the same; an action goes before a tool of the server's."""
    llm.says("Good.", times=2)
    await kibana.complete(screenContexts=[*SCREEN, *SCREEN])
    taken = names_of(llm.requests[0])[0]
    await kibana.public(actions=[{**MY_ACTION, "name": taken}])
    assert names_of(llm.requests[0]).count("my_action") == 1
    mine = [tool["function"] for tool in llm.requests[1]["tools"] if tool["function"]["name"] == taken]
    assert [tool["description"] for tool in mine] == [MY_ACTION["description"]]


@pytest.mark.parametrize("parameters", [None, {}, {"type": "nonsense"}, {"type": "object", "properties": 5}])
async def test_actions_with_any_parameters_are_offered_and_called(kibana: Kibana, llm: Llm, parameters: Any) -> None:
    llm.calls("my_action", {"foo": "bar"})
    answer = await kibana.public(actions=[{"name": "my_action", "description": "Mine.", "parameters": parameters}])
    (chunk,) = sse_in(answer.body)
    assert chunk["choices"][0]["delta"]["function_call"] == {"name": "my_action", "arguments": '{"foo":"bar"}'}


async def test_functions_that_are_excepted_stay_and_no_others(kibana: Kibana, llm: Llm) -> None:
    """The form of 8.x: of the server's and of the caller's."""
    llm.says("Good.", times=3)
    for excepted in (["list_files", "my_action"], ["list_files"], []):
        await kibana.public(actions=[MY_ACTION, OTHER_ACTION], disableFunctions={"except": excepted})
    assert [names_of(asked) for asked in llm.requests] == [["list_files", "my_action"], ["list_files"], []]


async def test_an_excepted_function_runs_and_another_does_not(kibana: Kibana, llm: Llm) -> None:
    llm.calls("list_files", {"path": "."})
    llm.calls("find_files", {"pattern": "*"})
    llm.says("Good.")
    body = kibana.asked(disableFunctions={"except": ["list_files"]}, screenContexts=[], scopes=["all"])
    events = events_in((await kibana.send("POST", COMPLETE, body)).body)
    results = {each["name"]: each["content"] for each in added(events) if each.get("name")}
    assert "error" not in json.loads(results["list_files"]) and "error" in json.loads(results["find_files"])


# -- conversations -----------------------------------------------------------------------------------------------------


async def test_what_ended_with_an_action_is_no_conversation_yet_and_becomes_one(kibana: Kibana, llm: Llm) -> None:
    """Nothing is kept of the first round (Q14); whoever comes back with the id of our header finds the place."""
    llm.calls("my_action", {"foo": "1"})
    llm.titles("Lost")
    first = await kibana.public(persist=True, actions=[MY_ACTION])
    conversation = first.headers["x-conversation-id"]
    assert (await kibana.get(f"{INTERNAL}/conversation/{conversation}")).status == 404
    assert await kibana.conversations() == []
    llm.titles("Found")
    llm.says("It is bar.")
    messages = [user("Good morning, bot!"), ASKED, DONE]
    fields: Json = {"persist": True, "conversationId": conversation, "actions": [MY_ACTION]}
    second = await kibana.public(messages, **fields)
    assert text_of(sse_in(second.body)) == "It is bar."
    assert in_order(llm.turns[-1])
    kept = await kibana.conversation(conversation)
    assert kept["conversation"]["title"] == "Found" and kept["messages"][:3] == messages
    llm.says("Still bar.")
    await kibana.public([*kept["messages"], user("And now?")], **fields)
    assert len([asked for asked in llm.requests if choice_of(asked) == "title_conversation"]) == 2


async def test_a_conversation_goes_on_by_what_it_is_sent(kibana: Kibana, llm: Llm) -> None:
    """Edited, asked again, and sent as it is."""
    llm.says("Good.", times=9)
    conversation = (await kibana.complete(persist=True, title="T"))[-1]["conversation"]["id"]
    fields: Json = {"persist": True, "conversationId": conversation}
    events = await kibana.complete([user("Edited")], **fields)
    assert of_type("conversationUpdate", events)
    kept = (await kibana.conversation(conversation))["messages"]
    assert [each["message"]["content"] for each in kept][::3] == ["Edited", "Good."]
    await kibana.complete(kept[:-1], **fields)
    again = (await kibana.conversation(conversation))["messages"]
    assert again[:-1] == kept[:-1] and len(again) == len(kept)
    edited = [user("Edited twice"), *again[1:], user("And?")]
    run = (await kibana.public(edited, **fields)).headers["x-run-id"]
    assert await told_anew(kibana, run) == (len(edited), len(edited) - 1)
    again = (await kibana.conversation(conversation))["messages"]
    assert again[: len(edited)] == edited
    count = len(llm.requests)
    events = await kibana.complete(again, **fields)
    assert [each["type"] for each in events] == ["conversationUpdate"] and len(llm.requests) == count
    assert (await kibana.conversation(conversation))["messages"] == again


# -- one reply ---------------------------------------------------------------------------------------------------------


def chat(kibana: Kibana, **fields: Any) -> Json:
    given = {"name": "n", "systemMessage": "Be kind.", "functions": [MY_ACTION], "scopes": ["all"]}
    return {**given, "connectorId": kibana.connector_id, "messages": [user("q")], **fields}


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([user("q"), message("assistant", "hm")], ["user", "assistant"]),
        ([user("q"), ASKED], ["user"]),
        ([user("q"), ASKED, user("b")], ["user", "user"]),
    ],
)
async def test_one_reply_is_asked_for_whatever_the_messages_end_with(
    kibana: Kibana, llm: Llm, messages: list[Json], roles: list[str]
) -> None:
    llm.says("Good.")
    answer = await kibana.send("POST", f"{INTERNAL}/chat", chat(kibana, messages=messages))
    assert [each["type"] for each in events_in(answer.body)] == ["chatCompletionChunk", "chatCompletionMessage"]
    (asked,) = llm.requests
    assert [role for role, _ in told(asked)] == roles


@pytest.mark.parametrize("name", ["my_action", "list_files", "nope"])
async def test_of_one_reply_no_call_is_made(kibana: Kibana, llm: Llm, name: str) -> None:
    llm.calls(name, {"foo": "bar"})
    answer = await kibana.send("POST", f"{INTERNAL}/chat", chat(kibana))
    chunk, whole = events_in(answer.body)
    assert whole["message"] == {"content": "", "function_call": {"name": name, "arguments": '{"foo":"bar"}'}}
    assert chunk["message"] == whole["message"] and len(llm.requests) == 1


async def test_one_reply_has_the_system_message_of_its_caller_and_no_other(kibana: Kibana, llm: Llm) -> None:
    llm.says("Good.")
    await kibana.send("POST", f"{INTERNAL}/chat", chat(kibana, systemMessage=""))
    assert llm.requests[0]["messages"] == [{"role": "user", "content": "q"}]


# -- the order in which a chat is refused ------------------------------------------------------------------------------


async def test_the_connector_is_looked_for_first_then_the_conversation_then_the_messages(
    kibana: Kibana, llm: Llm
) -> None:
    stray = [user("a"), result("never_called", {})]
    fields: Json = {"persist": True, "conversationId": UNKNOWN_ID}
    assert (await kibana.public(stray, connectorId="missing", **fields)).status == 404
    lost = await kibana.public(stray, **fields)
    assert sse_in(lost.body) == [{"error": {"message": "Conversation not found"}}]
    wrong = await kibana.public(stray)
    assert sse_in(wrong.body) == [{"error": {"message": "Could not find tool call request for never_called"}}]
    assert llm.requests == []
