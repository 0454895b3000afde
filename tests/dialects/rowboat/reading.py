"""Reads this wire's streams as clients do, and says what makes a request one of each generation."""

import json
from typing import Any

from tests.reading import Reading

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "How is it?"}]
MEANT: dict[str, dict[str, Any]] = {
    "g1": {"state": None},
    "g15": {"state": None, "mockTools": None},
    "g2": {"conversationId": None},
    "g2_stream": {"stream": True},
    "ambiguous": {},
}
KEYS = {"message": {"type", "data"}, "done": {"type", "conversationId", "turn"}, "error": {"type", "error"}}


def body(branch: str) -> bytes:
    """A request's body that means this branch."""
    return json.dumps({"messages": MESSAGES, **MEANT[branch]}).encode()


def events(data: bytes) -> list[dict[str, Any]]:
    """What each frame says; signs of life left out. Asserts the framing (Q23)."""
    assert not data or data.endswith(b"\n\n")
    told: list[dict[str, Any]] = []
    for block in data.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        name, _, line = block.partition("\n")
        assert name == "event: message" and line.startswith("data: ") and "\n" not in line, block
        event = json.loads(line.removeprefix("data: "))
        assert event.keys() == KEYS[event["type"]]
        told.append(event)
    return told


def read(path: str, data: bytes) -> Reading:
    """The answer is the last message's text. A call without its result is open; the turn holds just what was told."""
    told = events(data)
    kinds = [event["type"] for event in told]
    assert all(kind == "message" for kind in kinds[:-1]), "something comes after the end"
    messages = [event["data"] for event in told if event["type"] == "message"]
    waiting: dict[str, str] = {}
    for message in messages:
        for call in message.get("toolCalls", ()):
            waiting[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            assert waiting.pop(message["toolCallId"]) == message["toolName"]
    last = kinds[-1] if kinds else ""
    text = ""
    if last == "done":
        turn = told[-1]["turn"]
        assert turn["output"] == messages and turn["reason"] == {"type": "api"}
        assert messages[-1]["role"] == "assistant" and messages[-1]["responseType"] == "external"
        text = messages[-1]["content"]
    if last == "error":
        assert isinstance(told[-1]["error"], str) and told[-1]["error"]
        waiting = {}
    return Reading(text, last in ("done", "error"), last == "error", tuple(waiting.values()))
