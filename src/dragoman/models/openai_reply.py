"""What an OpenAI-compatible server answers, folded into pieces and one whole reply. Bytes in, no I/O.

A streamed chunk and a whole reply have one shape here, because they differ in a single word: `delta` or `message`.
Fields that servers are known to fill in their own ways are taken as they come and looked at by hand; all others are
ignored.
"""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.models.openai_faults import Faults
from dragoman.runtime.ports import ReplyDone, TextPiece, ThinkingPiece
from dragoman.wire.sse import SseFrame

CALL_ID_CHARS_MAX = 256
"""A longer id of a call is replaced by one of ours."""

DONE = b"[DONE]"


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: Any = None
    """Text as a rule; some servers send the object itself."""


class _Call(Struct, gc=False):
    index: int | None = None
    id: Any = None
    function: _Function | None = None


class _Said(Struct, gc=False):
    """A `delta` or a `message`."""

    content: Any = None
    """Text as a rule; some servers send a list of parts."""
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct, gc=False):
    index: int | None = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Bounds(Struct, frozen=True):
    """How much of a reply is taken before it counts as run wild."""

    text_chars: int
    """…and as much thinking."""
    arguments_chars: int
    """Of each call."""
    calls: int


class _CallParts:
    """A call while it is put together."""

    __slots__ = ("arguments", "chars", "id", "index", "name")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.chars = 0


class ReplyFold:
    """Folds what a server sends into one reply. `done` gives it once `finish_reason` is known."""

    def __init__(self, bounds: Bounds, faults: Faults, *, model_name: str) -> None:
        self.finish_reason = ""
        self.ended = False
        """The server said that nothing more follows."""
        self.anything = False
        """At least one chunk was read."""
        self._bounds = bounds
        self._faults = faults
        self._model_name = model_name
        self._usage = Usage()
        self._pieces: list[TextPiece | ThinkingPiece] = []
        self._run: list[str] = []
        """Neighbouring text, or thinking, that will be one piece."""
        self._run_thinks = False
        self._text: list[str] = []
        self._text_chars = 0
        self._thinking: list[str] = []
        self._thinking_chars = 0
        self._calls: list[_CallParts] = []

    def take(self, frames: Sequence[SseFrame]) -> list[TextPiece | ThinkingPiece]:
        """The frames of one network read; what they add to text and thinking. Raises BackendFailed."""
        data = b""
        try:
            for frame in frames:
                data = frame.data
                if data == DONE:
                    self.ended = True
                    break
                if frame.event == "error":
                    raise self._faults.reported(None, data)
                self._fold(_decode(data), data)
        except _UNREADABLE as error:
            raise self._faults.malformed(_why(error), data) from None
        self._end_run()
        pieces, self._pieces = self._pieces, []
        return pieces

    def take_whole(self, body: bytes) -> None:
        """A reply that came at once. Raises BackendFailed."""
        try:
            self._fold(_decode(body), body)
        except _UNREADABLE as error:
            raise self._faults.malformed(_why(error), body) from None
        self._end_run()

    def done(self) -> ReplyDone:
        """The whole reply. Raises BackendFailed if the server never said why it ended: then it was cut off."""
        if not self.finish_reason:
            raise self._faults.truncated("no finish_reason")
        return ReplyDone(
            "".join(self._text),
            self._finished_calls(),
            self._usage,
            self.finish_reason,
            "".join(self._thinking),
            self._model_name,
        )

    def _fold(self, chunk: _Chunk, data: bytes) -> None:
        self.anything = True
        if chunk.error is not None:
            raise self._faults.reported(chunk.error, data)
        if chunk.usage is not None:
            usage = chunk.usage
            self._usage = Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0)
        if chunk.model:
            self._model_name = chunk.model
        for choice in chunk.choices or ():
            if choice.index:  # we asked for one
                continue
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
            said = choice.delta or choice.message
            if said is None:
                continue
            content = said.content
            if type(content) is str and said.reasoning_content is None and said.reasoning is None:
                if content:
                    self._say(content, thinks=False)
            else:
                self._say_other(said)
            for call in said.tool_calls or ():
                self._add_call(call, whole=choice.delta is None)

    # -- text ------------------------------------------------------------------------------------------------------

    def _say(self, text: str, *, thinks: bool) -> None:
        if thinks is not self._run_thinks:
            self._end_run()
            self._run_thinks = thinks
        self._run.append(text)

    def _say_other(self, said: _Said) -> None:
        thinking = said.reasoning_content or said.reasoning
        if isinstance(thinking, str) and thinking:
            self._say(thinking, thinks=True)
        content: Any = said.content
        if content is None:
            content = said.refusal
        for text, thinks in _texts(content):
            self._say(text, thinks=thinks)

    def _end_run(self) -> None:
        if not self._run:
            return
        text = "".join(self._run)
        self._run = []
        if self._run_thinks:
            self._thinking_chars += len(text)
            if self._thinking_chars > self._bounds.text_chars:
                raise self._faults.too_long("thinking", most=self._bounds.text_chars, unit="characters")
            self._thinking.append(text)
            self._pieces.append(ThinkingPiece(text))
        else:
            self._text_chars += len(text)
            if self._text_chars > self._bounds.text_chars:
                raise self._faults.too_long("answer", most=self._bounds.text_chars, unit="characters")
            self._text.append(text)
            self._pieces.append(TextPiece(text))

    # -- calls -----------------------------------------------------------------------------------------------------

    def _add_call(self, part: _Call, *, whole: bool) -> None:
        id = part.id if isinstance(part.id, str) else ""
        function = part.function or _Function()
        name = function.name or ""
        call = self._begin_call(None) if whole else self._call_of(part.index, id, name)
        if id and not call.id:
            call.id = id
        if name and name != call.name:  # whole in one fragment, repeated in each, or itself in fragments
            call.name += name
        arguments: Any = function.arguments
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        call.arguments.append(cast("str", arguments))
        call.chars += len(name) + len(arguments)
        if call.chars > self._bounds.arguments_chars:
            raise self._faults.too_long("tool call", most=self._bounds.arguments_chars, unit="characters")

    def _call_of(self, index: int | None, id: str, name: str) -> _CallParts:
        """The call that a fragment belongs to.

        Some servers leave the index out, and some give all calls of a reply the same; a name together with an id that
        is not the open call's then begins a new one.
        """
        calls = self._calls
        if index is None:
            call = calls[-1] if calls else None
            begins = bool(id and call and call.id and id != call.id) or bool(name and not id and call and call.name)
        else:
            call = next((each for each in reversed(calls) if each.index == index), None)
            begins = bool(id and name and call and call.id and id != call.id)
        if call is not None and not begins:
            return call
        return self._begin_call(index)

    def _begin_call(self, index: int | None) -> _CallParts:
        if len(self._calls) >= self._bounds.calls:
            raise self._faults.too_long("list of tool calls", most=self._bounds.calls, unit="calls")
        if index is None:
            index = max((each.index for each in self._calls), default=-1) + 1
        self._calls.append(_CallParts(index))
        return self._calls[-1]

    def _finished_calls(self) -> tuple[ToolCall, ...]:
        used: set[str] = set()
        finished: list[ToolCall] = []
        for number, call in enumerate(sorted(self._calls, key=lambda each: each.index), 1):
            if not call.name:
                raise self._faults.malformed("a tool call without a name", "".join(call.arguments).encode())
            id = call.id if call.id and len(call.id) <= CALL_ID_CHARS_MAX and "\0" not in call.id else f"call_{number}"
            while id in used:
                id = f"{id}-{number}"
            used.add(id)
            # Models leave the arguments of a tool that needs none empty; JSON for that is {}.
            arguments = "".join(call.arguments)
            finished.append(ToolCall(CallId(id), call.name, arguments if arguments.strip() else "{}"))
        return tuple(finished)


def _texts(content: Any) -> list[tuple[str, bool]]:
    """Text, or a list of parts, as texts; True with those that are thinking."""
    if isinstance(content, str):
        return [(content, False)] if content else []
    if not isinstance(content, list):
        return []
    texts: list[tuple[str, bool]] = []
    for part in cast("list[Any]", content):
        if isinstance(part, str):
            texts.append((part, False))
        elif isinstance(part, dict):
            fields = cast("dict[str, Any]", part)
            texts.extend((text, True) for text, _ in _texts(fields.get("thinking")))
            texts.extend((text, False) for text, _ in _texts(fields.get("text") or fields.get("refusal")))
    return [(text, thinks) for text, thinks in texts if text]


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
