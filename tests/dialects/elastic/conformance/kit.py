"""A server in process that answers in the Elastic dialect, with callers of several kinds, and what their requests and
answers look like."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.access.ports import Project
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.names import ProjectId, Scope
from dragoman.server.assemble import open_house
from dragoman.server.config import load_config
from dragoman.server.house import House, Parts
from dragoman.stores.memory import MemoryStore
from tests.dialects.elastic.conformance.llm import Llm
from tests.parts import ADMIN
from tests.streaming_client import Client, Response
from tests.support import FixedClock

PUBLIC = "/api/observability_ai_assistant/chat/complete"
INTERNAL = "/internal/observability_ai_assistant"
COMPLETE = f"{INTERNAL}/chat/complete"
AT = "2026-07-03T00:00:00.000Z"
UNKNOWN_ID = "0e9b7c8e-0000-4000-8000-000000000000"

EDITOR = (*DEFAULT_SCOPES, Scope.RESOURCES_WRITE)
WHO: dict[str, tuple[Scope, ...]] = {
    "editor": EDITOR,
    "other": EDITOR,
    "admin": (Scope.ADMIN,),
    "viewer": (Scope.CHAT_READ, Scope.CONVERSATIONS_READ, Scope.CONVERSATIONS_WRITE, Scope.RESOURCES_WRITE),
}
"""Callers; all but the viewer may use the assistant."""

MY_ACTION = {
    "name": "my_action",
    "description": "My action",
    "parameters": {"type": "object", "properties": {"foo": {"type": "string"}}},
}

Json = dict[str, Any]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Kibana:
    """What a caller sees of the server."""

    def __init__(self, house: House, llm: Llm, clock: FixedClock) -> None:
        self.house = house
        self.llm = llm
        self.clock = clock
        self.credentials: dict[str, str] = {}
        self.connector_id = ""

    def client(self, who: str) -> Client:
        headers = {"authorization": f"ApiKey {self.credentials[who]}", "content-type": "application/json"}
        return Client(self.house.app, headers={**headers, "kbn-xsrf": "true"})

    async def send(self, method: str, path: str, body: Any = None, *, who: str = "editor", **headers: str) -> Answer:
        """`headers` have underscores where a hyphen belongs."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else json.dumps(body).encode()
        got: Response = await self.client(who).request(method, path, headers=named, body=data)
        return Answer(got.status, got.headers, got.body)

    async def get(self, path: str, *, who: str = "editor") -> Answer:
        return await self.send("GET", path, who=who)

    async def connect(self, url: str = "", **more: Any) -> str:
        """The id of a new connector of the chat server."""
        config = {"apiProvider": "OpenAI", "apiUrl": url or self.llm.url}
        body = {"name": "llm", "connector_type_id": ".gen-ai", "config": config, "secrets": {"apiKey": "my-api-key"}}
        answer = await self.send("POST", "/api/actions/connector", {**body, **more}, who="admin")
        assert answer.status == 200, answer.body
        return str(answer.json["id"])

    def asked(self, messages: Sequence[Json] = (), **fields: Any) -> Json:
        """The body of a public request, or with `screenContexts` and `scopes` that of an internal one."""
        return {
            "connectorId": self.connector_id,
            "messages": list(messages) or [user("Good morning, bot!")],
            "persist": False,
            **fields,
        }

    async def public(self, messages: Sequence[Json] = (), *, who: str = "editor", **fields: Any) -> Answer:
        return await self.send("POST", PUBLIC, self.asked(messages, **fields), who=who)

    async def complete(self, messages: Sequence[Json] = (), *, who: str = "editor", **fields: Any) -> list[Json]:
        """The events of an internal chat/complete."""
        body = self.asked(messages, **{"screenContexts": [], "scopes": ["all"], **fields})
        answer = await self.send("POST", COMPLETE, body, who=who)
        assert answer.status == 200, answer.body
        return events_in(answer.body)

    async def conversation(self, conversation: str, *, who: str = "editor") -> Json:
        answer = await self.get(f"{INTERNAL}/conversation/{conversation}", who=who)
        assert answer.status == 200, answer.body
        return answer.json

    async def conversations(self, *, who: str = "editor") -> list[Json]:
        answer = await self.send("POST", f"{INTERNAL}/conversations", who=who)
        assert answer.status == 200, answer.body
        assert list(answer.json) == ["conversations"]
        return answer.json["conversations"]


def message(role: str, content: str, **more: Any) -> Json:
    return {"@timestamp": AT, "message": {"role": role, "content": content, **more}}


def user(text: str, **more: Any) -> Json:
    return message("user", text, **more)


def called(name: str, arguments: Any, trigger: str = "assistant") -> Json:
    call = {"name": name, "arguments": json.dumps(arguments, separators=(",", ":")), "trigger": trigger}
    return message("assistant", "", function_call=call)


def result(name: str, content: Any) -> Json:
    return message("user", json.dumps(content), name=name)


def sse_in(body: bytes) -> list[Json]:
    """The events before `[DONE]`, which must be the last."""
    parts = [part for part in body.decode().split("\n\n") if part]
    assert all(part.startswith("data: ") for part in parts), parts
    assert parts[-1] == "data: [DONE]", parts
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


def text_of(chunks: Sequence[Json]) -> str:
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)


def events_in(body: bytes) -> list[Json]:
    """NDJSON events but for those that only keep the connection alive."""
    assert body.endswith(b"\n")
    events = [json.loads(line) for line in body.decode().splitlines()]
    return [event for event in events if event["type"] != "bufferFlush"]


def types_of(events: Sequence[Json]) -> list[str]:
    return [event["type"] for event in events]


def of_type(kind: str, events: Sequence[Json]) -> list[Json]:
    return [event for event in events if event["type"] == kind]


def added(events: Sequence[Json]) -> list[Json]:
    """The messages that a run added to the conversation."""
    return [event["message"]["message"] for event in of_type("messageAdd", events)]


def history(events: Sequence[Json]) -> list[Json]:
    """The same, with their times, as a client sends them back."""
    return [event["message"] for event in of_type("messageAdd", events)]


@asynccontextmanager
async def kibana_of(home: Path, llm: Llm, config_text: str = "") -> AsyncGenerator[Kibana]:
    """The whole server over a store in memory. `config_text`: further tables of its configuration, as TOML."""
    clock = FixedClock()
    store = MemoryStore(clock)
    file = home / "dragoman.toml"
    file.write_text("[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n" + config_text)
    file.chmod(0o600)
    config = load_config(home, cwd=home, env={})
    parts = Parts(clock=clock, store=store, access=store)
    async with open_house(config, home, parts=parts) as house:
        await store.put_project(Project(ADMIN.project, "default", 0.0))
        kibana = Kibana(house, llm, clock)
        for who, scopes in WHO.items():
            minted = await house.mint.create(who, ADMIN.project, scopes=scopes)
            kibana.credentials[who] = minted.text
        kibana.connector_id = await kibana.connect()
        yield kibana


async def settle(kibana: Kibana, project: str, *whose: str) -> None:
    """Make a project with callers of its own, named `<who>@<project>`."""
    await kibana.house.access.put_project(Project(ProjectId(project), project, 0.0))
    for who in whose:
        minted = await kibana.house.mint.create(who, ProjectId(project), scopes=WHO[who])
        kibana.credentials[f"{who}@{project}"] = minted.text
