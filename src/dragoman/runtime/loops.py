"""The rules of a turn's own loop (`core.agents.Loop`): what it begins with, when it must end, how results read. Pure.

Where a wire asks for no loop of its own, nothing of this applies.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.messages import Message, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.runtime.weights import CHARS_PER_TOKEN, beginning

OVER_LIMIT = "Function limit exceeded"
TRUNCATED = "Function response exceeded the maximum length allowed and was truncated"
OVER_LIMIT_NOTE = "I have used up the tool calls that one answer may take, so I have to stop here."


def opening_call(loop: Loop, messages: Sequence[Message]) -> ToolCall | None:
    """The call that the turn is to begin with; None if it needs none: nothing is asked for, the messages end with a
    call, or the tool was called behind the last thing that a person said (elastic spec 4.2, step 1)."""
    if not loop.opening or (messages and messages[-1].calls):
        return None
    for message in reversed(messages):
        if any(call.name == loop.opening for call in message.calls):
            return None
        if message.role == "user":
            break
    return ToolCall(CallId(f"call_{loop.opening}_{len(messages)}"), loop.opening, "{}")


def says(closing: ToolSpec, call: ToolCall) -> str | None:
    """The text that a call of the closing tool carries; None if it is another call, or carries none."""
    if call.name != closing.name:
        return None
    arguments = _object(call.arguments)
    if arguments is None:
        return None
    for name in cast("Sequence[str]", closing.parameters.get("required", ())):
        if isinstance(text := arguments.get(name), str):
            return text
    return None


def closed(closing: ToolSpec, text: str, calls: Sequence[ToolCall]) -> tuple[str, ToolCall | None]:
    """A forced last reply as its text, and the call that carried it. What was said beside it stays; who called
    something else is cut off, and says so."""
    for call in calls:
        said = says(closing, call)
        if said is not None:
            return text + said, call
    if calls or not text:
        return (f"{text}\n\n{OVER_LIMIT_NOTE}" if text else OVER_LIMIT_NOTE), None
    return text, None


def as_result(loop: Loop, content: str, *, is_error: bool, code: str) -> str:
    """A tool's result as this loop's model reads it: within its length and, if the loop has it so, a JSON object. Other
    JSON than an object is wrapped, since some providers refuse it (elastic/kibana#226594)."""
    if loop.json_results:
        content = _as_error(content, code) if is_error else _as_object(content)
    chars_max = loop.result_tokens_max * CHARS_PER_TOKEN
    if not chars_max or len(content) <= chars_max:
        return content
    if not loop.json_results:
        return beginning(content, chars_max)
    return msgspec.json.encode({"message": TRUNCATED, "truncated": beginning(content, chars_max)}).decode()


def _as_object(content: str) -> str:
    if _object(content) is not None:
        return content
    try:
        read = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = content
    return msgspec.json.encode({"response": read}).decode()


def _as_error(content: str, code: str) -> str:
    """What said itself what is wrong, as an object with `error` in it, stays as it is."""
    said = _object(content)
    if said is not None and "error" in said:
        return content
    error = {"name": code or "tool_failed", "message": content}
    return msgspec.json.encode({"error": error, "message": content}).decode()


def _object(text: str) -> dict[str, Any] | None:
    try:
        read = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return cast("dict[str, Any]", read) if isinstance(read, dict) else None


def awaiting(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Calls with which the messages end, and that have no result among them."""
    if not messages or messages[-1].role != "assistant":
        return ()
    return messages[-1].calls


def since_question(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages behind the last thing that a person said: an answer that was begun."""
    asked = [at for at, message in enumerate(messages) if message.role == "user"]
    return messages[asked[-1] + 1 if asked else 0 :]


def called_in(messages: Sequence[Message]) -> frozenset[CallId]:
    """Ids that are taken."""
    ids = [part.call_id for message in messages for part in message.parts if isinstance(part, ToolResult)]
    return frozenset((*ids, *(call.id for message in messages for call in message.calls)))


def results_in(messages: Iterable[Message]) -> dict[CallId, ToolResult]:
    """Results by the calls that they are of."""
    return {part.call_id: part for message in messages for part in message.parts if isinstance(part, ToolResult)}
