"""A prompt as the request body of OpenAI-compatible chat completions. Bytes out, no I/O."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from dragoman.core.agents import JsonSchema, ToolSpec
from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.core.messages import Image, Message, Text, ToolCall, ToolResult
from dragoman.runtime.ports import Prompt

TOOL_LISTS_KEPT_MAX = 64
"""Encoded tool lists that are remembered; callers with tools of their own would fill memory otherwise."""

OURS = ("model", "messages", "tools", "stream", "stream_options")
"""Keys of a request body that no extra parameter may set."""

ANSWER_BOUNDS = ("max_completion_tokens", "max_tokens")
"""Names under which servers take the bound of an answer; newer OpenAI models refuse the second."""

AUTO = "auto"
"""Of `Prompt.choice`: the model chooses."""

SHOWN_CHARS_MAX = 200
"""So much of arguments that cannot be read is shown to the model that wrote them."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RequestWriter:
    """Writes request bodies for one configured model. `params` are extra fields of the body, such as temperature. A
    `name` of "" is not sent."""

    def __init__(self, name: str, params: Mapping[str, Any]) -> None:
        for key in OURS:
            if key in params:
                raise BadRequest(f"params.{key}: this is ours to set; take it out")
        self._name = name
        self._bound = next((key for key in ANSWER_BOUNDS if key in params), "max_tokens")
        pairs = [
            (key, b",%s:%s" % (_encode(key), _encode(value))) for key, value in params.items() if key != "tool_choice"
        ]
        self._params = b"".join(pair for _, pair in pairs)
        self._unbounded = b"".join(pair for key, pair in pairs if key not in ANSWER_BOUNDS)
        self._has_temperature = "temperature" in params
        self._tool_choice = _chosen(params["tool_choice"]) if "tool_choice" in params else b""
        self._tools: dict[tuple[int, ...], tuple[tuple[ToolSpec, ...], bytes]] = {}

    def body(self, prompt: Prompt, *, stream: bool) -> bytes:
        """The request as JSON. Raises BackendFailed if a text cannot be sent."""
        try:
            name = prompt.model_name or self._name
            parts = [b'{"model":', _encode(name), b',"messages":'] if name else [b'{"messages":']
            parts.append(_encode(_messages(prompt.messages)))
        except UnicodeEncodeError as error:  # half a surrogate pair: a file's name, for instance
            raise BackendFailed(
                "The conversation holds a broken character that cannot be sent to the model. Start a new conversation.",
                code="upstream_refused",
                internal=error.reason,
            ) from None
        if prompt.tools:
            parts += (b',"tools":', self._encoded_tools(prompt.tools))
            parts.append(self._choice(prompt.choice))
        if prompt.temperature is not None and not self._has_temperature:
            parts += (b',"temperature":', _encode(prompt.temperature))
        if prompt.max_tokens is None:
            parts.append(self._params)
        else:
            parts += (self._unbounded, b',"%s":%d' % (self._bound.encode(), prompt.max_tokens))
        parts.append(b',"stream":true,"stream_options":{"include_usage":true}}' if stream else b',"stream":false}')
        return b"".join(parts)

    def _choice(self, choice: str) -> bytes:
        """Only a tool that must be called goes before what is configured. Without tools servers refuse the field."""
        if choice and choice != AUTO:
            return _chosen({"type": "function", "function": {"name": choice}})
        return self._tool_choice or (_chosen(AUTO) if choice else b"")

    def _encoded_tools(self, tools: tuple[ToolSpec, ...]) -> bytes:
        # By identity: specs hold schemas, which cannot be hashed. The entry keeps them alive, so no id is used again.
        key = tuple(map(id, tools))
        known = self._tools.get(key)
        if known is None:
            if len(self._tools) >= TOOL_LISTS_KEPT_MAX:
                self._tools.clear()
            known = self._tools[key] = (tools, _encode([_function(tool) for tool in tools]))
        return known[1]


def _chosen(choice: object) -> bytes:
    return b',"tool_choice":%s' % _encode(choice)


def _function(tool: ToolSpec) -> dict[str, object]:
    # Elastic spec 4.1: servers refuse an object that does not say which properties it has.
    parameters: JsonSchema = tool.parameters if tool.parameters.get("type") else {"type": "object", **tool.parameters}
    if parameters.get("type") == "object" and "properties" not in parameters:
        parameters = {**parameters, "properties": {}}
    shown = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": shown}


def _messages(messages: Iterable[Message]) -> list[dict[str, object]]:
    written: list[dict[str, object]] = []
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and isinstance(parts[0], Text):
            written.append({"role": message.role, "content": parts[0].text})
        else:
            _write_parts(message, written)
    return written


def _write_parts(message: Message, written: list[dict[str, object]]) -> None:
    """Thinking is never sent. A result is a message of its own on this wire."""
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    for part in message.parts:
        if isinstance(part, ToolResult):
            written.append({"role": "tool", "tool_call_id": part.call_id, "content": part.content})
    if calls:
        # Null and not "", as elastic spec 4.1 has it: providers behind a gateway refuse text that is empty, and some
        # models take it for a sign to write their calls as text. The API allows null where there are calls.
        written.append({"role": "assistant", "content": message.full_text or None, "tool_calls": calls})
    elif any(isinstance(part, Image) for part in message.parts):
        shown = [_shown(part) for part in message.parts if isinstance(part, Text | Image)]
        written.append({"role": message.role, "content": shown})
    elif message.role in ("system", "user") or message.full_text:
        written.append({"role": message.role, "content": message.full_text})


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": _arguments(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments(text: str) -> str:
    """The arguments of an earlier call as the text of a JSON object. Servers parse them, and some refuse the whole
    conversation for one that is none; the result of such a call already tells the model what is wrong with it."""
    if not text.strip():
        return "{}"
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        read = _decode(text)
        if isinstance(read, str):  # encoded twice: tools take that too
            text, read = read, _decode(read)
        if isinstance(read, dict):
            return text
    shown = text[:SHOWN_CHARS_MAX].encode("utf-8", "replace").decode()
    return _encode({"unreadable_arguments": shown}).decode()


def _shown(part: Text | Image) -> dict[str, object]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
    return {"type": "image_url", "image_url": {"url": url}}
