"""Somebody with a client of each wire, and a model that is strict about what it is asked."""

import asyncio
import json
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import ToolResult
from dragoman.core.names import ConversationId
from dragoman.core.operations import ReadConversation
from dragoman.runtime.ports import Prompt, ReplyPiece
from tests.parts import ADMIN, call_reply, text_reply
from tests.runtime.looping import ContextTools
from tests.stage import SetUp, Stage

PUBLIC = "/api/observability_ai_assistant/chat/complete"
CONVERSATION = "/internal/observability_ai_assistant/conversation"
GRAFANA = "/api/plugins/grafana-assistant-app/resources/api"
AT = "2026-07-03T00:00:00.000Z"
ACTION = {
    "name": "restart",
    "description": "Restarts.",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
}

Json = dict[str, Any]


class Speaker:
    """A model that answers each question with what it says to it: `look …` calls a tool first, `restart …` calls the
    caller's, `fail …` fails. It refuses prompts that providers refuse."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.gate: asyncio.Event | None = None
        """When there is one, nothing is said before it."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        if self.gate is not None:
            await self.gate.wait()
        if prompt.choice == "title_conversation":
            pieces = call_reply(("title_conversation", '{"title":"On things"}'))
        else:
            check_prompt(prompt)
            self.prompts.append(prompt)
            pieces = self._pieces(prompt)
        for piece in pieces:
            yield piece

    def _pieces(self, prompt: Prompt) -> list[ReplyPiece]:
        at = max(at for at, message in enumerate(prompt.messages) if message.role == "user")
        asked, since = prompt.messages[at].text, prompt.messages[at:]
        answered = {call.name for message in since for call in message.calls}
        if asked.startswith("fail"):
            raise BackendFailed("The model is away.", code="upstream_refused")
        if asked.startswith("look") and "look" not in answered:
            return call_reply(("look", "{}"))
        if asked.startswith("restart") and "restart" not in answered:
            return call_reply(("restart", '{"what":"db"}'))
        return text_reply("So: ", asked)

    async def close(self) -> None:
        pass


def check_prompt(prompt: Prompt) -> None:
    """Each call has its result right behind it, no two calls have the same id, and nothing of a wire's own is told."""
    messages = prompt.messages
    ids = [call.id for message in messages for call in message.calls]
    assert len(ids) == len(set(ids)), ids
    due: set[str] = set()
    for message in messages:
        found = {part.call_id for part in message.parts if isinstance(part, ToolResult)}
        assert (message.role == "tool") == bool(found)
        assert found <= due, "a result that nobody called for"
        assert found or not due, "a call without its result"
        due = (due - found) | {call.id for call in message.calls}
    assert not due
    assert messages[0].role == "system" and all(message.role != "system" for message in messages[1:])
    assert not [
        one for one, two in pairwise(messages) if one.role == two.role == "assistant" and not (one.calls or two.calls)
    ]


class Caller:
    """Somebody with a client of each kind."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.client = stage.client()
        self.conversation = ""

    @property
    def prompts(self) -> list[Prompt]:
        model = self.stage.model
        assert isinstance(model, Speaker)
        return model.prompts

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        answer = await self.client.request(method, path, headers={"kbn-xsrf": "true"}, body=data)
        assert answer.status == 200, (path, answer.status, answer.body)
        if not answer.headers["content-type"].startswith("application/json"):
            self.conversation = answer.headers.get("x-conversation-id", self.conversation)
            return answer.body.decode()
        return json.loads(answer.body)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def elastic(self, *messages: Json, **fields: Any) -> str:
        """The stream's text. The messages are all there are; with a conversation, it is that which goes on."""
        body = {"connectorId": "offline", "messages": messages, "persist": True, "actions": [ACTION], **fields}
        if self.conversation:
            body["conversationId"] = self.conversation
        return await self.call("POST", PUBLIC, body)

    async def elastic_on(self, text: str) -> str:
        """As its page does: everything that there is, and a question."""
        return await self.elastic(*(await self.document())["messages"], user(text))

    async def grip(self, text: str) -> str:
        answer = await self.call("POST", "/api/v1/chat", {"message": text, "session_key": self.conversation})
        return answer["response"]

    async def grafana(self, text: str, **more: Any) -> None:
        body = {"prompt": text, "chatId": self.conversation, **more}
        await self.call("POST", f"{GRAFANA}/v1/assistant/chats", body)
        await self.settle()

    async def settle(self) -> None:
        for runs in self.stage.house.runs:
            while runs.live:
                await asyncio.sleep(0.001)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def document(self) -> Json:
        return await self.call("GET", f"{CONVERSATION}/{self.conversation}")

    async def session(self) -> list[tuple[str, str]]:
        answer = await self.call("GET", f"/api/v1/sessions/{self.conversation}/messages")
        return [(entry["role"], entry["content"]) for entry in answer["messages"]]

    async def chat(self) -> list[Json]:
        answer = await self.call("GET", f"{GRAFANA}/v1/chats/{self.conversation}/all-messages")
        return answer["data"]["messages"]

    async def chat_told(self) -> list[Json]:
        """What a reader of the chat's stream has in the end, messages by their first appearance."""
        found: dict[str, Json] = {}
        path = f"{GRAFANA}/events/chats/{self.conversation}"
        async with self.client.stream("GET", path) as stream:
            body = await stream.until(b"AGENT_EXECUTION_")
            while not body.rstrip().endswith(b'"}}') or body.count(b"AGENT_EXECUTION_STARTED") > body.count(
                b"AGENT_EXECUTION_COMPLETED"
            ) + body.count(b"AGENT_EXECUTION_FAILED"):
                await stream.chunk()
                body = stream.body
        for line in body.decode().splitlines():
            if line.startswith("data: "):
                event = json.loads(line[6:])
                if event["type"].startswith("MESSAGE_"):
                    found[event["data"]["id"]] = event["data"]
        return list(found.values())

    async def view(self) -> Any:
        house = self.stage.house
        return await house.conversations.read(ADMIN, ReadConversation(ConversationId(self.conversation)))


def message(role: str, content: str, **more: Any) -> Json:
    return {"@timestamp": AT, "message": {"role": role, "content": content, **more}}


def user(content: str, **more: Any) -> Json:
    return message("user", content, **more)


def told(document: Json) -> list[tuple[str, str]]:
    """Who said what in a document; of calls and results the tool's name."""
    rows: list[tuple[str, str]] = []
    for message in (each["message"] for each in document["messages"]):
        called = message.get("function_call", {}).get("name")
        rows.append((message["role"], called or message.get("name") or message["content"]))
    return rows


def without_calls(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [row for row in rows if row[1] not in ("context", "look", "restart")]


def set_up(stage: SetUp, **more: Any) -> Any:
    return stage(model=Speaker(), tools=ContextTools(look='{"seen":1}', restart_="no"), **more)


def text_of(message: Json) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def asked_and_told(text: str) -> list[tuple[str, str]]:
    return [("user", text), ("assistant", f"So: {text}")]


def row_of(message: Json) -> tuple[str, str]:
    return message["role"], text_of(message)
