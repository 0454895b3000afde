"""Reads this wire's streams as clients do: frames first, then what they mean. Both framings: each says which it is."""

import json
from typing import Any

from tests.reading import Reading

CHUNK_KEYS = ["model", "choices", "created", "id", "object"]
LINES = {
    "chatCompletionChunk": {"type", "id", "message"},
    "chatCompletionMessage": {"type", "id", "message"},
    "messageAdd": {"type", "id", "message"},
    "conversationCreate": {"type", "conversation"},
    "conversationUpdate": {"type", "conversation"},
    "chatCompletionError": {"type", "error"},
    "bufferFlush": {"type", "data"},
}

MESSAGE = {"@timestamp": "2026-01-01T00:00:00.000Z", "message": {"role": "user", "content": "How is it?"}}
PLAIN: dict[str, Any] = {"connectorId": "main", "messages": [MESSAGE], "persist": True}
INSIDE = PLAIN | {"screenContexts": [], "scopes": ["all"]}


def means(branch: str) -> dict[str, Any]:
    """What a request has that means this branch."""
    headers = {"content-type": "application/json", "kbn-xsrf": "true"}
    match branch:
        case "octets":
            return {"headers": headers, "body": _bytes(PLAIN)}
        case "sse":
            return {"headers": headers | {"accept": "text/event-stream"}, "body": _bytes(PLAIN)}
        case "json":
            return {"headers": headers, "body": _bytes(INSIDE | {"isStream": False})}
        case "ndjson":
            return {"headers": headers, "body": _bytes(INSIDE)}
        case _:
            return {"headers": headers, "query": {"format": "default"}, "body": _bytes(PLAIN)}


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def sse(data: bytes) -> list[Any]:
    """What each frame says; "[DONE]" for the last. Asserts the framing (Q2)."""
    assert not data or data.endswith(b"\n\n")
    blocks = [block for block in data.decode().split("\n\n")[:-1] if not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    said = [block.removeprefix("data: ") for block in blocks]
    assert "[DONE]" not in said[:-1]
    return [each if each == "[DONE]" else json.loads(each) for each in said]


def ndjson(data: bytes) -> list[dict[str, Any]]:
    """What each line says but for life signs. Asserts the framing."""
    assert not data or data.endswith(b"\n")
    lines = [json.loads(each) for each in data.decode().split("\n")[:-1]]
    for each in lines:
        assert (
            LINES[each["type"]]
            <= each.keys()
            <= LINES[each["type"]]
            | {
                "deanonymized_input",
                "deanonymized_output",
            }
        )
    return [each for each in lines if each["type"] != "bufferFlush"]


def read(path: str, data: bytes) -> Reading:
    if data.startswith((b"data: ", b":")):
        return _of_chunks(sse(data))
    return _of_events(ndjson(data), alone=path.endswith("/chat"))


def _of_chunks(frames: list[Any]) -> Reading:
    """Text behind a call is of the next reply."""
    text, failed = "", False
    for frame in frames:
        if frame == "[DONE]":
            continue
        assert not failed, "something comes after an error"
        if "error" in frame:
            assert frame["error"].keys() == {"message"} and frame["error"]["message"]
            failed = True
            continue
        assert list(frame) == CHUNK_KEYS
        delta = frame["choices"][0]["delta"]
        text = "" if _calls(delta) else text + delta["content"]
    return Reading(text, bool(frames) and frames[-1] == "[DONE]", failed)


def _calls(delta: dict[str, Any]) -> bool:
    """Whether another reply follows: not behind `exit_loop`, whose text is part of the same one."""
    return "function_call" in delta and delta["function_call"]["name"] != "exit_loop"


def _of_events(lines: list[dict[str, Any]], *, alone: bool) -> Reading:
    """Text behind a call is of the next reply. The end of the body is the end (elastic spec 2), so every one is told of
    it; a conversation or an error is the last line. The calls must all be answered, but those that end the stream."""
    text, failed = "", False
    for at, each in enumerate(lines):
        assert not failed, "something comes after an error"
        if each["type"] == "chatCompletionChunk":
            text = "" if _calls(each["message"]) else text + each["message"]["content"]
        failed = each["type"] == "chatCompletionError"
        if each["type"].startswith("conversation"):
            assert at == len(lines) - 1
    if alone:
        assert {each["type"] for each in lines} <= {
            "chatCompletionChunk",
            "chatCompletionMessage",
            "chatCompletionError",
            "conversationCreate",
            "conversationUpdate",
        }
    return Reading(text, True, failed)
