"""What the scripted server of `tests.upstream` says: requests read, directives found, answers as bytes. No I/O."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_TOOLS = (b"null", b"[]")

DIRECTIVE = re.compile(r"(TOOLARGS|TOOL|WORDS|SLEEP|GAP|STATUS|HISTORY|EMPTY|MIDFAIL)(?::(\{.*\}|[\w-]+)|(\d+))?")


class Message(Struct):
    role: str
    content: Any = None
    tool_calls: list[Any] | None = None
    tool_call_id: str = ""


class Ask(Struct):
    messages: list[Message]
    model: str = "fake"
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    tools: msgspec.Raw = msgspec.Raw(b"null")


asks = msgspec.json.Decoder(Ask)
quoted = msgspec.json.Encoder().encode


def reply(status: int, body: bytes, *, media_type: str = "application/json", headers: Mapping[str, str] = {}) -> bytes:
    """A whole HTTP reply as bytes; also a building block of raw scripts."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode("latin-1") + body


def chunk(part: bytes) -> bytes:
    """One HTTP chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(part), part)


def _piece(model: bytes, delta: bytes, finish: bytes = b"null") -> bytes:
    """One chunk of a streamed answer; `delta` and `finish` are JSON, `model` too."""
    return chunk(
        b'data: {"id":"chatcmpl-fake","created":1700000000,"model":%s,"object":"chat.completion.chunk",'
        b'"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n' % (model, delta, finish)
    )


@functools.lru_cache(maxsize=64)
def _word_pieces(count: int, model: bytes) -> tuple[bytes, ...]:
    return tuple(
        _piece(model, b'{"content":"word%d%s"}' % (at, b" " if at < count - 1 else b"")) for at in range(count)
    )


class Answer(Struct):
    """What to say, as JSON fragments, and how."""

    text: str = ""
    call: tuple[str, str] | None = None
    words: int | None = None
    prompt_tokens: int = 0

    def usage(self) -> bytes:
        told = 5 if self.call else self.words if self.words is not None else len(self.text.split())
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            self.prompt_tokens,
            told,
            self.prompt_tokens + told,
        )

    def call_json(self) -> bytes:
        name, arguments = self.call or ("", "")
        return b'[{"index":0,"id":"call_1","type":"function","function":{"name":%s,"arguments":%s}}]' % (
            quoted(name),
            quoted(arguments),
        )

    def whole(self, model: bytes) -> bytes:
        text = " ".join(f"word{at}" for at in range(self.words)) if self.words is not None else self.text
        message = b'"content":null,"tool_calls":' + self.call_json() if self.call else b'"content":' + quoted(text)
        return (
            b'{"id":"chatcmpl-fake","created":1700000000,"model":%s,"object":"chat.completion","choices":[{"index":0,'
            b'"message":{"role":"assistant",%s},"finish_reason":"%s"}],"usage":%s}'
            % (model, message, b"tool_calls" if self.call else b"stop", self.usage())
        )

    def pieces(self, model: bytes) -> list[bytes]:
        first = _piece(model, b'{"role":"assistant","content":""}')
        if self.call:
            return [first, _piece(model, b'{"tool_calls":%s}' % self.call_json())]
        if self.words is not None:
            return [first, *_word_pieces(self.words, model)]
        words = re.findall(r"\S+\s*", self.text)
        return [first, *(_piece(model, b'{"content":%s}' % quoted(word)) for word in words)]

    def ending(self, model: bytes, *, with_usage: bool) -> list[bytes]:
        last = [_piece(model, b"{}", b'"tool_calls"' if self.call else b'"stop"')]
        if with_usage:
            last.append(
                chunk(
                    b'data: {"id":"chatcmpl-fake","created":1700000000,"model":%s,"object":"chat.completion.chunk",'
                    b'"choices":[],"usage":%s}\n\n' % (model, self.usage())
                )
            )
        return [*last, chunk(b"data: [DONE]\n\n") + LAST_CHUNK]


def _results(ask: Ask, name: str) -> list[str]:
    """Results, since the last user message, of that tool ("" = of any)."""
    start = max((at for at, message in enumerate(ask.messages) if message.role == "user"), default=-1)
    turn = ask.messages[start + 1 :]
    wanted = {
        call["id"] for message in turn for call in message.tool_calls or () if name in ("", call["function"]["name"])
    }
    return [str(message.content) for message in turn if message.role == "tool" and message.tool_call_id in wanted]


def answer(ask: Ask, asked: str, told: dict[str, str]) -> Answer:
    prompt_tokens = sum(len(str(message.content or "").split()) for message in ask.messages)
    results: list[str] = []
    if "TOOL" in told:
        results = _results(ask, told["TOOL"])
        if not results and bytes(ask.tools) not in NO_TOOLS:
            call = (told["TOOL"] or "list_files", told.get("TOOLARGS") or '{"path": "."}')
            return Answer(call=call, prompt_tokens=prompt_tokens)
    if "WORDS" in told:
        return Answer(words=int(told["WORDS"]), prompt_tokens=prompt_tokens)
    if "HISTORY" in told:
        said = [f"{each.role}:{str(each.content)[:40]}" for each in ask.messages if each.role != "system"]
        text = " | ".join(said)
    elif "EMPTY" in told:
        text = ""
    elif results:
        text = "Tool said: " + results[-1][:60]
    else:
        text = "Echo: " + asked[:200]
    return Answer(text, prompt_tokens=prompt_tokens)
