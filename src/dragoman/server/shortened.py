"""Answers as the demo prints them: what comes, and not all of it."""

import json
from typing import Any, TextIO, cast

LINE_CHARS_MAX = 360
"""Of one line of a stream."""
ANSWER_CHARS_MAX = 1500
"""Of an answer that is not streamed."""
FRAMES_SHOWN = 2
"""Of frames of one kind in a row: so many, then how many more, and the last."""


class Frames:
    """Prints a stream as it comes. What is told many times in a row, each time a little longer, is shown shortened."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rest = ""
        self._kind = ""
        self._count = 0
        self._last = ""

    def add(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n\n")
        for frame in whole:
            kind = kind_of(frame)
            if kind != self._kind:
                self._close()
                self._kind = kind
            self._count += 1
            self._last = frame
            if self._count <= FRAMES_SHOWN:
                self._show(frame)

    def end(self) -> None:
        self._close()
        if self._rest:
            self._show(self._rest, end="\n")

    def _close(self) -> None:
        if (left_out := self._count - FRAMES_SHOWN - 1) > 0:
            self._out.write(f"… {left_out} more like these …\n\n")
        if self._count > FRAMES_SHOWN:
            self._show(self._last)
        self._count = 0

    def _show(self, frame: str, *, end: str = "\n\n") -> None:
        lines = [cut(line, chars_max=LINE_CHARS_MAX) for line in frame.split("\n")]
        self._out.write("\n".join(lines) + end)
        self._out.flush()


def kind_of(frame: str) -> str:
    """What a frame calls itself: its `event:`, or the `type` in its data."""
    fields: dict[str, str] = {}
    for line in frame.split("\n"):
        name, _, value = line.partition(": ")
        fields[name] = value
    try:
        data = json.loads(fields.get("data", ""))
    except ValueError:
        data = None
    said = str(cast("dict[str, Any]", data).get("type", "")) if isinstance(data, dict) else ""
    return fields.get("event", said)


def cut(text: str, *, chars_max: int) -> str:
    """The beginning of a long text, and how long it is."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}… ({len(text)} characters)"
