"""A2A over the whole server: what a client does with it, from the first message to the last."""

import json
from typing import Any

from dragoman.core.names import CallId, RunId, Scope
from dragoman.dialects.grafana import BASES, ids
from dragoman.dialects.grafana.a2a_shapes import CLIENT_TOOLS, REMOTE_TOOLS, TOKEN_STREAMING
from dragoman.server.config_shapes import AgentTable
from tests.dialects.grafana.a2a_reading import Frame, frames, read
from tests.parts import ADMIN, Gate, ScriptedReplies, call_reply, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response

BASE = BASES[0]
AGENT = f"{BASE}/a2a/agents/grafana_assistant_cli"
TOOL = {"name": "getRequests", "description": "All requests.", "inputSchema": {"type": "object"}}


def body(text: str = "hi", *, method: str = "message/stream", message: str = "m-1", **params: Any) -> bytes:
    said = {"kind": "message", "role": "user", "messageId": message, "parts": [{"kind": "text", "text": text}]}
    return rpc(method, {"message": said} | params)


def rpc(method: str, params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "q", "method": method, "params": params}).encode()


async def post(client: Client, data: bytes, path: str = AGENT, **headers: str) -> Response:
    return await client.request("POST", path, body=data, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def result(client: Client, data: bytes) -> dict[str, Any]:
    reply = await post(client, data)
    assert reply.status == 200
    return json.loads(reply.body)["result"]


def task_of(found: list[Frame]) -> str:
    return found[0].result["taskId"]


async def test_a_streamed_answer_is_in_the_chat_that_it_names(stage: SetUp) -> None:
    async with stage() as s:
        for number, base in enumerate(BASES):
            path = f"{base}/a2a/agents/any"
            answer = await post(s.client(), body(message=f"m-{number}"), path, x_app_source="cli")
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert read(answer.body).text == "It is fine."
            chat = frames(answer.body)[0].result["contextId"]
            shown = json.loads((await s.client().request("GET", f"{base}/chats/{chat}")).body)["data"]
            assert (shown["name"], shown["source"]) == ("hi", "cli")
            texts = [part["text"] for message in shown["messages"] for part in message["content"]]
            assert texts == ["hi", "It is fine."]


async def test_a_chat_goes_on_under_its_context_whatever_the_surface(stage: SetUp) -> None:
    async with stage() as s:
        started = await s.client().request("POST", f"{BASE}/assistant/chats", body=b'{"prompt":"first"}')
        chat = json.loads(started.body)["data"]["chatId"]
        await s.house.runs[0].settled()
        answer = await post(s.client(), body("second", contextId=chat))
        assert {frame.result["contextId"] for frame in frames(answer.body)} == {chat}
        assert [message.text for message in s.model.prompts[1].messages[1:]] == ["first", "It is fine.", "second"]


async def test_an_unknown_context_opens_a_chat_of_that_id(stage: SetUp) -> None:
    async with stage() as s:
        assert frames((await post(s.client(), body(contextId="mine"))).body)[0].result["contextId"] == "mine"
        assert (await s.client().request("GET", f"{BASE}/chats/mine")).status == 200


async def test_an_agent_is_taken_at_its_name_and_any_other_is_the_default(stage: SetUp) -> None:
    config = open_config()
    config.agents["sre"] = AgentTable(instructions="You are on call.")
    async with stage(config=config) as s:
        await post(s.client(), body(), f"{BASE}/a2a/agents/sre")
        await post(s.client(), body(message="m-2"), f"{BASE}/a2a/agents/nobody")
        first, second = (prompt.messages[0].text for prompt in s.model.prompts)
        assert "You are on call." in first
        assert "You are on call." not in second


async def test_a_message_that_comes_twice_is_one_turn(stage: SetUp) -> None:
    async with stage() as s:
        first = await post(s.client(), body())
        second = await post(s.client(), body())
        assert first.body == second.body
        assert second.headers["idempotency-replayed"] == "true"
        assert len(s.model.prompts) == 1


async def test_text_is_shown_as_it_grows_to_who_asks_for_it(stage: SetUp) -> None:
    gate = Gate()
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = gate
    async with stage(model=model) as s:
        headers = {"x-a2a-extensions": TOKEN_STREAMING}
        async with s.client().stream("POST", AGENT, body=body(), headers=headers) as stream:
            gate.release()
            await stream.until(b'"delta":"It is "')
            assert b"step.message" not in stream.body
            gate.open()
            await stream.rest()
    kinds = [frame.kind for frame in frames(stream.body)]
    assert kinds.index("step.message") < kinds.index("message.stream.complete")
    assert read(stream.body).text == "It is fine."


async def test_a_reader_that_was_cut_off_goes_on_where_it_was(stage: SetUp) -> None:
    gate = Gate()
    model = ScriptedReplies(call_reply(("look", "{}"), text="Let me look."), text_reply("It is fine."))
    model.gate = gate
    async with stage(model=model) as s:
        async with s.client().stream("POST", AGENT, body=body()) as stream:
            gate.release()
            gate.release()
            await stream.until(b"step.toolResult")
        seen = frames(stream.body[: stream.body.rindex(b"\n\n") + 2])
        gate.open()
        again = await post(s.client(), rpc("tasks/resubscribe", {"id": task_of(seen)}), last_event_id=seen[-1].id)
        opening, *rest = frames(again.body)
        assert opening.kind == "working"
        assert [frame.kind for frame in rest] == ["step.message", "step.complete", "completed"]
        whole = await post(s.client(), rpc("tasks/resubscribe", {"id": task_of(seen)}))
        assert frames(whole.body) == [*seen, *rest]


# -- tasks ---------------------------------------------------------------------------------------------------------


async def test_who_waits_is_given_the_task_with_the_answer(stage: SetUp) -> None:
    async with stage() as s:
        task = await result(s.client(), body(method="message/send"))
        assert task["status"]["state"] == "completed"
        assert task["artifacts"][0]["parts"] == [{"kind": "text", "text": "It is fine."}]
        read_ = await result(s.client(), rpc("tasks/get", {"id": task["id"]}))
        assert read_["artifacts"][0]["parts"] == task["artifacts"][0]["parts"]


async def test_who_does_not_wait_asks_again(stage: SetUp) -> None:
    async with stage() as s:
        task = await result(s.client(), body(method="message/send", configuration={"blocking": False}))
        assert task["status"]["state"] == "submitted"
        await s.house.runs[0].settled()
        assert (await result(s.client(), rpc("tasks/get", {"id": task["id"]})))["status"]["state"] == "completed"


async def test_a_task_is_stopped_while_its_stream_is_open(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", AGENT, body=body()) as stream:
        await stream.until(b'"working"')
        task = task_of(frames(stream.body))
        assert (await result(s.client(), rpc("tasks/cancel", {"id": task})))["status"]["state"] == "canceled"
        await stream.rest()
        assert frames(stream.body)[-1].kind == "canceled"
        again = await result(s.client(), rpc("tasks/cancel", {"id": task}))
        assert again["status"]["state"] == "canceled"


async def test_nobody_elses_task_is_there(stage: SetUp) -> None:
    async with stage() as s:
        task = await result(s.client(), body(method="message/send"))
        other = await stranger(s)
        for method in ("tasks/get", "tasks/cancel"):
            error = json.loads((await post(other, rpc(method, {"id": task["id"]}))).body)["error"]
            assert error == {"code": -32001, "message": "There is no task with this id."}
        (frame,) = frames((await post(other, rpc("tasks/resubscribe", {"id": task["id"]}))).body)
        assert frame.value["error"]["code"] == -32001
        (frame,) = frames((await post(other, body(contextId=task["contextId"], message="m-2"))).body)
        assert frame.value["error"] == {"code": -32602, "message": "Chat not found"}


async def stranger(s: Stage, *scopes: Scope) -> Client:
    wanted = scopes or (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS, Scope.TOOLS_APPROVE)
    minted = await s.house.mint.create("stranger", ADMIN.project, scopes=wanted)
    return Client(s.house.app, headers={"authorization": f"Bearer {minted.text}"})


async def test_who_may_not_is_told_by_the_status(stage: SetUp) -> None:
    async with stage() as s:
        for client, status in ((s.anonymous(), 401), (await stranger(s, Scope.CHAT_RUN), 403)):
            reply = await post(client, body())
            said = json.loads(reply.body)
            assert reply.status == status
            assert said["status"] == "error" and said["message"] == said["error"]


# -- what a run waits for ------------------------------------------------------------------------------------------


def asking() -> dict[str, Any]:
    config = open_config()
    config.agents["assistant"] = AgentTable(ask=("look",))
    model = ScriptedReplies(call_reply(("look", "{}")), text_reply("It is fine."))
    return {"config": config, "model": model}


async def test_a_call_is_made_once_a_person_has_approved_it(stage: SetUp) -> None:
    async with stage(**asking()) as s, s.client().stream("POST", AGENT, body=body()) as stream:
        await stream.until(b"step.approval")
        asked = frames(stream.body)[-1].data
        path = f"{BASE}/a2a/approval/{asked['id']}"
        echoed = {key: asked[key] for key in ("id", "chatId", "tenantId", "userId")} | {"approved": True}
        assert (await post(await stranger(s), json.dumps(echoed).encode(), path)).status == 404
        assert (await post(s.client(), json.dumps(echoed | {"chatId": "other"}).encode(), path)).status == 404
        assert not s.tools.effects
        for repeated in (False, True):
            reply = await post(s.client(), json.dumps(echoed).encode(), path)
            task = task_of(frames(stream.body))
            told = {"chatId": asked["chatId"], "taskId": task, "repeated": repeated}
            assert (reply.status, json.loads(reply.body)) == (200, {"status": "success", "data": told})
        await stream.rest()
        assert s.tools.effects.total() == 1
        assert read(stream.body).text == "It is fine."


async def test_a_call_that_is_denied_is_not_made(stage: SetUp) -> None:
    async with stage(**asking()) as s, s.client().stream("POST", AGENT, body=body()) as stream:
        await stream.until(b"step.approval")
        asked = frames(stream.body)[-1].data
        await post(s.client(), b'{"approved":false}', f"{BASE}/a2a/approval/{asked['id']}")
        await stream.rest()
        assert not s.tools.effects
        (result_,) = [frame.data for frame in frames(stream.body) if frame.kind == "step.toolResult"]
        assert result_["isError"] is True
        assert read(stream.body).text == "It is fine."


async def test_a_client_runs_its_own_tool_while_the_stream_stays_open(stage: SetUp) -> None:
    model = ScriptedReplies(call_reply(("getRequests", '{"limit":5}')), text_reply("Five."))
    headers = {"x-a2a-extensions": f"{TOKEN_STREAMING}, {REMOTE_TOOLS}"}
    data = body(metadata={CLIENT_TOOLS: {"tools": [TOOL]}})
    async with stage(model=model) as s, s.client().stream("POST", AGENT, body=data, headers=headers) as stream:
        await stream.until(b"REMOTE_TOOL_REQUEST")
        assert [frame.kind for frame in frames(stream.body)] == [
            "submitted",
            "working",
            "step.toolCall",
            "step.complete",
            "REMOTE_TOOL_REQUEST",
        ]
        asked = frames(stream.body)[-1].result["data"]
        assert (asked["toolName"], asked["toolInput"], asked["timeoutMs"]) == ("getRequests", {"limit": 5}, 120_000)
        answer = {"requestId": asked["requestId"], "chatId": asked["chatId"], "success": True, "result": [1, 2]}
        path = f"{BASE}/a2a/remote-tool-response"
        assert (await post(await stranger(s), json.dumps(answer).encode(), path)).status == 404
        assert (await post(s.client(), json.dumps(answer).encode(), path)).status == 200
        await stream.rest()
        assert read(stream.body).text == "Five."
        assert s.model.prompts[1].messages[-1].parts[0].content == "[1,2]"


async def test_what_nobody_asked_for_cannot_be_answered(stage: SetUp) -> None:
    async with stage() as s:
        run, call = RunId("run-1"), CallId("c1")
        approval = f"{BASE}/a2a/approval/{ids.approval_id(run, call, 'hash')}"
        answer = json.dumps({"requestId": ids.request_id(run, call), "success": True, "result": 1}).encode()
        for path, data in ((approval, b'{"approved":true}'), (f"{BASE}/a2a/remote-tool-response", answer)):
            reply = await post(s.client(), data, path)
            said = json.loads(reply.body)
            assert reply.status == 404
            assert said["message"] == said["error"] != ""


# -- cards ---------------------------------------------------------------------------------------------------------


async def test_a_card_is_shown_to_anybody_and_names_an_address_that_answers(stage: SetUp) -> None:
    async with stage() as s:
        headers = {"host": "assistant.example"}
        reply = await s.anonymous().request("GET", "/.well-known/agent-card.json", headers=headers)
        card = json.loads(reply.body)
        assert card["url"] == f"http://assistant.example{BASE}/a2a/agents/assistant"
        path = card["url"].removeprefix("http://assistant.example")
        assert read((await post(s.client(), body(), path)).body).text == "It is fine."
        own = await s.anonymous().request("GET", f"{path}/.well-known/agent-card.json", headers=headers)
        assert json.loads(own.body) == card
