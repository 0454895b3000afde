import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bench.floor import relay
from bench.upstream import Connection, frames, whole
from tests.streaming_client import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0) as server:
        async with relay(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as app:
            yield Client(app)


async def test_an_answer_comes_back_byte_for_byte(client: Client) -> None:
    response = await client.request("POST", "/anything", body=b'{"messages": "WORDS9"}')
    assert response.status == 200
    assert response.body == whole(9).partition(b"\r\n\r\n")[2]
    assert response.headers == {"content-type": "application/json", "content-length": str(len(response.body))}


async def test_a_streamed_answer_comes_back_byte_for_byte_and_as_it_comes(client: Client) -> None:
    body = json.dumps({"messages": "WORDS8 GAP1", "stream": True}).encode()
    async with client.stream("POST", "/anything", body=[body[:10], body[10:]]) as stream:
        pieces = [await stream.chunk()]
        while not stream.ended:
            pieces.append(await stream.chunk())
    opening, spoken, closing = frames(8, with_usage=False)
    chunked = (opening + b"".join(spoken) + closing).partition(b"\r\n\r\n")[2]
    events = b"".join(line + b"\n\n" for line in chunked.replace(b"\r", b"").split(b"\n") if line.startswith(b"data: "))
    assert stream.body == events
    assert len([piece for piece in pieces if piece]) > 1


async def test_an_error_of_the_llm_is_passed_on() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        async with relay(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as app:
            response = await Client(app).request("POST", "/anything", body=b"{}")
    assert (response.status, response.body) == (429, b"{}")
