import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.wire import sse
from dragoman.wire.sse import Reader, SseFrame, StreamTooLong

Read = tuple[list[SseFrame], str]
"""What was read, and "" or what was too long."""


def read_naively(stream: bytes) -> Read:
    """The standard's algorithm, one line at a time, over the whole stream."""
    *lines, _torn = re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))
    frames: list[SseFrame] = []
    data: list[bytes] = []
    event = last_id = ""
    for line in lines:
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not line:
            if data:
                frames.append(SseFrame(b"\n".join(data), event, last_id))
            data, event = [], ""
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
    return frames, ""


def read(chunks: list[bytes], **bounds: int) -> Read:
    reader = Reader(**bounds)
    frames: list[SseFrame] = []
    try:
        for chunk in chunks:
            frames.extend(reader.feed(chunk))
    except StreamTooLong as error:
        frames.extend(error.frames)
        return frames, "line" if "line" in str(error) else "frame"
    return frames, ""


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(edges)]


# Small alphabet of what has a meaning, so that every rule meets every other.
pieces = st.sampled_from(
    [
        *(b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xef\xbb\xbf"),
        *("é€😀".encode(), b"data: {}\n\n", b"data: a", b"\xff", b": ping\n\n", b"7", b"x"),
    ]
)
streams = st.lists(pieces, max_size=40).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=500), max_size=20)


@given(streams, cuts)
@example(b"data: a\r\n\r\ndata: b\r\r", [9, 10])
@example(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [1, 2])
@example(b"data: a\n\n\n\n\ndata: b\n\n", [9, 10])
def test_what_is_read_does_not_depend_on_where_the_network_cuts(stream: bytes, places: list[int]) -> None:
    assert read(cut(stream, places)) == read_naively(stream)


@given(streams)
def test_a_byte_at_a_time_reads_the_same(stream: bytes) -> None:
    assert read([stream[at : at + 1] for at in range(len(stream))]) == read([stream])


@settings(max_examples=500)
@given(
    st.lists(st.tuples(st.sampled_from([b"data: ", b":", b"q", b""]), st.integers(0, 12)), max_size=12),
    cuts,
    st.integers(4, 10),
)
def test_the_bounds_do_not_depend_on_where_the_network_cuts(
    lines: list[tuple[bytes, int]], places: list[int], line_bytes_max: int
) -> None:
    stream = b"".join((head + b"x" * length)[:length] + b"\n" for head, length in lines)
    bounds = {"line_bytes_max": line_bytes_max, "frame_bytes_max": 24}
    assert read(cut(stream, places), **bounds) == read([stream], **bounds)


@given(
    st.text(max_size=40).filter(lambda text: "\r" not in text),
    st.none() | st.from_regex(r"[^\r\n]{0,8}", fullmatch=True),
    st.none() | st.from_regex(r"[^\r\n\0]{0,8}", fullmatch=True),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_framed_is_read_back(text: str, event: str | None, id: str | None, newline: bytes) -> None:
    try:
        framed = sse.frame(text, event=event, id=id, newline=newline)
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text
    assert Reader().feed(framed) == [SseFrame(text.encode(), event or "", id or "")]


def test_code_points_survive_a_cut_at_every_byte() -> None:
    stream = "data: é€😀 ünï\n\n".encode()
    expected = ([SseFrame("é€😀 ünï".encode())], "")
    assert [read([stream[:at], stream[at:]]) for at in range(len(stream) + 1)] == [expected] * (len(stream) + 1)


def test_a_frame_is_written_in_the_order_id_event_retry_data() -> None:
    assert sse.frame("x", event="done", id="7", retry_ms=500) == b"id: 7\nevent: done\nretry: 500\ndata: x\n\n"


def test_a_frame_of_bytes_is_written_as_it_is() -> None:
    assert sse.frame(b'{"a":1}') == b'data: {"a":1}\n\n'


def test_line_ends_follow_the_wire_that_asks_for_them() -> None:
    assert sse.frame("a\nb", event="e", newline=b"\r\n") == b"event: e\r\ndata: a\r\ndata: b\r\n\r\n"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb"])
def test_every_kind_of_line_break_in_data_begins_a_new_data_line(text: str) -> None:
    assert sse.frame(text) == b"data: a\ndata: b\n\n"


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("bad", ["a\nb", "a\rb"])
def test_a_line_break_in_event_or_id_is_refused(field: str, bad: str) -> None:
    with pytest.raises(ValueError, match=f"^a frame's {field} must not hold a line break$"):
        sse.frame("x", **{field: bad})


def test_nul_in_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a frame's id must not hold NUL$"):
        sse.frame("x", id="a\0b")


@pytest.mark.parametrize(
    ("text", "framed"), [("", b":\n\n"), ("ping", b": ping\n\n"), ("two\nlines", b": two\n: lines\n\n")]
)
def test_a_comment_is_written_line_by_line_and_read_by_nobody(text: str, framed: bytes) -> None:
    assert sse.comment(text) == framed
    assert Reader().feed(framed + b"data: x\n\n") == [SseFrame(b"x")]


def test_advice_to_come_back_later_delivers_nothing() -> None:
    reader = Reader()
    assert reader.feed(sse.retry(2500)) == []
    assert reader.retry_ms == 2500


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"soon", b"1" * 10])
def test_a_retry_that_is_no_small_whole_number_is_ignored(value: bytes) -> None:
    reader = Reader()
    reader.feed(b"retry: " + value + b"\n\n")
    assert reader.retry_ms is None


def test_a_torn_last_frame_is_dropped() -> None:
    assert Reader().feed(b"data: whole\n\ndata: torn\n") == [SseFrame(b"whole")]


def test_only_one_space_after_the_colon_is_taken_away() -> None:
    assert Reader().feed(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [SseFrame(b"a"), SseFrame(b"b"), SseFrame(b" c")]


def test_an_empty_data_line_is_a_frame_and_none_at_all_is_not() -> None:
    assert Reader().feed(b"data\n\ndata:\n\nevent: x\n\n") == [SseFrame(b""), SseFrame(b"")]


def test_an_id_holds_until_the_next_and_one_with_nul_is_ignored() -> None:
    frames = Reader().feed(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n")
    assert [frame.id for frame in frames] == ["1", "1", "1", ""]


def test_an_event_name_counts_for_its_own_frame_only() -> None:
    assert Reader().feed(b"event: e\n\ndata: a\n\nevent: f\ndata: b\n\n") == [SseFrame(b"a"), SseFrame(b"b", "f")]


def test_data_reads_as_text_with_bad_bytes_replaced() -> None:
    assert SseFrame(b"a\xffb").text == "a\N{REPLACEMENT CHARACTER}b"


def test_a_line_of_exactly_the_bound_is_read_and_one_byte_more_is_not() -> None:
    exact = b"data: " + b"x" * (sse.LINE_BYTES_MAX - 6)
    assert Reader().feed(exact + b"\n\n") == [SseFrame(exact[6:])]
    with pytest.raises(StreamTooLong, match=f"^a line is longer than {sse.LINE_BYTES_MAX} bytes$"):
        Reader().feed(exact + b"x")


def test_a_line_without_end_is_refused_when_it_passes_the_bound_and_not_before() -> None:
    reader = Reader(line_bytes_max=1000)
    for _ in range(10):
        assert reader.feed(b"x" * 100) == []
    with pytest.raises(StreamTooLong):
        reader.feed(b"x")


def test_a_frame_over_the_bound_is_refused_and_hands_over_those_before_it() -> None:
    reader = Reader(line_bytes_max=100, frame_bytes_max=150)
    line = b"data: " + b"x" * 60 + b"\n"
    with pytest.raises(StreamTooLong, match=r"^a frame is longer than 150 bytes$") as caught:
        reader.feed(b"data: a\n\n" + line * 3 + b"\n")
    assert caught.value.frames == (SseFrame(b"a"),)
