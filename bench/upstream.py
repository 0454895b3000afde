"""An OpenAI-compatible LLM that answers faster than anything under test can ask: `python -m bench.upstream PORT`.

Answers are made once and kept as bytes; of a request only its length, the last directive and two flags are looked at.
Directives, wherever they stand last in the body: `WORDS<n>` (an answer of n words; 5 without it) and `GAP<ms>` (that
long between two words of a streamed answer). A streamed word is a chunk, an event and a `send` of its own, and streams
take turns word by word, as LLM servers do it: how many words a reader finds in one read is up to its own speed.
`TRANSFER<name>` anywhere in a body that holds no tool's result, and is not to be streamed, is answered with a call that
hands the conversation to that agent.

`GET /_stats` says how many chats were asked for; any other GET lists one model.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from functools import lru_cache
from typing import Any, cast

import uvloop

WORDS_DEFAULT = 5
WORDS_MAX = 100_000
GAP_MS_MAX = 60_000
PROMPT_TOKENS = 100
ANSWERS_KEPT_MAX = 64
HEAD_BYTES_MAX = 64 * 1024
BACKLOG = 2048

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d{1,9})\r\n", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_TRANSFER = re.compile(rb"TRANSFER<(\w{1,64})>")
_RESULT = b'"tool_call_id"'
_DIGITS = re.compile(rb"\d{1,6}")

_BASE = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "fake"}
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = {"object": "list", "data": [{"id": "fake", "object": "model"}]}

counts = {"chats": 0, "streamed": 0}


def words_of(count: int) -> list[str]:
    """The words of an answer, each with the space that follows it."""
    return [f"word{number} " for number in range(count - 1)] + [f"word{count - 1}"] if count else []


def reply(body: object, status: str = "200 OK") -> bytes:
    """A whole JSON response."""
    content = json.dumps(body).encode()
    return (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (status.encode(), len(content), content)
    )  # fmt: skip


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": words, "total_tokens": PROMPT_TOKENS + words}


@lru_cache(ANSWERS_KEPT_MAX)
def whole(words: int) -> bytes:
    """The response of a chat that is not streamed."""
    return _completion({"content": "".join(words_of(words))}, "stop", words)


@lru_cache(ANSWERS_KEPT_MAX)
def transfer(name: str) -> bytes:
    """The response that hands the conversation over."""
    function = {"name": "transfer_to_agent", "arguments": json.dumps({"assistant": name})}
    call = {"id": "call_1", "type": "function", "function": function}
    return _completion({"content": None, "tool_calls": [call]}, "tool_calls", 1)


def _completion(said: dict[str, Any], finish_reason: str, words: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish_reason}
    return reply({**_BASE, "object": "chat.completion", "choices": [choice], "usage": _usage(words)})


@lru_cache(ANSWERS_KEPT_MAX)
def frames(words: int, *, with_usage: bool) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """A streamed response: what goes before the words, one chunk for each word, what follows."""
    opening = _STREAM_HEAD + _chunk(_delta({"role": "assistant", "content": ""}))
    closing = _chunk(_delta({}, "stop"))
    if with_usage:
        closing += _chunk({**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": _usage(words)})
    spoken = tuple(_chunk(_delta({"content": word})) for word in words_of(words))
    return opening, spoken, closing + _chunk("[DONE]") + b"0\r\n\r\n"


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_BASE, "object": "chat.completion.chunk", "choices": [choice]}


def _chunk(data: object) -> bytes:
    event = b"data: %b\n\n" % (data if isinstance(data, str) else json.dumps(data)).encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def directive(body: bytes, name: bytes, default: int, most: int) -> int:
    """The number behind the last `name` in the body."""
    at = body.rfind(name)
    digits = _DIGITS.match(body, at + len(name)) if at >= 0 else None
    return min(int(digits[0]), most) if digits else default


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered one at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._fd = -1
        self._transport: asyncio.Transport | None = None
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_ends = self._received.find(b"\r\n\r\n")
        if head_ends < 0:
            if len(self._received) > HEAD_BYTES_MAX and self._transport:
                self._transport.close()
            return
        length = _LENGTH.search(self._received, 0, head_ends + 2)
        body_at = head_ends + 4
        ends = body_at + (int(length[1]) if length else 0)
        if len(self._received) < ends:
            return
        target = self._received[:200].split(b" ", 2)[1]
        body, self._received = self._received[body_at:ends], self._received[ends:]
        self._answer(target, body)

    def _answer(self, target: bytes, body: bytes) -> None:
        if self._transport is None:
            return
        if not body:
            self._transport.write(reply(counts if target == b"/_stats" else _MODELS))
            return
        counts["chats"] += 1
        words = directive(body, b"WORDS", WORDS_DEFAULT, WORDS_MAX)
        if not _STREAM.search(body):
            to = _TRANSFER.search(body) if _RESULT not in body else None
            self._transport.write(transfer(to[1].decode()) if to else whole(words))
            return
        counts["streamed"] += 1
        opening, spoken, closing = frames(words, with_usage=_USAGE.search(body) is not None)
        gap_s = directive(body, b"GAP", 0, GAP_MS_MAX) / 1000
        if gap_s:
            self._transport.write(opening)
            self._speak(spoken, closing, 0, self._loop.time(), gap_s)
        else:
            self._burst((opening, *spoken, closing), 0)

    def _burst(self, chunks: tuple[bytes, ...], number: int) -> None:
        """Chunk `number` now, the next one in the loop's next turn, when all other streams had theirs.

        Written past the transport, which would gather chunks into one `send`.
        """
        if self._transport is None:
            return
        chunk = chunks[number]
        try:
            sent = os.write(self._fd, chunk) if not self._transport.get_write_buffer_size() else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.close()
            return
        if sent < len(chunk):  # the reader is behind by a full socket: what is left may as well come together
            self._transport.write(chunk[sent:] + b"".join(chunks[number + 1 :]))
        elif number + 1 < len(chunks):
            self._loop.call_soon(self._burst, chunks, number + 1)

    def _speak(self, spoken: tuple[bytes, ...], closing: bytes, number: int, at: float, gap_s: float) -> None:
        """Word `number` now, the next one gap after its due time, so that the pace does not drift."""
        if self._transport is None:
            return
        if number == len(spoken):
            self._transport.write(closing)
            return
        self._transport.write(spoken[number])
        due = at + gap_s
        self._next = self._loop.call_at(due, self._speak, spoken, closing, number + 1, due, gap_s)


async def serve(port: int) -> None:
    """Serve until SIGTERM; says on stderr where it listens."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    server = await loop.create_server(Connection, sock=listener, backlog=BACKLOG)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))


if __name__ == "__main__":
    main()
