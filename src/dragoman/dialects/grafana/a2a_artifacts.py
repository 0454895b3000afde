"""The pieces that A2A's frames are made of: statuses, artifacts, and texts cut to what a client's line holds. Pure."""

from typing import Any, Literal, assert_never, cast

import msgspec
from msgspec import UNSET

from dragoman.core import events as ev
from dragoman.core.messages import ToolCall
from dragoman.core.operations import Started
from dragoman.dialects.grafana import a2a_shapes as shapes
from dragoman.dialects.grafana import ids
from dragoman.dialects.grafana.a2a_shapes import Artifact, ArtifactUpdate, DataPart, State, StatusUpdate, TextPart
from dragoman.dialects.grafana.messages import object_of
from dragoman.dialects.grafana.times import rfc3339

TEXT_BYTES_MAX = 512 * 1024
"""Of one message artifact's text as JSON. Clients read lines below 1 MiB (Q8)."""
RESULT_CHARS_MAX = 20_000
"""Of a tool's result as step.toolResult shows it."""
ASKED_CHARS_MAX = 1_000
"""Of a call's arguments in the question whether it may be made."""
INPUT_CHARS_MAX = 64 * 1024
"""Of a call's arguments as frames show them; longer ones are shown as the beginning of their text."""

_BREAKS = ("\n\n", "\n", " ")
"""Where a text that is too long is cut, the best place first."""

_FAILURE_PHRASES = {
    "token_limit": "LLM token limit reached.",
    "upstream_limited": "The limit of the model's provider is reached.",
}
"""k6 Studio tells a spent quota by the words `limit … reached`."""


# -- statuses --------------------------------------------------------------------------------------------------------


def status(
    started: Started, state: State, *, at: float | None = None, text: str = "", final: bool = False
) -> StatusUpdate:
    """A status frame. Q4: each names task and context."""
    return StatusUpdate(started.run, started.conversation, status_of(started, state, at=at, text=text), final)


def status_of(started: Started, state: State, *, at: float | None = None, text: str = "") -> shapes.Status:
    message = UNSET
    if text:
        message = shapes.AgentMessage(
            "agent", f"{started.run}-{state}", (TextPart(text),), started.conversation, started.run
        )
    return shapes.Status(state, UNSET if at is None else rfc3339(at), message)


def state_of(end: ev.RunEnd) -> State:
    """A run that needs its client is done with as far as this wire can tell: it has no state for it that clients end
    a turn on (Q4)."""
    match end:
        case ev.RunCompleted() | ev.RunNeedsClient():
            return "completed"
        case ev.RunFailed():
            return "failed"
        case ev.RunCancelled():
            return "canceled"
        case _:
            assert_never(end)


def end_text(end: ev.RunEnd) -> str:
    """What a person is told about an end that is not the good one."""
    match end:
        case ev.RunCompleted() | ev.RunNeedsClient():
            return ""
        case ev.RunFailed():
            phrase = _FAILURE_PHRASES.get(end.code, "")
            return f"{end.detail} {phrase}".strip() or "The assistant could not answer."
        case ev.RunCancelled():
            return "The task was cancelled."
        case _:
            assert_never(end)


# -- artifacts -------------------------------------------------------------------------------------------------------


def artifact(
    started: Started, artifact_id: str, name: str, *parts: TextPart | DataPart, **metadata: Any
) -> ArtifactUpdate:
    return ArtifactUpdate(
        started.run, started.conversation, Artifact(f"{started.run}-{artifact_id}", name, parts, metadata or UNSET)
    )


def delta(started: Started, artifact_id: str, text: str, kind: Literal["text", "thinking"]) -> list[ArtifactUpdate]:
    return [
        artifact(started, artifact_id, "message.content.delta", DataPart(shapes.DeltaData(piece, kind)))
        for piece in pieces_of(text)
    ]


def tool_call(call: ToolCall) -> DataPart:
    return DataPart(shapes.ToolCallData(call.id, call.name, inputs_of(call)))


def tool_result(event: ev.ToolReturned, name: str) -> DataPart:
    content = event.content
    if len(content) > RESULT_CHARS_MAX:
        content = content[:RESULT_CHARS_MAX] + "…"
    return DataPart(shapes.ToolResultData(event.call_id, name, content, event.is_error, event.duration_ms))


def approval(started: Started, event: ev.ApprovalRequested, *, at: float) -> DataPart:
    """`tenantId` and `userId` are only ever echoed: who decides is told by the credential. The command line shows
    nothing but the tool's name, a dash, the description and a question mark: so the arguments stand in it."""
    call = event.call
    seconds = max(0, round(event.expires_at - at))
    sentence = (
        f"it would run with {_asked_about(call)}; decide within {seconds} s, by {rfc3339(event.expires_at)}"
        " (no answer counts as no)"
    )
    asked = shapes.ApprovalData(
        id=ids.approval_id(started.run, call.id, event.arguments_hash),
        chat_id=started.conversation,
        tenant_id="",
        user_id="",
        tool_name=call.name,
        tool_input=_plain_inputs(call),
        description=sentence,
    )
    return DataPart(asked)


def _asked_about(call: ToolCall) -> str:
    """The arguments on one line, as they are understood: of a name that stands twice, the value that counts."""
    inputs = object_of(call.arguments)
    try:
        text = call.arguments if inputs is None else msgspec.json.encode(inputs).decode()
    except RecursionError:
        text = call.arguments
    plain = "".join(char if char.isprintable() else _escaped(char) for char in text)
    left = len(plain) - ASKED_CHARS_MAX
    return plain if left <= 0 else f"{plain[:ASKED_CHARS_MAX]}… (and {left:,} more characters, which are not shown)"


def _plain_inputs(call: ToolCall) -> dict[str, Any] | str:
    try:
        return _plain(inputs_of(call))
    except RecursionError:
        return _plain(call.arguments[:INPUT_CHARS_MAX])


def _plain(value: Any) -> Any:
    """The same with every character that a terminal or a page would act on, or not show, written out: whoever decides
    must see what is there. Line ends and tabs stay."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in cast("dict[str, Any]", value).items()}
    return [_plain(inner) for inner in cast("list[Any]", value)] if isinstance(value, list) else value


def _escaped(char: str) -> str:
    """As JSON writes it."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def remote_request(started: Started, event: ev.ClientToolRequested, *, at: float) -> shapes.RemoteToolRequest:
    call = event.call
    inputs = object_of(call.arguments)
    timeout_ms = max(0, round((event.expires_at - at) * 1000))
    return shapes.RemoteToolRequest(
        shapes.RemoteToolCall(
            ids.request_id(started.run, call.id), started.conversation, call.name, inputs or {}, timeout_ms
        )
    )


def inputs_of(call: ToolCall) -> dict[str, Any] | str:
    if len(call.arguments) > INPUT_CHARS_MAX:
        return call.arguments[:INPUT_CHARS_MAX] + "…"
    inputs = object_of(call.arguments)
    return call.arguments if inputs is None else inputs


# -- long texts ------------------------------------------------------------------------------------------------------


def pieces_of(text: str) -> list[str]:
    """The text, in as many pieces as clients' lines need; joined they are the text. No piece for an empty one."""
    pieces: list[str] = []
    while text:
        size = _fitting(text)
        if size < len(text):
            size = _cut(text, size)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def _fitting(text: str) -> int:
    """How many of the first characters surely fit; all of them if they do."""
    size = min(len(text), TEXT_BYTES_MAX)
    while size * 6 > TEXT_BYTES_MAX:  # no character takes more than six bytes of JSON
        over = len(msgspec.json.encode(text[:size])) / TEXT_BYTES_MAX
        if over <= 1:
            break
        size = int(size / over)
    return size


def _cut(text: str, size: int) -> int:
    """The best place to cut in the last quarter before `size`, behind the break."""
    for mark in _BREAKS:
        at = text.rfind(mark, size - size // 4, size)
        if at >= 0:
            return at + len(mark)
    return size
