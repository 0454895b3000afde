"""One turn as it happens, on a terminal: the answer's text on stdout; tool calls, one line each, and the sum on stderr.

It is fed either from a tape (entries) or from a server's stream of frames, and keeps what `--json` prints at the end.
"""

import json
import sys
from dataclasses import dataclass, field
from typing import Any, assert_never, cast

from dragoman.cli.terminal import dim, note, printable, say, shorten
from dragoman.cli.times import fine
from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.workflows import TRANSFER, Handing
from dragoman.runtime.keeping import status_of

ARGUMENTS_CHARS_MAX = 70
RESULT_CHARS_MAX = 60


@dataclass
class ToolLine:
    """One call as it is reported. `ms` is None where the server does not say."""

    name: str
    ms: int | None = None
    is_error: bool = False


@dataclass
class Report:
    """`quiet` prints nothing as it goes. `status`: completed, failed, cancelled, needs_client, left; "" = not
    over yet."""

    quiet: bool = False
    conversation: str = ""
    run: str = ""
    status: str = ""
    code: str = ""
    detail: str = ""
    text: str = ""
    steps: int = 0
    tools: list[ToolLine] = field(default_factory=list[ToolLine])
    usage: Usage = field(default_factory=Usage)
    began_at: float = 0.0
    ended_at: float = 0.0
    _calls: dict[str, ToolCall] = field(default_factory=dict[str, ToolCall])
    _shown: int = 0
    """Characters of the reply being written that are on the screen."""
    _open_line: bool = False

    # -- from a tape -----------------------------------------------------------------------------------------------

    def entry(self, entry: Entry) -> None:
        event = entry.event
        self.began_at = self.began_at or entry.at
        self.ended_at = entry.at
        match event:
            case ev.ReplyStarted():
                self.text, self._shown = "", 0
            case ev.TextAdded(text=text):
                self._add(text)
            case ev.ReplyFinished():
                self._reply(event)
            case ev.ToolStarted(call=call) | ev.ClientToolRequested(call=call) | ev.CallAdded(call=call):
                self._calls[call.id] = call
            case ev.ToolReturned():
                self._returned(event)
            case ev.HandedOver():
                self._note(f"  handed over {handing(event)}")
            case ev.AttemptReset():
                self._void()
            case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
                self._end(event)
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.RunClaimed()
                | ev.ThinkingAdded()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.TitleGiven()
                | ev.CancelAsked()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                pass
            case _:
                assert_never(event)

    def _reply(self, event: ev.ReplyFinished) -> None:
        self.steps += 1
        self._add(event.text[self._shown :])
        self.text = event.text
        self._calls.update((call.id, call) for call in event.calls)
        self._close_line()

    def _returned(self, event: ev.ToolReturned) -> None:
        call = self._calls.get(event.call_id)
        line = ToolLine(call.name if call else "?", event.duration_ms, event.is_error)
        self.tools.append(line)
        if call is not None and call.name == TRANSFER and not event.is_error:
            return  # the line of the hand-over says it
        arguments = shorten(call.arguments, chars_max=ARGUMENTS_CHARS_MAX) if call else ""
        result = f"{event.code or 'error'}: {first_line(event.content)}" if event.is_error else size_of(event.content)
        self._note(f"  {line.name}  {arguments}   {event.duration_ms} ms  {result}")

    def _void(self) -> None:
        if self._shown:
            self._close_line()
            self._note("  (that answer was cut off; it is being asked for again)")
        self.text, self._shown = "", 0

    def _end(self, event: ev.RunEnd) -> None:
        self._close_line()
        self.usage = event.usage
        self.status = status_of(event)
        if isinstance(event, ev.RunFailed):
            self.code, self.detail = event.code, event.detail

    # -- from a server's frames ------------------------------------------------------------------------------------

    def frame(self, event: str, data: dict[str, Any], *, now: float) -> None:
        """A frame of `POST /api/v1/chat/stream`: start, tool_start, tool_end, token, message, done, error.

        A server sends the text as `token` pieces and again, whole, as `message`; either may be missing.
        """
        self.began_at = self.began_at or now
        self.ended_at = now
        if event == "start":
            self.conversation = str(data.get("session_key", ""))
        elif event == "token":
            self._add(str(data.get("text", "")))
        elif event == "message":
            text = str(data.get("text", ""))
            self._add(text[self._shown :])
            self.text = text
        elif event == "tool_start":
            self._close_line()
            self.text, self._shown = "", 0
            self.tools.append(ToolLine(str(data.get("tool", "?"))))
            self._note(f"  {self.tools[-1].name}")
        elif event == "done":
            usage = cast("dict[str, Any]", data.get("usage") or {})
            self.steps = int(data.get("iterations", 0))
            self.usage = Usage(int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
            self.status = "completed"
            self._close_line()
        elif event == "error":
            self.status, self.code = "failed", "upstream_failed"
            self.detail = str(data.get("detail", "the server says no more"))
            self._close_line()

    # -- on the screen ---------------------------------------------------------------------------------------------

    def _add(self, text: str) -> None:
        if not text:
            return
        self.text += text
        self._shown += len(text)
        if not self.quiet:
            say(printable(text), nl=False)
            sys.stdout.flush()
            self._open_line = not text.endswith("\n")

    def _close_line(self) -> None:
        if self._open_line:
            say()
            self._open_line = False

    def _note(self, line: str) -> None:
        self._close_line()
        if not self.quiet:
            note(dim(line))

    def left(self) -> None:
        """Nothing more will be read, though the run may go on."""
        self._close_line()
        self.status = self.status or "left"

    def sum(self) -> str:
        """The closing line: what it took, and how to look closer."""
        parts = [
            f"run {self.run}" if self.run else "",
            "" if self.status == "completed" else self.status,
            _count(self.steps, "step"),
            _count(len(self.tools), "tool"),
            fine(max(0.0, self.ended_at - self.began_at)),
            f"{self.usage.prompt_tokens} in / {self.usage.completion_tokens} out tokens",
            f"    (dragoman runs show {self.run})" if self.run else "",
        ]
        return "  ".join(part for part in parts if part)

    def as_json(self) -> str:
        return json.dumps(
            {
                "conversation": self.conversation,
                "run": self.run or None,
                "status": self.status,
                "text": self.text,
                "steps": self.steps,
                "tools": [{"name": line.name, "ms": line.ms, "error": line.is_error} for line in self.tools],
                "seconds": round(max(0.0, self.ended_at - self.began_at), 3),
                "usage": {
                    "prompt_tokens": self.usage.prompt_tokens,
                    "completion_tokens": self.usage.completion_tokens,
                },
                "error": {"code": self.code, "detail": self.detail} if self.status == "failed" else None,
            },
            indent=2,
            ensure_ascii=False,
        )


_HANDING = {
    Handing.TRANSFERRED: "",
    Handing.CALLED: ", who reports back",
    Handing.ENTERED: ", the first step",
    Handing.STEPPED: ", the next step",
    Handing.RETURNED: ", who had called",
    Handing.RESTARTED: ", where the workflow starts",
}


def handing(event: ev.HandedOver) -> str:
    """Who handed over to whom, and how."""
    where = f" of {event.pipeline}" if event.how in (Handing.ENTERED, Handing.STEPPED) else ""
    return f"from {event.from_agent} to {event.to_agent}{_HANDING[event.how]}{where}"


def first_line(text: str) -> str:
    return shorten(text.strip().split("\n", 1)[0], chars_max=RESULT_CHARS_MAX)


def size_of(text: str) -> str:
    """How much a tool returned, for the one line it gets."""
    lines = text.count("\n") + 1 if text.strip() else 0
    return first_line(text) if lines == 1 else f"{lines} lines"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
