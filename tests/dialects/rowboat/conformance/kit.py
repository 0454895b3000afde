"""A server in process that answers in the Rowboat dialect, a project with a published workflow, and what requests and
answers of each generation look like."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.access.ports import Project
from dragoman.core.names import ProjectId
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from dragoman.server.assemble import open_house
from dragoman.server.config import load_config
from dragoman.server.house import House, Parts
from dragoman.stores.memory import MemoryStore
from tests.dialects.rowboat.conformance.players import TRANSFER, Players
from tests.rowboat_webhook import Receiver
from tests.streaming_client import Client
from tests.support import FixedClock

HERE = Path(__file__).parent
PROJECT = "3f0f7a52-5c0a-4a7e-9a27-2f6a0d4c9d11"
UNKNOWN = "0123456789abcdef01234567"
"""An id that nothing has."""
GREETING = "Ahoy, this is Harbor Outfitters. What do you need?"

Json = dict[str, Any]


def harbor() -> Json:
    """A shop's support: a front desk, two specialists, an escalation."""
    return json.loads((HERE / "harbor.json").read_text())


def meridian() -> Json:
    """Insurance claims: an internal researcher and a pipeline of three."""
    return json.loads((HERE / "meridian.json").read_text())


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def system(text: str) -> Json:
    return {"role": "system", "content": text}


def agent_of(workflow: Json, name: str) -> Json:
    return next(agent for agent in workflow["agents"] if agent["name"] == name)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What it was refused with, which is all that is said."""
        assert self.headers["content-type"].partition(";")[0] == "application/json", self.body
        assert list(self.json) == ["error"] and isinstance(self.json["error"], str) and self.json["error"], self.body
        return self.json["error"]


@dataclass
class Turn:
    """An answer of the first generation."""

    messages: list[Json]
    state: Any

    @property
    def text(self) -> str:
        return self.messages[-1]["content"]

    @property
    def sender(self) -> str:
        return self.messages[-1]["agenticSender"]

    @property
    def kinds(self) -> list[str]:
        return kinds(self.messages)


class Rowboat:
    """What a caller sees of the server. `key` is the credential's text."""

    def __init__(self, house: House, model: Players, clock: FixedClock, hook: Receiver) -> None:
        self.house = house
        self.model = model
        self.clock = clock
        self.hook = hook
        self.keys: dict[str, str] = {}
        """Credentials by project."""
        self.versions: list[str] = []
        """Ids of what was imported into the project, in order."""

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send(
        self, method: str, body: Any = None, *, project: str = PROJECT, path: str = "", **headers: str
    ) -> Answer:
        """`body`: bytes as they are, or what is sent as JSON. `headers` have underscores where a hyphen belongs; the
        credential goes along unless there is an `authorization`, and "" is no header."""
        named = {"content_type": "application/json", "authorization": f"Bearer {self.keys.get(project, '')}", **headers}
        sent = {name.replace("_", "-"): value for name, value in named.items() if value}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        target = path or f"/api/v1/{project}/chat"
        got = await Client(self.house.app).request(method, target, headers=sent, body=data)
        return Answer(got.status, got.headers, got.body)

    async def post(self, body: Any, *, project: str = PROJECT, **headers: str) -> Answer:
        return await self.send("POST", body, project=project, **headers)

    async def chat(self, *messages: Json, state: Any = None, project: str = PROJECT, **fields: Any) -> Turn:
        """A turn of the first generation, which must be answered; its shape is looked at."""
        answer = await self.post({"messages": list(messages), "state": state, **fields}, project=project)
        assert answer.status == 200, answer.body
        assert sorted(answer.json) == ["messages", "state"]
        check_g1(answer.json["messages"])
        return Turn(**answer.json)

    async def talk(self, *messages: Json, conversation: str | None = None, **fields: Any) -> Json:
        """A turn of the second generation, which must be answered; its shape is looked at."""
        answer = await self.post({"conversationId": conversation, "messages": list(messages), **fields})
        assert answer.status == 200, answer.body
        check_g2(answer.json)
        return answer.json

    # -- setting up --------------------------------------------------------------------------------------------------

    async def settle(self, project: str) -> str:
        """A project with a credential, which is answered."""
        await self.house.access.put_project(Project(ProjectId(project), project, 0.0))
        return await self.new_key(project)

    async def new_key(self, project: str = PROJECT) -> str:
        """A further credential, used from now on."""
        minted = await self.house.mint.create("key", ProjectId(project))
        self.keys[project] = minted.text
        return minted.text

    async def take_in(self, workflow: Json, *, publish: bool = True, project: str = PROJECT) -> str:
        """The id of a new version."""
        source = json.dumps(workflow)
        version = await self.house.workflows.add(
            ProjectId(project), compile_workflow(source.encode()), source=source, publish=publish
        )
        if project == PROJECT:
            self.versions.append(version.id)
        return version.id

    async def profile(
        self, *, context: str = "", mock_tools: bool = False, mock_prompt: str = "", project: str = PROJECT
    ) -> str:
        """The id of a test profile."""
        made = await self.house.profiles.create(
            ProjectId(project), name="P", context=context, mock_tools=mock_tools, mock_prompt=mock_prompt
        )
        return made.id

    async def hooked(self, project: str = PROJECT) -> Receiver:
        """The receiver, to which the project's webhooks now lead."""
        await self.house.settings.set_webhook(ProjectId(project), "connection:hooks")
        self.hook.secret = (await self.house.settings.of(ProjectId(project))).secret
        return self.hook

    async def settled(self) -> None:
        for runs in self.house.runs:
            await runs.settled()


@asynccontextmanager
async def rowboat_of(
    home: Path, hook: Receiver, *, helpdesk: str = "", limits: str = "", more: str = ""
) -> AsyncGenerator[Rowboat]:
    """The whole server over a store in memory, and a project of which nothing is published. `helpdesk` is the URL of an
    MCP server; `limits` are lines of that table, `more` are further tables."""
    clock = FixedClock()
    store = MemoryStore(clock)
    file = home / "dragoman.toml"
    tables = f'[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n{limits}\n[connections.hooks]\nkind = "webhook"\n'
    tables += f'url = "{hook.url}"\n'
    if helpdesk:
        tables += f'[connections.helpdesk]\nkind = "mcp"\nurl = "{helpdesk}"\n'
    file.write_text(tables + more)
    file.chmod(0o600)
    config = load_config(home, cwd=home, env={})
    model = Players()
    parts = Parts(clock=clock, store=store, access=store, models={config.defaults.model: model})
    async with open_house(config, home, parts=parts) as house:
        scene = Rowboat(house, model, clock, hook)
        await scene.settle(PROJECT)
        yield scene


# -- shapes ------------------------------------------------------------------------------------------------------------


def kinds(messages: Sequence[Json]) -> list[str]:
    """What each message is, in a few words: `Front Desk -> Billing Desk`, `Billing Desk calls get_order`, `result of
    get_order`, `Billing Desk internal`, `Billing Desk external`. In any generation's spelling."""
    return [_kind(message) for message in messages]


def _kind(message: Json) -> str:
    sender = message.get("agenticSender") or message.get("agentName") or "?"
    calls = message.get("tool_calls") or message.get("toolCalls")
    if message["role"] == "tool":
        return f"result of {message.get('tool_name') or message.get('toolName')}"
    if calls:
        (call,) = calls
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        return f"{sender} -> {json.loads(arguments)['assistant']}" if name == TRANSFER else f"{sender} calls {name}"
    return f"{sender} {message.get('agenticResponseType') or message['responseType']}"


def check_g1(messages: Sequence[Json]) -> None:
    """Rowboat spec 1.4 and Q5 to Q8: exactly these keys; a result behind its call; the last is for the user."""
    open_calls: dict[str, str] = {}
    for message in messages:
        assert message["role"] in ("assistant", "tool"), message
        if message["role"] == "tool":
            assert sorted(message) == ["content", "role", "tool_call_id", "tool_name"]
            assert isinstance(message["content"], str)
            assert open_calls.pop(message["tool_call_id"]) == message["tool_name"]
            continue
        keys = set(message) - {"agenticSender"}
        if "tool_calls" in message:
            assert keys == {"role", "tool_calls", "agenticResponseType"}, message
            assert message["agenticResponseType"] == "internal"
            _open(message["tool_calls"], open_calls)
        else:
            assert keys == {"role", "content", "agenticResponseType"}, message
            assert isinstance(message["content"], str) and message["content"]
            assert message["agenticResponseType"] in ("internal", "external")
    assert open_calls == {}
    assert messages and messages[-1].get("agenticResponseType") == "external" and "content" in messages[-1]


def check_g15(messages: Sequence[Json]) -> None:
    """Rowboat spec 2; an agent's name also as this generation's client reads it and sends it back (Q3)."""
    for message in messages:
        assert message.get("agenticName") == message.get("agentName"), message
    check_camel([{name: value for name, value in each.items() if name != "agenticName"} for each in messages])


def check_camel(messages: Sequence[Json]) -> None:
    """What the generations in camel case have in common, without times."""
    open_calls: dict[str, str] = {}
    for message in messages:
        if message["role"] == "tool":
            assert sorted(message) == ["content", "role", "toolCallId", "toolName"]
            assert open_calls.pop(message["toolCallId"]) == message["toolName"]
        elif "toolCalls" in message:
            assert sorted(message) == ["agentName", "content", "role", "toolCalls"], message
            assert message["content"] is None
            _open(message["toolCalls"], open_calls)
        else:
            assert sorted(message) == ["agentName", "content", "responseType", "role"], message
            assert message["content"] and message["responseType"] in ("internal", "external")
    assert open_calls == {}
    assert messages and messages[-1].get("responseType") == "external"


def check_g2(body: Json) -> None:
    """Rowboat spec 3.2."""
    assert sorted(body) == ["conversationId", "turn"]
    assert is_id(body["conversationId"])
    turn = body["turn"]
    assert set(turn) - {"updatedAt"} == {"id", "reason", "input", "output", "createdAt"}
    assert turn["id"] and turn["reason"] == {"type": "api"}
    assert is_time(turn["createdAt"])
    assert all(is_time(message["timestamp"]) for message in (*turn["input"]["messages"], *turn["output"]))
    check_camel([{name: value for name, value in each.items() if name != "timestamp"} for each in turn["output"]])


def _open(calls: Any, open_calls: dict[str, str]) -> None:
    (call,) = calls
    assert sorted(call) == ["function", "id", "type"] and call["type"] == "function"
    assert sorted(call["function"]) == ["arguments", "name"]
    assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert call["id"] not in open_calls
    open_calls[call["id"]] = call["function"]["name"]


def is_id(text: str) -> bool:
    return len(text) == 24 and set(text) <= set("0123456789abcdef")


def is_time(text: str) -> bool:
    """ISO 8601 with milliseconds, as JavaScript writes it."""
    return len(text) == len("2025-08-06T00:00:00.000Z") and text[10] == "T" and text.endswith("Z")


def events_in(body: bytes) -> list[Json]:
    """The events of a stream. Asserts the framing (Q23); signs of life are left out."""
    assert body.endswith(b"\n\n")
    blocks = [block for block in body.decode().split("\n\n")[:-1] if not block.startswith(":")]
    told: list[Json] = []
    for block in blocks:
        name, _, data = block.partition("\n")
        assert name == "event: message" and data.startswith("data: ") and "\n" not in data, block
        told.append(json.loads(data.removeprefix("data: ")))
    return told
