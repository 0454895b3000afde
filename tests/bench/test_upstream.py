import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from bench import upstream
from bench.upstream import Connection, directive, frames, whole, words_of

WAIT_S = 5.0
SOCKET_BYTES = 4096
"""So little that some hundred words fill both ends."""


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()
        await writer.wait_closed()


def request(body: str) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body.encode())


def spoken(response: bytes) -> list[str]:
    """The texts of a streamed answer, one per event."""
    events = [line.removeprefix(b"data: ") for line in response.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_words_are_numbered_and_joined_by_single_spaces() -> None:
    assert words_of(0) == []
    assert "".join(words_of(3)) == "word0 word1 word2"


def test_the_last_directive_counts() -> None:
    assert directive(b"WORDS7 and then WORDS12.", b"WORDS", 5, 100) == 12
    assert directive(b"nothing said", b"WORDS", 5, 100) == 5
    assert directive(b"WORDS900", b"WORDS", 5, 100) == 100
    assert directive(b"WORDS alone", b"WORDS", 5, 100) == 5


def test_an_answer_that_is_not_streamed_is_a_whole_completion() -> None:
    head, _, body = whole(2).partition(b"\r\n\r\n")
    completion = json.loads(body)
    assert b"content-length: %d" % len(body) in head
    assert completion["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "word0 word1"}, "finish_reason": "stop"}
    ]
    assert completion["usage"] == {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}


def test_usage_is_streamed_only_on_request() -> None:
    assert b"prompt_tokens" in frames(2, with_usage=True)[2]
    assert b"prompt_tokens" not in frames(2, with_usage=False)[2]


async def test_a_connection_answers_one_request_after_another(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection
    before = upstream.counts["chats"]
    async with asyncio.timeout(WAIT_S):
        writer.write(request('{"messages": "WORDS2"}'))
        assert await reader.readexactly(len(whole(2))) == whole(2)
        for piece in (request('{"messages": "WORDS3"}')[:30], request('{"messages": "WORDS3"}')[30:]):
            writer.write(piece)
            await writer.drain()
        assert await reader.readexactly(len(whole(3))) == whole(3)
        writer.write(b"GET /_stats HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        counts = json.loads(await reader.readuntil(b"}"))
    assert counts["chats"] == before + 2


@pytest.mark.parametrize("text", ["WORDS300", "WORDS5 GAP1"])
async def test_a_streamed_answer_says_each_word_in_an_event_of_its_own(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: str
) -> None:
    reader, writer = connection
    async with asyncio.timeout(WAIT_S):
        writer.write(request(json.dumps({"messages": text, "stream": True})))
        response = await reader.readuntil(b"\r\n0\r\n\r\n")
    assert spoken(response) == words_of(300 if "300" in text else 5)
    assert b"data: [DONE]\n\n" in response


async def test_a_reader_that_falls_behind_loses_no_word() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    async with await loop.create_server(Connection, sock=listener):
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
            reader.setblocking(False)
            await loop.sock_connect(reader, listener.getsockname())
            await loop.sock_sendall(reader, request(json.dumps({"messages": "WORDS2000", "stream": True})))
            for _ in range(500):  # turns in which words come and nobody reads
                await asyncio.sleep(0)
            response = b""
            async with asyncio.timeout(WAIT_S):
                while not response.endswith(b"\r\n0\r\n\r\n"):
                    response += await loop.sock_recv(reader, 65536)
    assert spoken(response) == words_of(2000)


async def test_a_transfer_is_asked_for_until_a_result_is_there_and_never_in_a_stream(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection
    handed = upstream.transfer("clerk")
    (choice,) = json.loads(handed.partition(b"\r\n\r\n")[2])["choices"]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"assistant": "clerk"}
    async with asyncio.timeout(WAIT_S):
        writer.write(request('{"messages": "TRANSFER<clerk> WORDS2"}'))
        assert await reader.readexactly(len(handed)) == handed
        writer.write(request('{"messages": "TRANSFER<clerk> WORDS2", "tool_call_id": "call_1"}'))
        assert await reader.readexactly(len(whole(2))) == whole(2)
        writer.write(request('{"messages": "TRANSFER<clerk> WORDS2", "stream": true}'))
        assert spoken(await reader.readuntil(b"\r\n0\r\n\r\n")) == ["word0 ", "word1"]
