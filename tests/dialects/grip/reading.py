"""Reads Grip's streams as a client does: frames first, then what they mean."""

import json
from typing import Any

from tests.reading import Reading

ORDER = ("start", "token", "tool_start", "tool_end", "message", "done", "error")


def frames(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Every frame, in order; life signs left out. Asserts the framing byte for byte (Q14)."""
    found: list[tuple[str, dict[str, Any]]] = []
    assert data.isascii() and b"\r" not in data
    assert not data or data.endswith(b"\n\n")
    for block in data.decode().split("\n\n")[:-1]:
        if block == ": ping":
            continue
        first, second = block.split("\n")
        assert first.startswith("event: ") and second.startswith("data: ")
        name, value = first.removeprefix("event: "), json.loads(second.removeprefix("data: "))
        assert name in ORDER
        assert second.removeprefix("data: ") == json.dumps(value)
        found.append((name, value))
    return found


def read(path: str, data: bytes) -> Reading:
    """The answer is what the tokens after the last tool frame say; `message` must say the same."""
    assert path == "/api/v1/chat/stream"
    shown = frames(data)
    names = [name for name, _ in shown]
    assert names[0] == "start" and names.count("start") == 1
    text, open_tools, message = "", [], ""
    for name, value in shown:
        match name:
            case "token":
                text += value["text"]
            case "tool_start":
                text = ""
                open_tools.append(value["tool"])
            case "tool_end":
                text = ""
                open_tools.remove(value["tool"])
            case "message":
                message = value["text"]
            case _:
                pass
    ended = names[-1] in ("done", "error")
    assert names.count("done") + names.count("error") == ended
    if names[-1] == "done":
        assert message == text
        assert ("message" in names) == bool(text)
    return Reading(text, ended, names[-1] == "error", tuple(open_tools))
