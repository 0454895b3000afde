"""Attacks on this wire through the whole server: what a credential of little, a ticket, a client's own tools, or an
error must not give away."""

import hashlib
import json
import logging
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from dragoman.dialects.grafana import BASES, EVENTS_BASES
from dragoman.dialects.grafana.a2a_shapes import CLIENT_TOOLS, REMOTE_TOOLS
from dragoman.server.config_shapes import AgentTable
from tests.parts import ADMIN, Gate, LedgerTools, ScriptedReplies, call_reply, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response

A = BASES[0]
AGENT = f"{A}/a2a/agents/any"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
SECRET = "hunter2-s3cret-value"


async def call(client: Client, method: str, path: str, body: Any = None, **headers: str) -> Response:
    sent = b"" if body is None else json.dumps(body).encode()
    return await client.request(method, path, body=sent, headers={k.replace("_", "-"): v for k, v in headers.items()})


def bearer(s: Stage, text: str) -> Client:
    return Client(s.house.app, headers={"authorization": f"Bearer {text}"})


async def chat_of(client: Client) -> str:
    return json.loads((await call(client, "POST", f"{A}/assistant/chats", {"prompt": "hi"})).body)["data"]["chatId"]


# -- logins ------------------------------------------------------------------------------------------------------------


async def logged_in(s: Stage, granting: str, scopes: str) -> str:
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
    link = {"callback_port": "54321", "state": "s", "code_challenge": challenge, "code_challenge_method": "S256"}
    path = f"/a/grafana-assistant-app/cli/auth?{urlencode(link | {'scopes': scopes})}"
    form = urlencode({"decision": "allow", "credential": granting}).encode()
    answer = await s.anonymous().request("POST", path, body=form)
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    issued = await call(s.anonymous(), "POST", "/api/cli/v1/auth/exchange", {"code": code, "code_verifier": VERIFIER})
    return json.loads(issued.body)["data"]["token"]


@pytest.mark.parametrize("scopes", ["grafana-api:read", "grafana-api:read,grafana-api:write,grafana-api:delete"])
async def test_a_login_that_may_only_read_neither_talks_nor_deletes(stage: SetUp, scopes: str) -> None:
    async with stage() as s:
        chat = await chat_of(s.client())
        reader = bearer(s, await logged_in(s, s.credential, scopes))
        asked = [
            await call(reader, "POST", f"{A}/assistant/chats", {"prompt": "hi"}),
            await call(reader, "DELETE", f"{A}/chats/{chat}"),
            await call(reader, "POST", AGENT, {"jsonrpc": "2.0", "id": "1", "method": "tasks/cancel"}),
            await call(reader, "POST", "/api/v1/chat", {"message": "hi"}),
        ]
        assert [each.status for each in asked] == [403] * 4
        assert len(s.model.prompts) == 1


@pytest.mark.parametrize("field", ["code", "code_verifier", "refresh_token"])
async def test_texts_that_no_encoding_holds_are_refused_and_no_fault_of_ours(stage: SetUp, field: str) -> None:
    async with stage() as s:
        path = "refresh" if field == "refresh_token" else "exchange"
        body = {"code": "x", "code_verifier": "x", "refresh_token": "x"} | {field: "\ud800"}
        assert (await call(s.anonymous(), "POST", f"/api/cli/v1/auth/{path}", body)).status in (400, 401)


# -- tickets -----------------------------------------------------------------------------------------------------------


async def test_a_ticket_opens_one_stream_and_stands_nowhere(stage: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with stage() as s:
        chat, other = await chat_of(s.client()), await chat_of(s.client())
        await s.house.runs[0].settled()
        ticket = json.loads((await call(s.client(), "POST", f"{A}/chats/{chat}/stream-ticket")).body)["data"]["ticket"]
        anybody, opened = s.anonymous(), f"{EVENTS_BASES[0]}/chats/{chat}?ticket={ticket}"
        assert (await call(anybody, "GET", opened)).status == 200
        refused = [
            await call(anybody, "GET", f"{EVENTS_BASES[0]}/chats/{other}?ticket={ticket}"),
            await call(anybody, "GET", f"{A}/chats/{chat}?ticket={ticket}"),
            await call(anybody, "DELETE", f"{A}/chats/{chat}?ticket={ticket}"),
            await call(anybody, "GET", f"{A}/chats/{chat}/all-messages?ticket={ticket}"),
            await call(anybody, "POST", f"{A}/chats/{chat}/stream-ticket?ticket={ticket}"),
            await call(anybody, "POST", f"{AGENT}?ticket={ticket}", {}),
            await call(bearer(s, ticket), "GET", f"{A}/chats/{chat}"),
            await call(bearer(s, ticket), "GET", opened),
            *[await call(anybody, "GET", f"{opened[:-1]}{end}") for end in ("", "%0a", "=", "\u00e9")],
            await call(anybody, "GET", f"{EVENTS_BASES[0]}/nothing?ticket={ticket}"),
        ]
        assert [each.status for each in refused] == [401] * 12 + [404]
        s.clock.at += 600
        refused.append(await call(anybody, "GET", opened))
        assert refused[-1].status == 401
        metrics = await call(anybody, "GET", "/metrics")
    told = b"".join(each.body + repr(each.headers).encode() for each in (*refused, metrics)).decode()
    assert ticket not in told and ticket not in caplog.text


async def test_a_stream_ends_with_its_ticket_and_the_page_is_to_come_again(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        chat = await chat_of(s.client())
        ticket = json.loads((await call(s.client(), "POST", f"{A}/chats/{chat}/stream-ticket")).body)["data"]["ticket"]
        async with s.anonymous().stream("GET", f"{EVENTS_BASES[0]}/chats/{chat}?ticket={ticket}") as stream:
            await stream.until(b"AGENT_EXECUTION_STARTED")
            s.clock.at += 600
            await s.house.watch.look()
            assert await stream.rest() == b"retry: 2000\n\n"
        model.gate.open()


# -- floods ------------------------------------------------------------------------------------------------------------


async def test_guessing_credentials_where_nothing_is_counted_has_an_end_too(stage: SetUp) -> None:
    async with stage(config=open_config(per_ip_rpm=60)) as s:
        guess = bearer(s, "drg_0123456789_" + "x" * 32 + "_00000000")
        statuses = [(await call(guess, "POST", f"{A}/tunnel/poll", {})).status for _ in range(602)]
    assert statuses == [401] * 600 + [429] * 2


# -- a client's own tools ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"ask": ("write",)}, {"deny": ("write",)}])
async def test_a_clients_tool_of_a_servers_name_runs_nothing_of_the_servers(
    stage: SetUp, policy: dict[str, tuple[str, ...]]
) -> None:
    config = open_config()
    config.agents[config.defaults.agent] = AgentTable(instructions="x", **policy)
    model, tools = ScriptedReplies(call_reply(("write", "{}")), text_reply("done")), LedgerTools({"write": "written"})
    async with stage(config=config, model=model, tools=tools) as s:
        said = {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "hi"}]}
        metadata = {CLIENT_TOOLS: {"tools": [{"name": "write", "inputSchema": {"type": "object"}}]}}
        body = {
            "jsonrpc": "2.0",
            "id": "1",
            "method": "message/stream",
            "params": {"message": said} | {"metadata": metadata},
        }
        headers = {"x-a2a-extensions": REMOTE_TOOLS}
        async with s.client().stream("POST", AGENT, body=json.dumps(body).encode(), headers=headers) as stream:
            await stream.until(b"REMOTE_TOOL_REQUEST" if "ask" in policy else b'"final":true')
            if "ask" in policy:
                frame = next(line for line in stream.body.decode().splitlines() if "REMOTE_TOOL_REQUEST" in line)
                asked = json.loads(frame.removeprefix("data: "))["result"]["data"]["requestId"]
                answer = {"requestId": asked, "success": True, "result": "mine"}
                assert (await call(s.client(), "POST", f"{A}/a2a/remote-tool-response", answer)).status == 200
            await stream.rest()
        assert not tools.effects  # the server's tool was neither approved nor run
        assert ("does not allow write here" in stream.body.decode()) == ("deny" in policy)


@pytest.mark.parametrize("name", ["../../etc", "a b", "", "x" * 65, "\u202egnp", "a.b", "a\n", "ä"])
async def test_names_that_are_no_names_are_refused_wherever_a_client_brings_tools(stage: SetUp, name: str) -> None:
    async with stage() as s:
        said = {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "hi"}]}
        metadata = {CLIENT_TOOLS: {"tools": [{"name": name, "inputSchema": {"type": "object"}}]}}
        body = {
            "jsonrpc": "2.0",
            "id": "1",
            "method": "message/send",
            "params": {"message": said, "metadata": metadata},
        }
        assert b"-32602" in (await call(s.client(), "POST", AGENT, body, x_a2a_extensions=REMOTE_TOOLS)).body
        lent = {"tools": [{"name": f"a_{name}" if name else name}], "tools_hash": "h"}
        assert (await call(s.client(), "POST", f"{A}/tunnel/tools", lent)).status == (400)
        assert not s.model.prompts


# -- secrets of integrations -------------------------------------------------------------------------------------------


async def test_a_headers_value_is_told_to_nobody(stage: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    base = {"type": "mcp", "name": "m", "scope": "user", "enabled": True, "configuration": {}}
    values: list[Any] = [SECRET, f"{SECRET}\n", SECRET * 300, [SECRET], {"a": SECRET}, f"{SECRET}\u202e"]
    async with stage() as s:
        answers: list[Response] = []
        for value in values:
            for headers in (
                {"customHeaders": [{"key": "x-api-key", "value": value}]},
                {"custom_headers": [{"name": "x-api-key", "value": value}]},
                {"customHeaders": [{"key": value, "value": SECRET}]} if value != SECRET else {},
            ):
                answers.append(await call(s.client(), "POST", f"{A}/integrations", base | headers))
        made = [json.loads(each.body)["data"]["id"] for each in answers if each.status < 300]
        for one in made:
            path = f"{A}/integrations/{one}"
            answers += [await call(s.client(), "GET", path), await call(s.client(), "GET", f"{path}/validate")]
            answers.append(await call(s.client(), "PUT", path, {"customHeaders": [{"key": "x-api-key", "value": 7}]}))
        answers += [await call(s.client(), "GET", f"{A}/integrations"), await call(s.anonymous(), "GET", "/metrics")]
        await chat_of(s.client())
        await s.house.runs[0].settled()
        kept = repr(vars(s.store._kept)) + repr(
            await s.house.records.page(ADMIN.project, "integration", limit=0, offset=0)
        )
        prompts = repr(s.model.prompts)
    assert made
    told = b"".join(each.body + repr(each.headers).encode() for each in answers).decode()
    for where in (told, kept, caplog.text, prompts):
        assert SECRET not in where
