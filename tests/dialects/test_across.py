"""One conversation, several wires: begun in one, continued in another and back, and what each of them shows of it."""

import asyncio
import json
from typing import Any

from dragoman.cli.conversations import dump_own, load_own
from dragoman.cli.timeline import timeline_lines
from dragoman.core.events import TitleGiven
from dragoman.core.names import ConversationId
from dragoman.dialects.grip import session_files
from tests.dialects.across import (
    AT,
    CONVERSATION,
    GRAFANA,
    PUBLIC,
    Caller,
    Json,
    asked_and_told,
    row_of,
    set_up,
    text_of,
    told,
    user,
    without_calls,
)
from tests.parts import ADMIN
from tests.stage import SetUp
from tests.stage import stage as stage


async def test_three_rounds_over_three_wires_read_alike_in_each(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        expected: list[tuple[str, str]] = []
        for number in range(3):
            for name, say in (("elastic", caller.elastic_on), ("grip", caller.grip), ("grafana", caller.grafana)):
                text = f"{'look' if number % 2 else 'ask'} {name} {number}"
                if number == 0 and name == "elastic":
                    await caller.elastic(user(text))
                else:
                    await say(text)
                expected += [("user", text), ("assistant", f"So: {text}")]
        document = await caller.document()
        assert without_calls(told(document)) == expected
        assert document["conversation"]["title"] == "On things"
        assert [row for row in await caller.session() if row[0] != "tool"] == expected
        chat = await caller.chat()
        shown = [(message["role"], text_of(message)) for message in chat]
        assert [row for row in shown if row[1]] == expected
        assert [row for row in session_rows(await caller.view())] == expected
        last = caller.prompts[-1].messages
        assert [
            (message.role, message.text) for message in last if message.role in ("user", "assistant") and message.text
        ] == expected[:-1]


def session_rows(view: Any) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in json.loads(session_files.dump(view))["messages"]]


async def test_the_chat_stream_of_an_elastic_turn_shows_the_messages_that_the_chat_has(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("look around"))
        assert [bare(each) for each in await caller.chat_told()] == [bare(each) for each in await caller.chat()]
        await caller.elastic_on("look again")
        assert [bare(each) for each in await caller.chat_told()] == [bare(each) for each in await caller.chat()]
        # A history that is told anew
        messages = (await caller.document())["messages"]
        await caller.elastic(user("ask something else"), *messages[1:], user("look"))
        chat = {each["id"]: bare(each) for each in await caller.chat()}
        for each in await caller.chat_told():
            assert chat.get(each["id"], bare(each)) == bare(each)


def bare(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != "chatId"}


# -- client actions ------------------------------------------------------------------------------------------------


async def test_an_action_that_nobody_has_done_yet_is_in_no_wires_way(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        assert '"name":"restart"' in await caller.elastic(user("restart it"))
        assert await caller.grip("ask grip") == "So: ask grip"
        await caller.grafana("ask grafana")
        rows = [("user", "ask grip"), ("assistant", "So: ask grip"), ("user", "ask grafana")]
        rows.append(("assistant", "So: ask grafana"))
        assert told(await caller.document()) == rows
        assert [row for row in await caller.session() if row[0] != "tool" and row[1]][-4:] == rows
        # …and its caller, who goes by what it has itself, tells it all again.
        called = {"name": "restart", "arguments": '{"what":"db"}', "trigger": "assistant"}
        done = {"@timestamp": AT, "message": {"role": "assistant", "content": "", "function_call": called}}
        await caller.elastic(user("restart it"), done, user('{"ok":true}', name="restart"))
        rows = [("user", "restart it"), ("assistant", "restart"), ("user", "restart")]
        assert told(await caller.document())[:3] == rows
        assert told(await caller.document())[-1] == ("assistant", "So: restart it")
        assert await caller.grip("ask grip") == "So: ask grip"


async def test_a_conversation_that_began_with_an_action_is_given_a_title_once_it_is_one(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("restart it"))
        called = {"name": "restart", "arguments": '{"what":"db"}', "trigger": "assistant"}
        done = {"@timestamp": AT, "message": {"role": "assistant", "content": "", "function_call": called}}
        await caller.elastic(user("restart it"), done, user('{"ok":true}', name="restart"))
        assert (await caller.document())["conversation"]["title"] == "On things"


# -- failures ------------------------------------------------------------------------------------------------------


async def test_a_turn_that_failed_is_in_no_conversation_and_hurts_no_later_turn(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("ask first"))
        assert "Error calling connector" in await caller.elastic_on("fail here")
        await caller.grafana("fail there")
        body = json.dumps({"message": "fail everywhere", "session_key": caller.conversation}).encode()
        assert (await caller.client.request("POST", "/api/v1/chat", body=body)).status >= 500
        await caller.elastic_on("ask again")
        assert await caller.grip("ask grip") == "So: ask grip"
        expected = [
            (role, text) for ask in ("ask first", "ask again", "ask grip") for role, text in asked_and_told(ask)
        ]
        assert without_calls(told(await caller.document())) == expected
        assert [row for row in await caller.session() if row[0] != "tool"] == expected


# -- told anew -----------------------------------------------------------------------------------------------------


async def test_what_elastic_tells_anew_is_what_all_wires_have_then(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("ask first"))
        await caller.grip("ask grip")
        await caller.grafana("ask grafana")
        first = (await caller.document())["messages"][0]
        edited = {"@timestamp": AT, "message": {**first["message"], "content": "ask otherwise"}}
        answer = {"@timestamp": AT, "message": {"role": "assistant", "content": "Otherwise."}}
        await caller.elastic(edited, answer, user("ask on"))
        expected = [("user", "ask otherwise"), ("assistant", "Otherwise."), *asked_and_told("ask on")]
        for _ in range(2):
            assert without_calls(told(await caller.document())) == expected
            assert [row for row in await caller.session() if row[0] != "tool"] == expected
            assert [row for row in map(row_of, await caller.chat()) if row[1]] == expected
            assert session_rows(await caller.view()) == expected
            await caller.grip("ask more")
            expected += asked_and_told("ask more")
        spoken = [message.text for message in caller.prompts[-1].messages[1:] if message.text]
        assert spoken == [text for _, text in expected[:-1]]


# -- what a wire keeps to itself -----------------------------------------------------------------------------------


async def test_text_that_grafana_hides_is_told_to_models_and_to_no_other_wire(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("ask first"))
        await caller.grafana("ask grafana\n<context><timezone>SECRET</timezone></context>")
        assert "SECRET" in str(caller.prompts[-1].messages)
        await caller.elastic_on("ask again")
        assert "SECRET" in str(caller.prompts[-1].messages)
        shown = json.dumps([await caller.document(), await caller.session()])
        assert "SECRET" not in shown
        copy = await caller.call("POST", f"{CONVERSATION}/{caller.conversation}/duplicate")
        assert "SECRET" not in json.dumps(copy)


async def test_what_elastic_keeps_beside_its_messages_goes_to_no_model_and_no_other_wire(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        asked = user("ask first", event="ASIDE", data='"ASIDE"')
        asked["@timestamp"] = "ASIDE"
        await caller.elastic(asked)
        await caller.grip("ask grip")
        await caller.grafana("ask grafana")
        assert (await caller.document())["messages"][0] == asked
        assert "ASIDE" not in str([message.parts for prompt in caller.prompts for message in prompt.messages])
        assert "ASIDE" not in json.dumps([await caller.session(), await caller.chat()])
        view = await caller.view()
        assert b"ASIDE" not in session_files.dump(view)
        assert load_own(dump_own(view)).imported.messages[0].aside


# -- what readers of single turns see --------------------------------------------------------------------------------


async def test_an_elastic_turn_as_a_task_a_timeline_and_a_report(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("look around"))
        run = (await caller.view()).turns[0].run
        asked = {"jsonrpc": "2.0", "id": "q", "method": "tasks/get", "params": {"id": run}}
        task = (await caller.call("POST", f"{GRAFANA}/v1/a2a/agents/any", asked))["result"]
        assert (task["contextId"], task["status"]["state"]) == (caller.conversation, "completed")
        steps = [(each["name"], each["parts"][0].get("text", "")) for each in task["artifacts"]]
        call_and_result = [("step.toolCall", ""), ("step.toolResult", "")]
        done = [("step.complete", "")]
        last = ("step.message", "So: look around")
        assert steps == [*call_and_result, call_and_result[0], *done, call_and_result[1], last, *done]
        timeline = await caller.call("GET", f"/api/runs/{run}")
        kinds = [entry["event"]["kind"] for entry in timeline["entries"]]
        assert kinds[:3] == ["turn_received", "run_claimed", "call_added"]
        assert kinds[-2:] == ["title_given", "run_completed"]
        entries = await scene.store.read((await caller.view()).info.tape, after=0, limit=1000)
        lines = [line.split()[1] for line in timeline_lines([entry for entry in entries if entry.run == run])]
        assert [line for line in lines if line.isalpha()] == ["accepted", "claimed", "calls", "completed"]


async def test_a_task_in_an_elastic_conversation_goes_on_from_it(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("look around"))
        said = {"kind": "message", "role": "user", "messageId": "q", "parts": [{"kind": "text", "text": "ask a2a"}]}
        params = {"message": said, "contextId": caller.conversation}
        asked = {"jsonrpc": "2.0", "id": "q", "method": "message/send", "params": params}
        assert (await caller.call("POST", f"{GRAFANA}/v1/a2a/agents/any", asked))["result"]["status"][
            "state"
        ] == "completed"
        assert without_calls(told(await caller.document())) == [
            *asked_and_told("look around"),
            *asked_and_told("ask a2a"),
        ]
        await caller.elastic_on("ask again")
        texts = [message.text for message in caller.prompts[-1].messages[1:] if message.text]
        assert texts == ["look around", "So: look around", "ask a2a", "So: ask a2a", "ask again"]


async def test_an_export_brings_a_conversation_back_as_elastic_has_it(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        await caller.elastic(user("look around", event="e"))
        await caller.grip("look grip")
        before = (await caller.document())["messages"]
        loaded = load_own(dump_own(await caller.view()))
        copy = ConversationId("copy")
        took = scene.house.conversations.take_in
        await took(ADMIN.project, copy, loaded.imported, created_at=loaded.created_at, updated_at=loaded.updated_at)
        caller.conversation = copy
        assert (await caller.document())["messages"] == before


async def test_a_turn_behind_the_first_one_leaves_the_title_to_it(stage: SetUp) -> None:
    async with set_up(stage) as scene:
        caller = Caller(scene)
        scene.model.gate = asyncio.Event()
        body = json.dumps(
            {"connectorId": "offline", "messages": [user("ask first")], "persist": True, "actions": []}
        ).encode()
        async with caller.client.stream("POST", PUBLIC, headers={"kbn-xsrf": "true"}, body=body) as first:
            caller.conversation = first.headers["x-conversation-id"]
            behind = asyncio.create_task(caller.elastic(user("ask first"), user("ask second")))
            while len((await caller.view()).turns) < 2:
                await asyncio.sleep(0.001)
            scene.model.gate.set()
            await first.rest()
            assert "So: ask second" in "".join(pieces_of(await behind))
        entries = await scene.store.read((await caller.view()).info.tape, after=0, limit=1000)
        assert [entry.event.title for entry in entries if isinstance(entry.event, TitleGiven)] == ["On things"]


def pieces_of(stream: str) -> list[str]:
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
