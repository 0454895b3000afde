"""A model that says what a script tells it: for tests, demos, and trying out clients. Fits `runtime.ports.Model`.

A script is a TOML file of replies. The first one that fits the last message and is not used up is given:

    [[reply]]
    match = "weather"               # of the last user message or tool result: this text, or this regular expression
    choice = "title_conversation"   # only for a prompt that must call this tool; see below
    times = 1                       # then it is used up; left out: never
    thinking = ["Let me see. "]
    text = ["It is ", "sunny."]     # pieces of a stream; or one text
    calls = [{ name = "read_file", arguments = { path = "a.txt" } }]
    delay_s = 0.2                   # before the reply and between its pieces
    fault = "upstream_failed"       # or "truncated", …; the reply breaks off
    fault_after = 1                 # after so many pieces
    retry_after_s = 2.0
    usage = { prompt_tokens = 5, completion_tokens = 3 }
    finish_reason = "stop"

If none fits the answer is "Echo: " and the last user message. A prompt that must call a tool (`Prompt.choice`) is given
no other rows than those of that `choice`, and those without one that call it: a title that is asked for beside the
reply takes no reply away.
"""

import re
import tomllib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

from dragoman.core.errors import BackendFailed, BadRequest, FieldFault
from dragoman.core.messages import Message, ToolCall, ToolResult, Usage
from dragoman.core.names import CallId
from dragoman.models.words import counted, in_words, last_asked
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece, ThinkingPiece

DELAY_S_MAX = 600.0
SCRIPT_BYTES_MAX = 1024 * 1024

FAULTS = {
    "upstream_unreachable": True,
    "upstream_refused": False,
    "upstream_limited": True,
    "upstream_failed": True,
    "upstream_idle": True,
    "upstream_malformed": True,
    "upstream_truncated": True,
    "upstream_too_long": False,
}
"""Codes a script may fail with, and whether asking again helps then. Each may be written without `upstream_`."""

NAME = "scripted"

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<place>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>[^`]*)`")


class ScriptedCall(Struct, frozen=True, forbid_unknown_fields=True):
    """`arguments` is a table, or a text that is handed on as it is and need not be JSON."""

    name: str
    arguments: dict[str, Any] | str = {}
    id: str = ""


class ScriptedReply(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a script; see the module's docstring."""

    text: tuple[str, ...] | str = ()
    calls: tuple[ScriptedCall, ...] = ()
    thinking: tuple[str, ...] | str = ()
    match: str = ""
    choice: str = ""
    times: Annotated[int, Meta(ge=1)] | None = None
    delay_s: Annotated[float, Meta(ge=0, le=DELAY_S_MAX)] = 0.0
    fault: str = ""
    fault_after: Annotated[int, Meta(ge=0)] = 0
    retry_after_s: Annotated[float, Meta(ge=0)] | None = None
    usage: Usage | None = None
    """None: words are counted."""
    finish_reason: str = ""
    """"": stop, or tool_calls if there are calls."""


class Scripted:
    """Gives the replies of one script; what is used up stays so as long as this object lives."""

    def __init__(
        self, replies: Sequence[ScriptedReply], *, sleep: Callable[[float], Awaitable[None]], name: str = "script"
    ) -> None:
        """Raises BadRequest naming the script, the row (from 1) and the key if a row cannot be used."""
        for number, reply in enumerate(replies, 1):
            if reply.fault and _fault_code(reply.fault) not in FAULTS:
                known = ", ".join(code.removeprefix("upstream_") for code in FAULTS)
                raise _bad(name, number, "fault", f"there is no fault {reply.fault!r}; there are: {known}")
        self._replies = tuple(replies)
        self._left = [reply.times for reply in replies]
        self._sleep = sleep

    @classmethod
    def from_file(cls, path: Path, *, sleep: Callable[[float], Awaitable[None]]) -> "Scripted":
        """Raises BadRequest naming the row and the key of what is wrong with the file."""
        try:
            body = path.read_bytes()
        except OSError as error:
            raise BadRequest(f"{path.name}: the script cannot be read: {error.strerror}", internal=str(path)) from None
        if len(body) > SCRIPT_BYTES_MAX:
            raise BadRequest(f"{path.name}: the script is longer than {SCRIPT_BYTES_MAX} bytes")
        try:
            table = tomllib.loads(body.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"{path.name}: the script is not TOML: {error}") from None
        return cls(_rows(table, path.name), sleep=sleep, name=path.name)

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port."""
        scripted = self._choose(_last_said(prompt.messages), "" if prompt.choice == "auto" else prompt.choice)
        if scripted is None:
            scripted = ScriptedReply(text=tuple(in_words(f"Echo: {last_asked(prompt.messages)}")))
        said: list[ReplyPiece] = [
            *map(ThinkingPiece, _pieces(scripted.thinking)),
            *map(TextPiece, _pieces(scripted.text)),
        ]
        for number, piece in enumerate(said):
            await self._pause(scripted)
            if scripted.fault and number == scripted.fault_after:
                raise _failure(scripted)
            if stream:
                yield piece
        if not said:
            await self._pause(scripted)
        if scripted.fault:
            raise _failure(scripted)
        text = "".join(_pieces(scripted.text))
        yield ReplyDone(
            text,
            tuple(_call(call, number) for number, call in enumerate(scripted.calls, 1)),
            scripted.usage or counted(prompt.messages, text),
            scripted.finish_reason or ("tool_calls" if scripted.calls else "stop"),
            "".join(_pieces(scripted.thinking)),
            prompt.model_name or NAME,
        )

    async def close(self) -> None: ...

    async def _pause(self, scripted: ScriptedReply) -> None:
        if scripted.delay_s:
            await self._sleep(scripted.delay_s)

    def _choose(self, said: str, choice: str) -> ScriptedReply | None:
        for at, reply in enumerate(self._replies):
            left = self._left[at]
            if left != 0 and _is_for(reply, choice) and _fits(reply.match, said):
                if left is not None:
                    self._left[at] = left - 1
                return reply
        return None


def _is_for(reply: ScriptedReply, choice: str) -> bool:
    if reply.choice or not choice:
        return reply.choice == choice
    return any(call.name == choice for call in reply.calls)


def _fits(pattern: str, said: str) -> bool:
    if pattern in said:
        return True
    try:
        return re.search(pattern, said) is not None
    except re.error:  # meant as a text
        return False


def _last_said(messages: Sequence[Message]) -> str:
    """The last tool result if the prompt ends with one, else the last user message."""
    if messages and messages[-1].role == "tool":
        results = [part.content for part in messages[-1].parts if isinstance(part, ToolResult)]
        return results[-1] if results else ""
    return last_asked(messages)


def _pieces(text: tuple[str, ...] | str) -> tuple[str, ...]:
    pieces = (text,) if isinstance(text, str) else text
    return tuple(piece for piece in pieces if piece)


def _call(call: ScriptedCall, number: int) -> ToolCall:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(CallId(call.id or f"call_{number}"), call.name, arguments)


def _fault_code(fault: str) -> str:
    return fault if fault.startswith("upstream_") else f"upstream_{fault}"


def _failure(scripted: ScriptedReply) -> BackendFailed:
    code = _fault_code(scripted.fault)
    return BackendFailed(
        "The scripted model fails here, as its script says.",
        code=code,
        retryable=FAULTS[code],
        retry_after_s=scripted.retry_after_s,
        internal=f"fault = {scripted.fault!r}",
    )


def _rows(table: dict[str, Any], file: str) -> list[ScriptedReply]:
    others = [key for key in table if key != "reply"]
    if others:
        raise BadRequest(f"{file}: {others[0]}: a script holds nothing but [[reply]] rows")
    rows: Any = table.get("reply", [])
    if not isinstance(rows, list):
        raise BadRequest(f"{file}: reply: write [[reply]], with two brackets, before each row")
    replies: list[ScriptedReply] = []
    for number, row in enumerate(cast("list[Any]", rows), 1):
        try:
            replies.append(msgspec.convert(row, ScriptedReply))
        except msgspec.ValidationError as error:
            raise _misshapen(file, number, str(error)) from None
    return replies


def _misshapen(file: str, row: int, said: str) -> BadRequest:
    found = _PLACE.match(said)
    what, place = (found["what"], found["place"] or "") if found else (said, "")
    unknown = _UNKNOWN_KEY.search(what)
    if unknown is None:
        return _bad(file, row, place or "row", what[0].lower() + what[1:].replace("`", ""))
    key = unknown["key"]
    nearest = get_close_matches(key, (*ScriptedReply.__struct_fields__, *ScriptedCall.__struct_fields__), n=1)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    return _bad(file, row, f"{place}.{key}" if place else key, f"there is no such key{hint}")


def _bad(script: str, row: int, key: str, why: str) -> BadRequest:
    return BadRequest(f"{script}: reply {row}: {key}: {why}", faults=[FieldFault(f"reply.{row}.{key}", why)])
