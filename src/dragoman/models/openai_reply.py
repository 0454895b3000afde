"""What an OpenAI-compatible server answers, folded into pieces and one whole reply. Bytes in, no I/O.

A streamed chunk and a whole reply have one shape here, because they differ in a single word: `delta` or `message`.
Fields that servers are known to fill in their own ways are taken as they come and looked at by hand; all others are
ignored. What is read does not depend on where the network cuts: a fault comes after all that stood before it.
"""

from collections.abc import Sequence
from io import StringIO
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.models.openai_faults import Faults
from dragoman.runtime.ports import ReplyDone, TextPiece, ThinkingPiece
from dragoman.wire.sse import SseFrame

CALL_ID_CHARS_MAX = 256
"""A longer id of a call is replaced by one of ours."""
NAME_CHARS_MAX = 256
"""Of a tool or a model; providers take 64. A longer name is cut, and then names nothing."""
REASON_CHARS_MAX = 64
TOKENS_MAX = 2**53
"""What every JSON reader and every store takes as a whole number."""

ERROR_REASON = "error"
"""The finish reason with which gateways tell that the model behind them broke off."""

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
    prompt_tokens: Any = None
    completion_tokens: Any = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Bounds(Struct, frozen=True):
    """How much of a reply is taken. Text beyond its bound is a fault; of calls the rest is left out."""

    text_chars: int
    """…and as much thinking."""
    arguments_chars: int
    """Of each call. One character more is kept, so that whoever checks the arguments sees that they are too long."""
    calls: int
    stream_bytes: int
    """Of a stream in all, whatever stands in it."""


class _CallParts:
    """A call while it is put together."""

    __slots__ = ("arguments", "chars", "id", "index", "name")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments = StringIO()
        self.chars = 0


class ReplyFold:
    """Folds what a server sends into one reply. `done` gives it once `finish_reason` is known."""

    def __init__(self, bounds: Bounds, faults: Faults, *, model_name: str, marker_suffices: bool = False) -> None:
        """`marker_suffices`: `[DONE]` behind anything that was said is a reason to have finished."""
        self._marker_suffices = marker_suffices
        self.finish_reason = ""
        self.ended = False
        """Nothing more is read: the server said so, or there was a fault."""
        self.anything = False
        """At least one chunk was read."""
        self.calls_left_out = 0
        """Beyond the bound. A model that sees what became of the others may ask for these again."""
        self._fault: BackendFailed | None = None
        self._bounds = bounds
        self._faults = faults
        self._model_name = model_name
        self._usage = Usage()
        self._bytes_read = 0
        self._pieces: list[TextPiece | ThinkingPiece] = []
        self._run: list[str] = []
        """Neighbouring text, or thinking, that will be one piece."""
        self._run_thinks = False
        self._text = StringIO()  # a list of a million pieces of two characters weighs thirty times as much
        self._text_chars = 0
        self._thinking = StringIO()
        self._thinking_chars = 0
        self._calls: list[_CallParts] = []
        self._left_out: _CallParts | None = None
        """The last call beyond the bound: its fragments must belong somewhere until the next one begins."""

    def take(self, frames: Sequence[SseFrame], *, bytes_read: int = 0) -> list[TextPiece | ThinkingPiece]:
        """The frames of one network read of so many bytes; what they add to text and thinking. `done` raises the fault
        in them, if there was one; `ended` is set then."""
        self._bytes_read += bytes_read
        data = b""
        try:
            for frame in frames:
                data = frame.data
                if data == DONE:
                    self._end_run()
                    self.ended = True
                    self._take_marker()
                    break
                if frame.event == "error":
                    raise self._faults.reported(None, data)
                self._fold(_decode(data), data)
            self._end_run()
            if self._bytes_read > self._bounds.stream_bytes:
                self.break_off(self._faults.too_long("stream", most=self._bounds.stream_bytes, unit="bytes"))
        except _UNREADABLE as error:
            self.break_off(self._faults.malformed(_why(error), data))
        except BackendFailed as error:
            self.break_off(error)
        pieces, self._pieces = self._pieces, []
        return pieces

    def take_whole(self, body: bytes | bytearray) -> None:
        """A reply that came at once."""
        try:
            self._fold(_decode(body), body)
            self._end_run()
        except _UNREADABLE as error:
            self.break_off(self._faults.malformed(_why(error), body))
        except BackendFailed as error:
            self.break_off(error)

    def break_off(self, fault: BackendFailed) -> None:
        """There is no reply: `done` will raise this, unless the reply ended before."""
        if self.ended:
            return
        self._fault = fault
        self.ended = True
        try:
            self._end_run()
        except BackendFailed as earlier:
            self._fault = earlier

    def _take_marker(self) -> None:
        if self._marker_suffices and not self.finish_reason and (self._text_chars or self._calls):
            self.finish_reason = "tool_calls" if self._calls else "stop"

    def done(self) -> ReplyDone:
        """The whole reply. Raises BackendFailed: for the fault that was found, and if the server never said why it
        ended, for then it was cut off."""
        if self._fault is not None:
            raise self._fault
        if not self.finish_reason:
            raise self._faults.truncated("no finish_reason")
        return ReplyDone(
            self._text.getvalue(),
            self._finished_calls(),
            self._usage,
            self.finish_reason,
            self._thinking.getvalue(),
            self._model_name,
        )

    def _fold(self, chunk: _Chunk, data: bytes | bytearray) -> None:
        self.anything = True
        if chunk.error:
            raise self._faults.reported(chunk.error, data)
        if chunk.usage is not None:
            usage = chunk.usage
            self._usage = Usage(_tokens(usage.prompt_tokens), _tokens(usage.completion_tokens))
        if chunk.model:
            self._model_name = chunk.model[:NAME_CHARS_MAX]
        for choice in chunk.choices or ():
            if choice.index:  # we asked for one
                continue
            said = choice.delta or choice.message
            if said is not None:
                content = said.content
                if type(content) is str and said.reasoning_content is None and said.reasoning is None:
                    if content:
                        self._say(content, thinks=False)
                else:
                    self._say_other(said)
                for call in said.tool_calls or ():
                    self._add_call(call, whole=choice.delta is None)
            if choice.finish_reason:
                if choice.finish_reason == ERROR_REASON:
                    raise self._faults.reported(None, data)
                self.finish_reason = choice.finish_reason[:REASON_CHARS_MAX]

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
        most = self._bounds.text_chars
        if self._run_thinks:
            room = most - self._thinking_chars
            kept = text if len(text) <= room else text[:room]
            self._thinking_chars += len(kept)
            self._thinking.write(kept)
            if kept:
                self._pieces.append(ThinkingPiece(kept))
        else:
            room = most - self._text_chars
            kept = text if len(text) <= room else text[:room]
            self._text_chars += len(kept)
            self._text.write(kept)
            if kept:
                self._pieces.append(TextPiece(kept))
        if kept is not text:
            what = "thinking" if self._run_thinks else "answer"
            raise self._faults.too_long(what, most=most, unit="characters")

    # -- calls -----------------------------------------------------------------------------------------------------

    def _add_call(self, part: _Call, *, whole: bool) -> None:
        id = part.id if isinstance(part.id, str) else ""
        function = part.function or _Function()
        name = function.name or ""
        call = self._begin_call(None) if whole else self._call_of(part.index, id, name)
        if id and not call.id:
            call.id = id
        if name and name != call.name:  # whole in one fragment, repeated in each, or itself in fragments
            call.name = (call.name + name)[:NAME_CHARS_MAX]
        arguments: Any = function.arguments
        if arguments is None:
            return
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        kept = cast("str", arguments)[: self._bounds.arguments_chars + 1 - call.chars]
        call.arguments.write(kept)
        call.chars += len(kept)

    def _call_of(self, index: int | None, id: str, name: str) -> _CallParts:
        """The call that a fragment belongs to.

        Some servers leave the index out, and some give all calls of a reply the same; a name together with an id that
        is not the open call's then begins a new one.
        """
        calls = self._calls if self._left_out is None else [*self._calls, self._left_out]
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
        if index is None:
            index = max((each.index for each in self._calls), default=-1) + 1
        if len(self._calls) < self._bounds.calls:
            self._calls.append(_CallParts(index))
            return self._calls[-1]
        self.calls_left_out += 1
        self._left_out = _CallParts(index)
        return self._left_out

    def _finished_calls(self) -> tuple[ToolCall, ...]:
        used: set[str] = set()
        finished: list[ToolCall] = []
        for number, call in enumerate(sorted(self._calls, key=lambda each: each.index), 1):
            arguments = call.arguments.getvalue()
            if not call.name:
                raise self._faults.malformed("a tool call without a name", arguments.encode("utf-8", "replace"))
            id = call.id if call.id and len(call.id) <= CALL_ID_CHARS_MAX and "\0" not in call.id else f"call_{number}"
            while id in used:
                id = f"{id}-{number}"
            used.add(id)
            # Models leave the arguments of a tool that needs none empty; JSON for that is {}.
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


def _tokens(count: Any) -> int:
    """What a server counted, if it is a number that one can count to."""
    if isinstance(count, int | float) and 0 <= count <= TOKENS_MAX:
        return int(count)
    return 0


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
