from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire import ndjson
from dragoman.wire.ndjson import LineTooLong, Reader

pieces = st.sampled_from([b"{}", b"\n", b"\r\n", b"\r", "é😀".encode(), b'{"a":1}', b" "])


def read(chunks: list[bytes], line_bytes_max: int = 1000) -> tuple[list[bytes], bool]:
    reader = Reader(line_bytes_max=line_bytes_max)
    lines: list[bytes] = []
    try:
        for chunk in chunks:
            lines.extend(reader.feed(chunk))
    except LineTooLong as error:
        return [*lines, *error.lines], True
    return lines + reader.end(), False


@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 200), max_size=10), st.integers(3, 40))
def test_what_is_read_does_not_depend_on_where_the_network_cuts(
    stream: bytes, places: list[int], line_bytes_max: int
) -> None:
    edges = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    whole = [line.removesuffix(b"\r") for line in stream.split(b"\n")]
    too_long = [len(line) > line_bytes_max for line in stream.split(b"\n")]
    kept = whole[: too_long.index(True)] if any(too_long) else whole
    assert read(chunks, line_bytes_max) == ([line for line in kept if line], any(too_long))


def test_a_line_is_written_with_its_end() -> None:
    assert ndjson.line(b'{"a":1}') == b'{"a":1}\n'


def test_a_line_feed_inside_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="must not hold a line feed"):
        ndjson.line(b'{\n"a":1}')


def test_a_last_line_without_end_is_handed_over_once() -> None:
    reader = Reader()
    assert reader.feed(b'{"a":1}\r\n\n{"b"') == [b'{"a":1}']
    assert reader.feed(b":2}") == []
    assert (reader.end(), reader.end()) == ([b'{"b":2}'], [])


def test_a_line_of_exactly_the_bound_is_read_and_one_byte_more_is_not() -> None:
    assert Reader(line_bytes_max=4).feed(b"1234\n") == [b"1234"]
    with pytest.raises(LineTooLong, match=r"^a line is longer than 4 bytes$"):
        Reader(line_bytes_max=4).feed(b"12345")
