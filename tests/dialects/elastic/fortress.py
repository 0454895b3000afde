"""A whole house on disk with people in it, for tests that try to get at what is not theirs: two projects, and in the
first of them an owner, somebody else, and somebody who may only look."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from dragoman.access.ports import Project
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.agents import ToolSpec
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ProjectId, Scope
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece
from dragoman.server.assemble import open_house
from dragoman.server.config_checks import complete
from dragoman.server.config_shapes import (
    AgentTable,
    Anonymization,
    Config,
    ConnectorsTable,
    Defaults,
    DialectTable,
    Limits,
)
from dragoman.server.house import House, Parts
from tests.streaming_client import Client, Response

AT = "2026-01-01T00:00:00.000Z"
PUBLIC = "/api/observability_ai_assistant/chat/complete"
INTERNAL = "/internal/observability_ai_assistant"
MODEL = "main"
PEOPLE = {
    "owner": ("default", (*DEFAULT_SCOPES, Scope.RESOURCES_WRITE)),
    "other": ("default", DEFAULT_SCOPES),
    "viewer": ("default", tuple(scope for scope in DEFAULT_SCOPES if scope is not Scope.CHAT_RUN)),
    "talker": ("default", (Scope.CHAT_RUN,)),
    "stranger": ("elsewhere", (*DEFAULT_SCOPES, Scope.RESOURCES_WRITE)),
}
"""Names, projects, scopes."""

CANARY = "canary-7c1e93"
GEN_AI: dict[str, Any] = {"apiProvider": "Other", "apiUrl": "http://127.0.0.1:1/v1/chat/completions"}

Row = str | tuple[tuple[str, str], ...]
"""What a model says: a text, or calls as (name, arguments)."""


class Told:
    """A model that does as it is told, and remembers every prompt. Rows are given one by one, the last again and again;
    a call that is demanded is made."""

    def __init__(self, *rows: Row) -> None:
        self.rows: list[Any] = list(rows) or ["Fine."]
        self.prompts: list[Prompt] = []
        self.forced: dict[str, str] = {
            "title_conversation": '{"title":"About it"}',
            "score_suggestions": '{"scores":"1,7\\n2,7\\n3,7"}',
            "exit_loop": '{"response":"That is all."}',
        }
        """Arguments of calls that are demanded."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        row: Row = ((prompt.choice, self.forced[prompt.choice]),) if prompt.choice in self.forced else self._row(prompt)
        if isinstance(row, str):
            if stream:
                yield TextPiece(row)
            yield ReplyDone(row)
            return
        calls = tuple(ToolCall(CallId(f"c{at}"), name, arguments) for at, (name, arguments) in enumerate(row))
        yield ReplyDone("", calls, finish_reason="tool_calls")

    async def close(self) -> None:
        pass

    def _row(self, prompt: Prompt) -> Row:
        if "<ConversationHistory>" in prompt.messages[0].text:
            return "a query"
        return self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]

    @property
    def heard(self) -> bytes:
        """Everything it was told, as bytes."""
        return msgspec.json.encode(self.prompts)

    @property
    def offered(self) -> tuple[ToolSpec, ...]:
        return tuple(tool for prompt in self.prompts for tool in prompt.tools)


class Fortress:
    def __init__(self, house: House, home: Path, model: Told) -> None:
        self.house = house
        self.home = home
        self.model = model
        self.credentials: dict[str, str] = {}

    async def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Response:
        sent = {
            "authorization": f"Bearer {self.credentials[who]}",
            "content-type": "application/json",
            "kbn-xsrf": "true",
        }
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await Client(self.house.app, headers=sent | headers).request(method, path, body=data)

    async def ask(self, who: str, *said: Any, **fields: Any) -> Response:
        """A public turn: texts of the user's, or whole messages."""
        return await self.call(who, "POST", PUBLIC, asking(*said, **fields))

    async def conversation(self, who: str, **fields: Any) -> str:
        """The id of a new one."""
        answer = await self.ask(who, "Hello", persist=True, **fields)
        assert answer.status == 200, answer.body
        return answer.headers["x-conversation-id"]


def asking(*said: Any, **fields: Any) -> dict[str, Any]:
    messages = [message(each) if isinstance(each, str) else each for each in said]
    return {"connectorId": MODEL, "messages": messages, "persist": False, **fields}


def message(content: str = "", role: str = "user", **more: Any) -> dict[str, Any]:
    return {"@timestamp": AT, "message": {"role": role, "content": content, **more}}


def called(name: str, arguments: str) -> dict[str, Any]:
    return message(role="assistant", function_call={"name": name, "arguments": arguments, "trigger": "assistant"})


def connector(config: Any = GEN_AI, *, kind: str = ".gen-ai", secrets: Any = None) -> dict[str, Any]:
    return {"name": "c", "connector_type_id": kind, "config": config, "secrets": secrets or {}}


def entry(id: str, text: str, *, public: bool, **more: Any) -> dict[str, Any]:
    return {"id": id, "title": id, "text": text, "public": public, **more}


def on_disk(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@asynccontextmanager
async def fortress(
    home: Path,
    *rows: Row,
    rules: Sequence[Any] = (),
    hosts: Sequence[str] = ("*",),
    agent: AgentTable | None = None,
) -> AsyncGenerator[Fortress]:
    model = Told(*rows)
    config = Config(
        defaults=Defaults(model=MODEL),
        agents={"assistant": agent or AgentTable()},
        limits=Limits(per_ip_rpm=0, per_credential_rpm=0),
        connectors=ConnectorsTable(hosts=tuple(hosts)),
        anonymization=Anonymization(tuple(rules)),
        dialects={"grip": DialectTable(session_files=True)},
    )
    parts = Parts(models={MODEL: model})
    async with open_house(complete(config, folder=home), home, parts=parts) as house:
        inside = Fortress(house, home, model)
        for project in ("default", "elsewhere"):
            if await house.access.project(ProjectId(project)) is None:
                await house.access.put_project(Project(ProjectId(project), project, 0.0))
        for name, (project, scopes) in PEOPLE.items():
            inside.credentials[name] = (await house.mint.create(name, ProjectId(project), scopes=scopes)).text
        yield inside
