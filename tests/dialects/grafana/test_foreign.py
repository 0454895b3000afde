"""Ids are no keys: whoever is not the owner gets, for each id that this wire knows, just what an id that names nothing
gets, and changes nothing by asking (S07, S08). Made from the route table: a new row is tested from its first day."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dragoman.access.ports import Project
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.names import CallId, ProjectId, RunId, Scope
from dragoman.dialects import installed
from dragoman.dialects.grafana import BASES, DIALECT, ids
from dragoman.dialects.grafana.a2a_shapes import CLIENT_TOOLS, REMOTE_TOOLS
from dragoman.edge.house import HOUSE
from dragoman.server.config_shapes import AgentTable
from dragoman.wire.dialect import Route
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, call_reply, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response

A = BASES[0]
OTHER = ProjectId("other")
CANARY = "canary-7f3a"
"""Stands in all that is the owner's."""
NOBODY = "00000000-0000-4000-8000-000000000000"
NUMBER = "999"

KINDS = ("rules", "skills", "quickstarts", "integrations")
OPEN_PARAMS = frozenset({"agentId", "rest"})
"""Not ids of anything that belongs to somebody."""
TOOL = {"name": "getRequests", "description": CANARY, "inputSchema": {"type": "object"}}


@dataclass
class Scene:
    """What the owner has, by the names that route tables give ids."""

    stage: Stage
    real: dict[str, str]
    fake: dict[str, str]
    callers: dict[str, Client]


# -- the scene -------------------------------------------------------------------------------------------------------


async def _call(client: Client, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    sent = b"" if body is None else json.dumps(body).encode()
    answer = await client.request(method, path, body=sent, headers=headers)
    assert answer.status < 300, answer.body
    return json.loads(answer.body)


def _rpc(method: str, params: Any) -> Any:
    return {"jsonrpc": "2.0", "id": "q", "method": method, "params": params}


def _said(text: str, message: str, **params: Any) -> Any:
    said = {"role": "user", "messageId": message, "parts": [{"kind": "text", "text": text}]}
    return {"message": said, "configuration": {"blocking": False}} | params


async def _begun(owner: Client, text: str, awaited: bytes, **params: Any) -> tuple[str, str]:
    """The chat and the run of a turn, once it waits for what `awaited` tells."""
    extended = {"x-a2a-extensions": REMOTE_TOOLS}
    path, message = f"{A}/a2a/agents/any", _rpc("message/send", _said(f"{text} {CANARY}", text, **params))
    task = (await _call(owner, "POST", path, message, extended))["result"]
    again = json.dumps(_rpc("tasks/resubscribe", {"id": task["id"]})).encode()
    async with owner.stream("POST", path, body=again, headers=extended) as stream:
        await stream.until(awaited)
    return task["contextId"], task["id"]


@asynccontextmanager
async def scene(stage: SetUp) -> AsyncIterator[Scene]:
    """One run of the owner's waits for an approval, one for the client; one chat is shared no longer."""
    config = open_config()
    config.agents[config.defaults.agent] = AgentTable(instructions=CANARY, ask=("write",))
    model = _ByPrompt()
    async with stage(config=config, model=model, tools=LedgerTools({"write": "written"})) as s:
        await s.house.access.put_project(Project(OTHER, "other", 0.0))
        minted = {
            "owner": await s.house.mint.create("owner", ADMIN.project, rpm=0),
            "neighbour": await s.house.mint.create("neighbour", ADMIN.project, scopes=DEFAULT_SCOPES, rpm=0),
            "stranger": await s.house.mint.create("stranger", OTHER, scopes=(Scope.ADMIN,), rpm=0),
        }
        texts = {name: each.text for name, each in minted.items()} | {"admin": s.credential}
        callers = {name: Client(s.house.app, headers={"authorization": f"Bearer {t}"}) for name, t in texts.items()}
        owner, admin = callers["owner"], callers["admin"]
        asked_in, asking = await _begun(owner, "write", b"step.approval")
        metadata = {CLIENT_TOOLS: {"tools": [TOOL]}}
        waits_in, waiting = await _begun(owner, "fetch", b"REMOTE_TOOL_REQUEST", metadata=metadata)
        approval = next(iter(await _approvals(s, asking)))
        real = {"chatId": asked_in, "taskId": asking, "approvalId": approval}
        real["requestId"] = ids.request_id(RunId(waiting), CallId("c1"))
        real |= {"waits_in": waits_in, "waiting": waiting}
        for kind, content in {
            "rules": {"scope": "user", "name": CANARY, "ruleContent": CANARY},
            "skills": {"scope": "user", "name": CANARY, "body": CANARY},
            "quickstarts": {"scope": "user", "prompt": CANARY},
            "integrations": {"type": "mcp", "scope": "user", "name": CANARY, "enabled": True, "configuration": {}},
        }.items():
            real[kind] = (await _call(owner, "POST", f"{A}/{kind}", content))["data"]["id"]
        account = await _call(admin, "POST", "/api/serviceaccounts", {"name": CANARY})
        real["serviceaccounts"] = str(account["id"])
        token = await _call(admin, "POST", f"/api/serviceaccounts/{account['id']}/tokens", {"name": CANARY})
        real["token"] = str(token["id"])
        _, _, arguments_hash = ids.read_approval_id(approval)
        fake = dict.fromkeys(real, NOBODY) | {"serviceaccounts": NUMBER, "token": NUMBER}
        fake["approvalId"] = ids.approval_id(RunId(NOBODY), CallId("c1"), arguments_hash)
        fake["requestId"] = ids.request_id(RunId(NOBODY), CallId("c1"))
        yield Scene(s, real, fake, callers)


class _ByPrompt(ScriptedReplies):
    """Calls the tool that the user's message begins with; answers once it has a result."""

    def __init__(self) -> None:
        super().__init__(call_reply(("write", f'{{"text":"{CANARY}"}}')), text_reply("done"))
        self._fetching = ScriptedReplies(call_reply(("getRequests", "{}")), text_reply("done"))

    def reply(self, prompt: Any, *, stream: bool) -> Any:
        fetches = any(message.role == "user" and "fetch" in message.text for message in prompt.messages)
        return self._fetching.reply(prompt, stream=stream) if fetches else super().reply(prompt, stream=stream)


async def _approvals(s: Stage, run: str) -> list[str]:
    view = await s.store.run(ADMIN.project, RunId(run))
    return [
        ids.approval_id(view.id, entry.event.call.id, entry.event.arguments_hash)
        for entry in await s.store.read_run(view)
        if type(entry.event).__name__ == "ApprovalRequested"
    ]


# -- the matrix ------------------------------------------------------------------------------------------------------


def _params(route: Route[Any]) -> list[str]:
    return [part.strip("{}").partition(":")[0] for part in route.path.split("/") if part.startswith("{")]


def _path(route: Route[Any], known: dict[str, str]) -> str:
    """The route's path with these ids. Raises KeyError for a parameter that this test does not know."""
    parts = route.path.split("/")
    for place, part in enumerate(parts):
        if part.startswith("{"):
            name = part.strip("{}").partition(":")[0]
            parts[place] = "x" if name in OPEN_PARAMS else known[parts[place - 1] if name == "id" else name]
    return "/".join(parts)


BODIES: dict[str, Any] = {
    "/command": {"commandName": "taken"},
    "/rules/{id}": {"name": "taken"},
    "/skills/{id}": {"name": "taken"},
    "/quickstarts/{id}": {"title": "taken"},
    "/integrations/{id}": {"name": "taken"},
    "/chats/{chatId}": {"name": "taken"},
    "/serviceaccounts/{id}": {"name": "taken"},
    "/tokens": {"name": "taken"},
    "/result": {"result": "taken"},
}


def _requests(route: Route[Any], known: dict[str, str]) -> list[tuple[str, str, bytes]]:
    """Each thing that can be asked over the route about somebody's own. None for rows that carry no id."""
    path = _path(route, known)
    bodies: list[Any] = []
    if route.forks:
        bodies = [_rpc(branch, {"id": known["taskId"]}) for branch in route.forks if branch.startswith("tasks/")]
    elif path.endswith("/assistant/chats"):
        bodies = [{"prompt": "taken", "chatId": known["chatId"]}]
    elif path.endswith("/remote-tool-response"):
        answer = {"requestId": known["requestId"], "success": True, "result": "taken"}
        bodies = [answer, answer | {"chatId": known["waits_in"]}]
    elif "/approval/" in path:
        decision = {"approved": True, "id": known["approvalId"]}
        bodies = [decision, decision | {"approved": False, "chatId": known["chatId"]}]
    elif set(_params(route)) - OPEN_PARAMS:
        bodies = [next((body for end, body in BODIES.items() if route.path.endswith(end)), None)]
    return [(route.method, path, b"" if body is None else json.dumps(body).encode()) for body in bodies]


def _told(answer: Response, known: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers, with the ids taken out that the caller named itself."""
    body = answer.body.decode()
    for each in sorted(set(known.values()), key=len, reverse=True):
        body = re.sub(rf"\b{re.escape(each)}\b", "<id>", body)
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    return answer.status, body, headers


async def _everything(s: Scene) -> bytes:
    """All there is, as the admin and the owner see it, tapes included."""
    owner, admin = s.callers["owner"], s.callers["admin"]
    paths = [f"{A}/chats?source=all&includeArchived=true", *(f"{A}/{kind}" for kind in KINDS)]
    seen = [(await owner.request("GET", path)).body for path in paths]
    seen += [
        (await admin.request("GET", path)).body
        for path in (
            f"{A}/chats?source=all&includeArchived=true",
            "/api/serviceaccounts/search",
            f"/api/serviceaccounts/{s.real['serviceaccounts']}/tokens",
        )
    ]
    for chat in (s.real["chatId"], s.real["waits_in"]):
        info = await s.stage.store.get(ADMIN.project, chat)
        seen.append(repr(await s.stage.store.read(info.tape, after=0, limit=1000)).encode())
    return b"\n".join(seen)


@pytest.mark.parametrize("caller", ["neighbour", "stranger"])
async def test_what_is_anothers_is_answered_as_what_does_not_exist(stage: SetUp, caller: str) -> None:
    asked = 0
    async with scene(stage) as s:
        client, before = s.callers[caller], await _everything(s)
        for route in DIALECT.routes:
            pairs = zip(_requests(route, s.real), _requests(route, s.fake), strict=True)
            for (method, path, body), (_, nowhere, fake_body) in pairs:
                theirs = await client.request(method, path, body=body)
                nobodys = await client.request(method, nowhere, body=fake_body)
                told = _told(theirs, s.real)
                assert told == _told(nobodys, s.fake), f"{method} {path} {body!r}"
                assert CANARY not in told[1] and CANARY.encode() not in theirs.body
                assert "taken" not in told[1]
                asked += 1
        assert await _everything(s) == before
    assert asked > 100  # a few dozen rows on each of three bases


def _on_one_base() -> list[Route[Any]]:
    known = dict.fromkeys(("chatId", "taskId", "approvalId", "requestId", "waits_in", "token", *KINDS), "x")
    known["serviceaccounts"] = "1"
    others = BASES[1:]
    return [
        route
        for route in DIALECT.routes
        if _requests(route, known) and not route.path.startswith(tuple(f"{base}/" for base in others))
    ]


PERSONAL = ("/rules/{id}", "/skills/{id}", "/quickstarts/{id}", "/integrations/{id}", "/command", "/validate")
"""What is somebody's own and no chat: it is nobody else's business, an admin's included."""


@pytest.mark.parametrize("route", _on_one_base(), ids=repr)
async def test_an_admin_may_where_chats_and_accounts_are_concerned(stage: SetUp, route: Route[Any]) -> None:
    async with scene(stage) as s:
        first_of_all = 1 if "/approval/" in route.path else None  # what is said after it contradicts it
        for method, path, body in _requests(route, s.real)[:first_of_all]:
            async with s.callers["admin"].stream(method, path, body=body) as answer:
                first = await answer.chunk()
            personal = route.path.endswith(PERSONAL) and "serviceaccounts" not in route.path
            # An admin's ticket is an admin's no longer: it opens the admin's own and shared chats.
            refused = personal or route.path.endswith("/stream-ticket") or "/shared/" in route.path
            assert (answer.status in (404,)) == refused, (method, path, answer.status, first)
            assert refused or (answer.status < 300 and b'"error"' not in first), (method, path, first)


async def test_a_message_to_anothers_chat_says_what_an_unknown_chat_says(stage: SetUp) -> None:
    """A new `contextId` opens a chat (D6), so that one which is taken can be told from one which is not: but not whose
    it is, nor whether it is shared, and nothing is said in it."""
    async with scene(stage) as s:
        before, client = await _everything(s), s.callers["neighbour"]
        for method in ("message/send", "message/stream"):
            message = _rpc(method, _said("taken", f"m-{method}", contextId=s.real["chatId"]))
            answer = await client.request("POST", f"{A}/a2a/agents/any", body=json.dumps(message).encode())
            assert b"Chat not found" in answer.body and CANARY.encode() not in answer.body
        assert await _everything(s) == before
        stranger = _rpc("message/send", _said("mine", "m-2", contextId=s.real["chatId"]))
        answer = await s.callers["stranger"].request("POST", f"{A}/a2a/agents/any", body=json.dumps(stranger).encode())
        assert answer.status == 200  # their project's chat of that name has nothing to do with ours
        assert CANARY.encode() not in answer.body
        assert await _everything(s) == before


async def test_a_shared_chat_is_read_and_nothing_else(stage: SetUp) -> None:
    async with scene(stage) as s:
        chat, neighbour = s.real["chatId"], s.callers["neighbour"]
        await _call(s.callers["owner"], "PATCH", f"{A}/chats/{chat}", {"isPublic": True})
        before = await _everything(s)
        reads = (f"{A}/shared/{chat}", f"{A}/shared/{chat}/ui-messages", f"{A}/chats/{chat}")
        assert [(await neighbour.request("GET", path)).status for path in reads] == [200, 200, 200]
        for route in _on_one_base():
            about_the_chat = {"chatId", "approvalId"} & set(_params(route)) or route.path.endswith("/assistant/chats")
            if route.method != "GET" and about_the_chat and not route.path.endswith("/stream-ticket"):
                for method, path, body in _requests(route, s.real):
                    assert (await neighbour.request(method, path, body=body)).status == 404, (method, path)
        cancel = json.dumps(_rpc("tasks/cancel", {"id": s.real["taskId"]})).encode()
        assert b"-32001" in (await neighbour.request("POST", f"{A}/a2a/agents/any", body=cancel)).body
        assert await _everything(s) == before
        stranger = s.callers["stranger"]
        assert [(await stranger.request("GET", path)).status for path in reads] == [404, 404, 404]


GRAFANA_ALONE = (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS, Scope.TOOLS_APPROVE, Scope.TUNNEL_CONNECT)
"""What a credential needs here. The others open the wires that know no users (docs/security.md)."""


async def test_a_credential_for_this_wire_alone_finds_nobody_elses_chats_on_any_other(stage: SetUp) -> None:
    async with scene(stage) as s:
        minted = await s.stage.house.mint.create("narrow", ADMIN.project, scopes=GRAFANA_ALONE, rpm=0)
        narrow = Client(s.stage.house.app, headers={"authorization": f"Bearer {minted.text}"})
        before, asked = await _everything(s), 0
        for route in (route for dialect in (*installed(), HOUSE) for route in dialect.routes):
            for name in (s.real["chatId"], s.real["taskId"]):
                path = re.sub(r"\{[^}]*\}", name, route.path)
                if route not in DIALECT.routes:
                    answer = await narrow.request(route.method, path, body=b"" if route.method == "GET" else b"{}")
                    assert CANARY.encode() not in answer.body, path
                    asked += 1
        assert await _everything(s) == before
        assert asked > 40
        assert (await narrow.request("POST", f"{A}/assistant/chats", body=b'{"prompt":"hi"}')).status == 200


async def test_wires_that_know_no_users_show_the_projects_conversations(stage: SetUp) -> None:
    """As docs/security.md says, so that nobody takes it for granted that they do not."""
    async with scene(stage) as s:
        runs = f"/api/runs/{s.real['taskId']}"
        assert CANARY.encode() in (await s.callers["neighbour"].request("GET", runs)).body
        assert (await s.callers["stranger"].request("GET", runs)).status == 404
