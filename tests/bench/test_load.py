import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import Answer, Job, Spread, request_maker, run, spread
from bench.upstream import Connection, frames, whole


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def job(url: str, text: str, *, words: int, delta: str = "", callers: int = 2, each: int = 3, warm: int = 0) -> Job:
    return Job(
        url=url,
        path="/v1/chat/completions",
        headers={},
        body=json.dumps({"messages": f"@id@ @caller@ {text}", "stream": bool(delta)}),
        callers=callers,
        words=words,
        each=each,
        delta=delta,
        warm=warm,
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends) if start < end]


@given(st.lists(st.integers(min_value=0, max_value=100_000), max_size=40))
def test_what_is_counted_does_not_depend_on_where_the_network_cuts(places: list[int]) -> None:
    opening, spoken, closing = frames(30, with_usage=True)
    shown: list[int] = []
    answer = Answer(b'{"content": "word', shown.append)
    complete = [answer.feed(piece) for piece in cut(opening + b"".join(spoken) + closing, places)]
    assert (answer.status, answer.words, answer.frames, sum(shown)) == (200, 30, 30, 30)
    assert complete == [False] * (len(complete) - 1) + [True]


def test_a_marker_that_two_chunks_share_counts_once() -> None:
    answer = Answer(b"event: token", lambda frames: None)
    answer.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for piece in (b"event: tok", b"en wo", b"rd word", b"word event: token"):
        answer.feed(b"%x\r\n%b\r\n" % (len(piece), piece))
    assert (answer.words, answer.frames) == (3, 2)


def test_one_connection_reads_one_answer_after_another() -> None:
    answer = Answer(b"", lambda frames: None)
    assert answer.feed(whole(4))
    assert answer.words == 4
    answer.begin()
    assert answer.feed(whole(7))
    assert answer.words == 7


def test_requests_carry_their_number_their_caller_and_a_true_length() -> None:
    request = request_maker(job("http://127.0.0.1:1", "WORDS3", words=3), 7)
    head, _, body = request(42).partition(b"\r\n\r\n")
    assert body == b'{"messages": "000000042 007 WORDS3", "stream": false}'
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None and int(length[1]) == len(body)
    assert len(request(999_999_999)) == len(request(1))


def test_a_spread_is_in_milliseconds() -> None:
    assert spread([]) == Spread()
    assert spread([second / 1000 for second in range(100, 0, -1)]) == Spread(51.0, 100.0)


async def test_every_caller_asks_as_often_as_it_was_told(upstream: str) -> None:
    told: list[str] = []
    outcome = await run(job(upstream, "WORDS5", words=5, callers=3, each=4, warm=2), lambda: told.append("go"))
    assert told == ["go"]
    assert (outcome.responses, outcome.frames, outcome.errors) == (12, 0, 0)
    assert 0 < outcome.latency.p50 <= outcome.latency.p99


async def test_streamed_answers_are_counted_word_by_word(upstream: str) -> None:
    outcome = await run(job(upstream, "WORDS40 GAP1", words=40, delta="word", callers=2, each=1), lambda: None)
    assert (outcome.responses, outcome.frames, outcome.errors) == (2, 80, 0)
    assert 0 < outcome.first_frame.p50 < outcome.latency.p50
    assert outcome.gap.p50 > 0


async def test_an_answer_that_lacks_a_word_is_an_error(upstream: str) -> None:
    outcome = await run(job(upstream, "WORDS5", words=6, callers=1, each=1), lambda: None)
    assert outcome.errors == 1
    assert outcome.first_error.startswith("status 200, 5 words and not 6: {")


async def test_a_connection_that_ends_early_is_an_error_and_not_a_hang() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nword")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outcome = await run(job(url, "", words=1, callers=1, each=1), lambda: None)
    assert (outcome.responses, outcome.errors) == (0, 1)
    assert outcome.first_error == "the connection was closed before the answer was whole: end of stream"
