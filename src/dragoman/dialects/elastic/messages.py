"""Messages of this wire <-> ours.

    wire                                        ours
    user, without a name                        user
    user or function, with a name               a tool's result, of the latest call of that name (Q15)
    assistant, function_call with a name        assistant that calls a tool
    assistant, otherwise                        assistant
    system, elastic                             system

What ours has no place for goes into `Message.aside`: the time as it was spelled, and every field that a message of ours
would not by itself be told with. So what comes in goes out again just as it was: `wire_messages` undoes
`core_messages`. Asides are kept with conversations, so what a message is told with by itself must not change.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from dragoman.core.messages import Masked, Message, Part, Role, Text, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.dialects.elastic.errors import in_stream

OPENING = "context"
"""The tool that a turn begins with by itself. Its calls are told without arguments (elastic spec 2)."""
QUERY = "query"
FOLDED = frozenset({QUERY, "visualize_query", "execute_query"})
"""Messages of these tools behind a result of `query` are part of that result (elastic spec 1.3)."""

WireRole = Literal["system", "assistant", "function", "user", "elastic"]
Trigger = Literal["assistant", "user", "elastic"]

# -- shapes ------------------------------------------------------------------------------------------------------------


class Entity(Struct, frozen=True, forbid_unknown_fields=True):
    class_name: str
    value: str
    mask: str


class Deanonymization(Struct, frozen=True, forbid_unknown_fields=True):
    """Where in a message's content a value stands that no model was told. Offsets count UTF-16 units, from 0."""

    start: int
    end: int
    entity: Entity


class FunctionCall(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`arguments` is JSON text. An empty name: no call."""

    name: str
    trigger: Trigger
    arguments: str | UnsetType = UNSET


class WireBody(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is said. `name` makes it a tool's result; `data` is JSON text for a user interface."""

    role: WireRole
    content: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    event: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET
    deanonymizations: tuple[Deanonymization, ...] | UnsetType = UNSET
    """Not in what the public route takes."""


class WireMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One message. `timestamp` is kept as it is spelled."""

    timestamp: str = field(name="@timestamp")
    message: WireBody


class _Aside(Struct, frozen=True, omit_defaults=True, tag="elastic", tag_field="wire"):
    """What a message was told with besides what ours says: `fields` are those of WireBody that are other than by
    themselves, `absent` names those that were not there. `steps` are the messages folded into a result."""

    timestamp: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    absent: tuple[str, ...] = ()
    steps: tuple[WireMessage, ...] = ()


NO_CALL = FunctionCall("", "assistant", "")
"""What a plain text of an assistant is told with (elastic spec 2)."""

_aside_decoder = msgspec.json.Decoder(_Aside)


def iso(at: float) -> str:
    """Unix seconds as this wire writes times: UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- wire to ours ------------------------------------------------------------------------------------------------------


def call_id(position: int) -> CallId:
    """Six hex digits that tell the calls of one request apart, by the place of their message (elastic spec 1.3)."""
    # An odd factor: no two places below 2^24 have the same digits.
    return CallId(f"{(position + 1) * 0x9E3779B1 % 0x1000000:06x}")


def core_messages(wire: Sequence[WireMessage]) -> tuple[Message, ...]:
    """Raises BadRequest, to be said in the stream, for a result without a call and a `function` without a name."""
    ids: dict[str, CallId] = {}
    names: dict[CallId, str] = {}
    messages: list[Message] = []
    position = 0
    while position < len(wire):
        told = wire[position]
        call = _call_of(told.message)
        if call is not None:
            ids[call.name] = call_id(position)
            names[call_id(position)] = call.name
        steps = _steps_behind(wire, position)
        messages.append(_core(told, position, ids, names, steps))
        position += 1 + len(steps)
    return tuple(messages)


def is_result(said: WireBody) -> bool:
    """A result of a tool (Q15)."""
    return said.role in ("user", "function") and bool(said.name)


def _call_of(said: WireBody) -> FunctionCall | None:
    """The call of a message that is one."""
    if said.role == "assistant" and said.function_call and said.function_call.name:
        return said.function_call
    return None


def _core(
    told: WireMessage,
    position: int,
    ids: Mapping[str, CallId],
    names: Mapping[CallId, str],
    steps: Sequence[WireMessage],
) -> Message:
    said = told.message
    role: Role
    parts: tuple[Part, ...] = (Text(said.content),) if said.content else ()
    if is_result(said):
        role, parts = "tool", (_result(said, position, ids, steps),)
    elif said.role == "function":
        raise in_stream("Unsupported message type: function", place=f"messages.{position}.message.role")
    elif said.role in ("system", "elastic"):
        role = "system"
    elif said.role == "assistant":
        role = "assistant"
        if (call := _call_of(said)) is not None:
            parts = (*parts, ToolCall(ids[call.name], call.name, call.arguments or "{}"))
    else:
        role = "user"
    message = Message(role, parts)
    return Message(role, parts, aside=_aside(told, _by_itself(message, names), steps))


def _result(said: WireBody, position: int, ids: Mapping[str, CallId], steps: Sequence[WireMessage]) -> ToolResult:
    name = said.name or ""
    if name not in ids:
        place = f"messages.{position}.message.name"
        raise in_stream(f"Could not find tool call request for {name}", place=place)
    content = said.content or ""
    if steps:
        content = _with_steps(content, steps)
    elif content.lstrip()[:1] == "[" and isinstance(read := _json(content), list):
        # Some providers take no array for a result (elastic/kibana#226594).
        content = msgspec.json.encode({"response": read}).decode()
    return ToolResult(ids[name], content, shown=said.data or "")


def _aside(told: WireMessage, by_itself: WireBody, steps: Sequence[WireMessage]) -> str:
    fields: dict[str, Any] = {}
    absent: tuple[str, ...] = ()
    if told.message != by_itself:  # mostly they are the same, and a request can tell thousands of messages
        said, plain = _fields(told.message), _fields(by_itself)
        fields = {name: value for name, value in said.items() if plain.get(name) != value}
        absent = tuple(name for name in plain if name not in said)
    return msgspec.json.encode(_Aside(told.timestamp, fields, absent, tuple(steps))).decode()


def _aside_of(message: Message) -> _Aside | None:
    """None for a message that did not come by this wire."""
    try:
        return _aside_decoder.decode(message.aside) if message.aside else None
    except msgspec.MsgspecError:
        return None


def _fields(said: WireBody) -> dict[str, Any]:
    return cast("dict[str, Any]", msgspec.to_builtins(said))


# -- steps of `query` --------------------------------------------------------------------------------------------------


def _steps_behind(wire: Sequence[WireMessage], position: int) -> Sequence[WireMessage]:
    """The messages to be folded into the result at `position`. A call at the very end is still to be made."""
    said = wire[position].message
    if not is_result(said) or said.name != QUERY or not isinstance(_json(said.content or "{}"), dict):
        return ()
    end = position + 1
    while end < len(wire) and _tool_of(wire[end].message) in FOLDED:
        end += 1
    if end == len(wire) and _call_of(wire[-1].message) is not None:
        end -= 1
    return wire[position + 1 : max(end, position + 1)]


def _tool_of(said: WireBody) -> str:
    """The tool whose call or result that is."""
    if is_result(said):
        return said.name or ""
    call = _call_of(said)
    return call.name if call else ""


def _with_steps(content: str, steps: Sequence[WireMessage]) -> str:
    value = {**_json(content or "{}"), "steps": [_step(told.message, at) for at, told in enumerate(steps)]}
    return msgspec.json.encode(value).decode()


def _step(said: WireBody, at: int) -> dict[str, Any]:
    if is_result(said):
        return {"role": "tool", "name": said.name, "response": _json(said.content or "{}")}
    call = _call_of(said) or NO_CALL
    function = {"name": call.name, "arguments": _json(call.arguments or "{}")}
    called = [{"toolCallId": call_id(at), "function": function}]
    return {"role": "assistant", "content": said.content or "", "toolCalls": called}


def _json(text: str) -> Any:
    """The text itself if it is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


# -- ours to wire ------------------------------------------------------------------------------------------------------


def wire_messages(turns: Sequence[TurnView]) -> tuple[WireMessage, ...]:
    """Everything that was said, as this wire tells it: each call by itself, its result right behind it."""
    names: dict[CallId, str] = {}
    return tuple(told for turn in turns for told in _of_turn(turn, names))


def _of_turn(turn: TurnView, names: dict[CallId, str]) -> Iterator[WireMessage]:
    said_at = turn.said_at or (turn.at,) * len(turn.answered)
    rows = [*((message, turn.at) for message in turn.asked), *zip(turn.answered, said_at, strict=True)]
    for message, at in _paired(rows):
        names.update({call.id: call.name for call in message.calls})
        if message.is_internal:
            continue
        if message.role == "tool" and not _name_of_result(message, names):
            continue  # nobody called for it: this wire could only tell it as something that the user said
        yield from _told(message, at, names, turn.masked)


def _paired(rows: Sequence[tuple[Message, float]]) -> Iterator[tuple[Message, float]]:
    """Messages with one call at most, a result behind its call: of several calls at once each comes with its own."""
    waiting: list[tuple[Message, float]] = []
    for at, (message, said_at) in enumerate(rows):
        if message.role == "tool" and any(message is each for each, _ in waiting):
            waiting = [row for row in waiting if row[0] is not message]
            continue
        if len(message.calls) < 2:
            yield message, said_at
            continue
        results = list(_results_behind(rows, at))
        texts = tuple(part for part in message.parts if not isinstance(part, ToolCall))
        for number, call in enumerate(message.calls):
            yield Message("assistant", (*(() if number else texts), call)), said_at
            mine = [row for row in results if _answers(row[0], call)]
            yield from mine
            waiting.extend(mine)


def _results_behind(rows: Sequence[tuple[Message, float]], at: int) -> Iterator[tuple[Message, float]]:
    for row in rows[at + 1 :]:
        if row[0].role != "tool":
            return
        yield row


def _answers(message: Message, call: ToolCall) -> bool:
    return any(isinstance(part, ToolResult) and part.call_id == call.id for part in message.parts)


def _told(message: Message, at: float, names: Mapping[CallId, str], masked: Sequence[Masked]) -> Iterator[WireMessage]:
    said = _by_itself(message, names)
    aside = _aside_of(message)
    if aside is None:
        yield WireMessage(iso(at), _unmasked(said, masked))
        return
    if aside.fields or aside.absent:
        fields = {name: value for name, value in _fields(said).items() if name not in aside.absent} | aside.fields
        said = msgspec.convert(fields, WireBody)
    yield WireMessage(aside.timestamp, _unmasked(said, masked))
    yield from aside.steps


def _by_itself(message: Message, names: Mapping[CallId, str]) -> WireBody:
    """A message as it is told when nothing is known of how it was spelled."""
    match message.role:
        case "system":
            return WireBody("system", message.text)
        case "user":
            return WireBody("user", message.text)
        case "tool":
            return _told_result(message, names)
        case "assistant":
            calls = message.calls
            return WireBody("assistant", message.text, function_call=told_call(calls[0]) if calls else NO_CALL)


def told_call(call: ToolCall) -> FunctionCall:
    if call.name == OPENING:
        return FunctionCall(call.name, "assistant")
    return FunctionCall(call.name, "assistant", call.arguments)


def told_result(name: str, content: str, shown: str) -> WireBody:
    return WireBody("user", content, name, data=shown or UNSET)


def _told_result(message: Message, names: Mapping[CallId, str]) -> WireBody:
    result = _result_in(message)
    return told_result(_name_of_result(message, names), result.content, result.shown)


def _result_in(message: Message) -> ToolResult:
    for part in message.parts:
        if isinstance(part, ToolResult):
            return part
    return ToolResult(CallId(""), "")


def _name_of_result(message: Message, names: Mapping[CallId, str]) -> str:
    return names.get(_result_in(message).call_id, "")


# -- what models were not told -----------------------------------------------------------------------------------------


def _unmasked(said: WireBody, masked: Sequence[Masked]) -> WireBody:
    if not masked or said.deanonymizations is not UNSET or not said.content:
        return said
    found = deanonymizations(said.content, masked)
    return msgspec.structs.replace(said, deanonymizations=found) if found else said


def deanonymizations(text: str, masked: Sequence[Masked]) -> tuple[Deanonymization, ...]:
    """Where in the text these values stand; of values within each other the longer one."""
    known = {each.value: each for each in masked if each.value}
    if not known:
        return ()
    pattern = re.compile("|".join(re.escape(value) for value in sorted(known, key=len, reverse=True)))
    found: list[Deanonymization] = []
    at = units = 0
    for match in pattern.finditer(text):
        start = units + _utf16(text[at : match.start()])
        at, units = match.end(), start + _utf16(match[0])
        found.append(Deanonymization(start, units, Entity(known[match[0]].entity, match[0], known[match[0]].mask)))
    return tuple(found)


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
