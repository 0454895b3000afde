"""Grafana's route table, and its chats through a whole server."""

import json
from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core.names import Scope
from dragoman.dialects.grafana import BASES, DIALECT, EVENTS_BASES
from dragoman.dialects.grafana.events import ChatStream
from dragoman.wire.dialect import Request, Route
from tests.dialects.grafana.reading import Chat
from tests.parts import Gate, ScriptedReplies, text_reply
from tests.stage import SetUp
from tests.streaming_client import Client

A = "/api/plugins/grafana-assistant-app/resources/api/v1"
CHATS = {
    ("POST", "/assistant/chats"),
    ("GET", "/chats"),
    ("GET", "/chats/{chatId}"),
    ("PATCH", "/chats/{chatId}"),
    ("PUT", "/chats/{chatId}"),
    ("DELETE", "/chats/{chatId}"),
    ("GET", "/chats/{chatId}/all-messages"),
    ("GET", "/chats/{chatId}/ui-messages"),
    ("POST", "/chats/{chatId}/stream-ticket"),
    ("GET", "/chats/{chatId}/stream"),
    ("GET", "/shared/{chatId}"),
    ("GET", "/shared/{chatId}/ui-messages"),
}
ROUTES = {(route.method, route.path): route for route in DIALECT.routes}


def streams() -> list[Route[Any]]:
    paths = [f"{base}/chats/{{chatId}}/stream" for base in BASES] + [
        f"{base}/chats/{{chatId}}" for base in EVENTS_BASES
    ]
    return [ROUTES["GET", path] for path in paths]


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_bases_are_those_that_clients_know() -> None:
    assert BASES == (A, "/api/cli/v1", f"/api/cli/v1/proxy{A}")
    assert EVENTS_BASES == (
        "/api/plugins/grafana-assistant-app/resources/api/events",
        "/api/cli/v1/proxy/api/plugins/grafana-assistant-app/resources/api/events",
    )


@pytest.mark.parametrize("base", BASES)
def test_every_row_about_chats_stands_on_every_base_and_needs_both_permissions(base: str) -> None:
    for method, path in CHATS:
        assert ROUTES[method, base + path].scopes == (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)


def test_the_same_rows_stand_on_every_base() -> None:
    first, *others = (
        {(method, path.removeprefix(base)) for method, path in ROUTES if path.startswith(f"{base}/")} for base in BASES
    )
    direct, proxied = others
    assert proxied == first
    assert direct > first  # and the login, which has one place only


def test_a_stream_can_be_opened_with_a_ticket_for_its_chat() -> None:
    for route in streams():
        assert (route.ticket, route.ticket_for) == ("ticket", "chatId")
        assert route.stream is not None and route.stream.encoder is ChatStream


def test_every_path_is_answered_in_this_wires_shape() -> None:
    assert [path for _, path in ROUTES if not path.startswith((*DIALECT.prefixes, "/.well-known/"))] == []


def test_json_rpc_is_refused_in_json_rpc_and_all_else_in_this_wires_words() -> None:
    def body_of(path: str, params: dict[str, str]) -> Any:
        asked = Request("POST", path, params, {}, {}, b'{"jsonrpc":"2.0","id":"1","method":"tasks/get"}', "i", "n", 0.0)
        return json.loads(DIALECT.fail(errors.BadRequest("No."), asked).body)

    assert body_of(f"{A}/a2a/agents/x", {"agentId": "x"})["error"]["message"] == "No."
    assert body_of(f"{A}/assistant/chats", {}) == {"status": "error", "message": "No.", "error": "No."}


# -- chats through a server ------------------------------------------------------------------------------------------


async def start(client: Client, prompt: str = "how is it?", chat: str = "") -> str:
    body = json.dumps({"prompt": prompt, **({"chatId": chat} if chat else {})}).encode()
    async with client.stream("POST", f"{A}/assistant/chats", body=body) as answer:
        return json.loads(await answer.rest())["data"]["chatId"]


async def test_a_reader_sees_the_answer_grow(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        client = s.client()
        chat_id = await start(client)
        async with client.stream("GET", f"{EVENTS_BASES[0]}/chats/{chat_id}") as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            await answer.until(b"AGENT_EXECUTION_STARTED")
            model.gate.release()
            await answer.until(b'"text":"It is "')
            model.gate.open()
            await answer.rest()
        chat = Chat().read(answer.body)
    kinds = [kind for _, kind, _ in chat.frames]
    assert kinds[:4] == ["MESSAGE_CREATED", "AGENT_EXECUTION_STARTED", "MESSAGE_CREATED", "MESSAGE_UPDATED"]
    assert (kinds[-1], chat.text) == ("AGENT_EXECUTION_COMPLETED", "It is fine.")


async def test_a_chat_that_is_at_work_shows_how_far_it_is(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        client = s.client()
        chat_id = await start(client)
        async with client.stream("GET", f"{A}/chats/{chat_id}/stream") as answer:
            model.gate.release()
            await answer.until(b'"text":"It is "')
            async with client.stream("GET", f"{A}/chats/{chat_id}") as read:
                data = json.loads(await read.rest())["data"]
            model.gate.open()
            await answer.rest()
        async with client.stream("GET", f"{A}/chats/{chat_id}") as read:
            after = json.loads(await read.rest())["data"]
    assert (data["running"], data["messages"][1]["content"]) == (True, [{"type": "text", "text": "It is "}])
    assert (after["running"], after["messages"][1]["content"]) == (False, [{"type": "text", "text": "It is fine."}])


async def test_who_has_read_it_all_waits_for_the_next_turn(stage: SetUp) -> None:
    async with stage() as s:
        client = s.client()
        chat_id = await start(client)
        async with client.stream("GET", f"{A}/chats/{chat_id}/stream") as answer:
            last = Chat().read(await answer.rest()).ids[-1]
        async with client.stream("GET", f"{A}/chats/{chat_id}/stream", headers={"last-event-id": last}) as answer:
            assert await answer.chunk() == b": connected\n\n"
            await start(client, "and now?", chat_id)
            chat = Chat().read(b": connected\n\n" + await answer.rest())
    assert [data["content"][0]["text"] for data in chat.messages.values()] == ["and now?", "It is fine."]
    assert len(chat.ended) == 1


async def test_the_model_reads_what_the_client_added(stage: SetUp) -> None:
    async with stage() as s:
        client = s.client()
        chat_id = await start(client, "how is it?\n<context>the time</context>")
        async with client.stream("GET", f"{A}/chats/{chat_id}/stream") as answer:
            await answer.rest()
        assert [m.full_text for m in s.model.prompts[0].messages if m.role == "user"] == [
            "how is it?\n<context>the time</context>"
        ]
        assert b"the time" not in answer.body


async def test_a_chat_that_is_deleted_while_it_is_read_says_so(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        client = s.client()
        chat_id = await start(client)
        async with client.stream("GET", f"{A}/chats/{chat_id}/stream") as answer:
            await answer.until(b"AGENT_EXECUTION_STARTED")
            async with client.stream("DELETE", f"{A}/chats/{chat_id}") as deleted:
                assert json.loads(await deleted.rest()) == {"status": "success", "data": {"chatId": chat_id}}
            await answer.rest()
    chat = Chat().read(answer.body)
    assert chat.failed and chat.running == []
