"""Reads this wire's streams as clients do: frames first, then what they mean."""

import json
from typing import Any

from tests.dialects.grafana import a2a_reading
from tests.reading import Reading


class Chat:
    """What a reader of a chat's events has: its messages by id, in the order they came, and what else it was told."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.frames: list[tuple[str, str, dict[str, Any]]] = []
        """id, type and data of each."""
        self.running: list[str] = []
        self.ended: list[str] = []
        self.failed = False
        self.sent_away = False

    def read(self, data: bytes) -> "Chat":
        """Take more bytes. Asserts the framing: one line of JSON, no `event:`, a blank line after it (Q8, Q10)."""
        assert not data or data.endswith(b"\n\n")
        assert b"\r" not in data
        for block in data.decode().split("\n\n")[:-1]:
            if block.startswith(": "):
                assert "\n" not in block
            elif block.startswith("retry: "):
                self.sent_away = True
            else:
                *ids, line = block.split("\n")
                assert len(ids) <= 1 and all(each.startswith("id: ") for each in ids)
                assert line.startswith("data: ")
                event = json.loads(line.removeprefix("data: "))
                assert event.keys() == {"type", "data"}
                self._take(ids[0].removeprefix("id: ") if ids else "", event["type"], event["data"])
        return self

    def _take(self, frame_id: str, kind: str, data: dict[str, Any]) -> None:
        self.frames.append((frame_id, kind, data))
        match kind:
            case "MESSAGE_CREATED":
                assert data["id"] not in self.messages
                self.messages[data["id"]] = data
            case "MESSAGE_UPDATED":
                assert data["id"] in self.messages
                self.messages[data["id"]] = data
            case "AGENT_EXECUTION_STARTED":
                assert data["taskId"] not in self.running
                self.running.append(data["taskId"])
            case "AGENT_EXECUTION_COMPLETED":
                self._ends(data["taskId"])
            case "AGENT_EXECUTION_FAILED":
                assert data["error"]
                self.failed = True
                self._ends(data["taskId"])
            case "REMOTE_TOOL_REQUEST":
                assert data.keys() == {"requestId", "chatId", "toolName", "toolInput", "timeoutMs"}
            case _:
                raise AssertionError(f"{kind} is none of the six types")

    def _ends(self, task: str) -> None:
        self.ended.append(task)
        if task in self.running:
            self.running.remove(task)

    @property
    def ids(self) -> list[str]:
        return [frame_id for frame_id, _, _ in self.frames]

    @property
    def text(self) -> str:
        """That of the last reply of the run that is shown last."""
        replies = [each for each in self.messages.values() if each["role"] == "assistant" and not each["hidden"]]
        if not replies:
            return ""
        return "".join(part["text"] for part in replies[-1]["content"] if part["type"] == "text")


def read(path: str, data: bytes) -> Reading:
    if "/a2a/" in path:
        return a2a_reading.read(data)
    chat = Chat().read(data)
    over = bool(chat.ended) or chat.sent_away
    return Reading(chat.text, over, chat.failed or chat.sent_away, () if chat.sent_away else tuple(chat.running))


def body(branch: str) -> bytes:
    """A JSON-RPC call that means this branch of an agent's path."""
    method, _, unlike_the_rest = branch.partition(",")
    said = {"role": "user", "messageId": "m1", "parts": [{"kind": "text", "text": "How many?"}]}
    params: dict[str, Any] = {"message": said} if method.startswith("message/") else {"id": "r_1"}
    if unlike_the_rest:
        params["configuration"] = {"blocking": False}
    return json.dumps({"jsonrpc": "2.0", "id": "1", "method": method, "params": params}).encode()
