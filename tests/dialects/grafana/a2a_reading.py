"""Reads A2A's streams as the wire's clients do: line by line, and with the rules by which each of them fails."""

import json
from dataclasses import dataclass
from typing import Any

from tests.reading import Reading

LINE_BYTES_MAX = 1024 * 1024
FINAL = ("completed", "failed", "canceled")


@dataclass(frozen=True)
class Frame:
    """`id` is that of the SSE frame, "" if it has none."""

    id: str
    value: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        return self.value.get("result", {})

    @property
    def kind(self) -> str:
        """A status's state, an artifact's name, a frame's type, or `error`."""
        if "error" in self.value:
            return "error"
        match self.result.get("kind"):
            case "status-update":
                return self.result["status"]["state"]
            case "artifact-update":
                return self.result["artifact"]["name"]
            case _:
                return self.result["type"]

    @property
    def artifact(self) -> str:
        return self.result["artifact"]["artifactId"]

    @property
    def part(self) -> dict[str, Any]:
        (part,) = self.result["artifact"]["parts"]
        return part

    @property
    def data(self) -> dict[str, Any]:
        return self.part["data"]


def frames(data: bytes) -> list[Frame]:
    """Every frame, in order; life signs left out. Asserts the framing (Q8)."""
    found: list[Frame] = []
    assert b"\r" not in data
    assert not data or data.endswith(b"\n\n")
    for block in data.split(b"\n\n")[:-1]:
        if block == b": ping":
            continue
        lines = block.split(b"\n")
        name = lines.pop(0).removeprefix(b"id: ").decode() if lines[0].startswith(b"id: ") else ""
        (line,) = lines
        assert line.startswith(b"data: {") and len(line) < LINE_BYTES_MAX
        frame = Frame(name, json.loads(line.removeprefix(b"data: ")))
        assert frame.value["jsonrpc"] == "2.0"
        assert isinstance(frame.value.get("error", {}).get("data", ""), str)
        if frame.result.get("kind"):
            assert frame.result["taskId"] and frame.result["contextId"]
        found.append(frame)
    return found


def read(data: bytes) -> Reading:
    """The answer is what the step.messages say that come after the last step of tools."""
    shown = frames(data)
    text, failed, ended = "", False, False
    opened: list[str] = []
    deltas: dict[str, str] = {}
    for frame in shown:
        assert not ended, f"{frame} after the last one"
        match frame.kind:
            case "step.message":
                text += frame.part["text"]
                if frame.artifact in deltas:
                    assert frame.artifact in opened
                    assert deltas[frame.artifact] in ("", text)  # a later piece of a long text has no deltas
            case "message.stream.start":
                opened.append(frame.artifact)
                deltas[frame.artifact] = ""
            case "message.content.delta":
                assert frame.artifact in opened
                if frame.data["contentType"] == "text":
                    deltas[frame.artifact] += frame.data["delta"]
            case "message.stream.complete":
                opened.remove(frame.artifact)
            case "error":
                failed = ended = True
            case "completed" | "failed" | "canceled" as state:
                assert frame.result["final"] is True
                failed, ended = state != "completed", True
            case "step.complete" if frame.data["stopReason"] == "end_turn":
                pass
            case "submitted" | "working":
                assert frame.result["final"] is False
            case _:
                text = ""
    return Reading(text, ended, failed, tuple(opened))
