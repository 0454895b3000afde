"""Requests and turns of the chat route for tests: what a caller sends, and what was said in a turn."""

import json
from typing import Any

from dragoman.core import events as ev
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Outcome, Started
from dragoman.wire.dialect import Request

AT = 1_754_438_400.0
ISO = "2025-08-06T00:00:00.000Z"
NONCE = "0123456789abcdef" * 2
USER = {"role": "user", "content": "hello"}
NO_TOKENS = {"total": 0, "prompt": 0, "completion": 0}

Json = dict[str, Any]


def request(body: Any, **headers: str) -> Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    params = {"projectId": "default"}
    return Request("POST", "/api/v1/default/chat", params, {}, headers, content, "abcdef012345", NONCE, AT)


def text(sender: str, said: str, *, internal: bool = False) -> Message:
    return Message("assistant", (Text(said, hidden=internal),), name=sender)


def calls(sender: str, *names: str, said: str = "", first: int = 1, arguments: str = "{}") -> Message:
    made = tuple(ToolCall(CallId(f"c{first + at}"), name, arguments) for at, name in enumerate(names))
    return Message("assistant", (*([Text(said)] if said else []), *made), name=sender)


def result(call: str, content: str, *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(CallId(call), content, is_error),))


def handed(sender: str, to: str, *, call: int = 1, asked: str = "") -> tuple[Message, Message]:
    """A transfer that went through. `asked`: whom the model named, if that is not who has the word now."""
    arguments = json.dumps({"assistant": asked or to})
    return (
        calls(sender, "transfer_to_agent", first=call, arguments=arguments),
        result(f"c{call}", json.dumps({"assistant": to})),
    )


def outcome(*answered: Message, end: Any = None, usage: Usage = Usage()) -> Outcome:  # noqa: B008 it is frozen
    started = Started(ConversationId("c" * 24), Tape(1), RunId("r_1"), 2, created=True)
    said_at = tuple(AT + at for at in range(len(answered)))
    last = answered[-1].text if answered else ""
    return Outcome(started, end or ev.RunCompleted(usage), last, 1, (), usage, answered, said_at)
