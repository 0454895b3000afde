"""Long answers are shown by their beginnings, and what is told many times over by its first and its last."""

import io

import pytest

from dragoman.server.shortened import LINE_CHARS_MAX, Frames, cut


def shown(*parts: str) -> str:
    out = io.StringIO()
    frames = Frames(out)
    for part in parts:
        frames.add(part)
    frames.end()
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "frame"),
    [("event", "event: token\ndata: {{}}\n\n"), ("type", 'id: {0}\ndata: {{"type":"GROWN","data":{0}}}\n\n')],
)
def test_what_is_told_many_times_in_a_row_is_shown_shortened(name: str, frame: str):
    first, last = "event: start\ndata: {}\n\n", "event: done\ndata: {}\n\n"
    for count in range(7):
        frames = [frame.format(number) for number in range(count)]
        kept = frames if count <= 3 else [*frames[:2], f"… {count - 3} more like these …\n\n", frames[-1]]
        expected = "".join([first, *kept, last])
        whole = "".join([first, *frames, last])
        assert shown(whole) == shown(*whole) == expected


def test_frames_of_different_kinds_and_what_is_left_at_the_end_are_all_shown():
    text = ": connected\n\ndata: [DONE]\n\nevent: a\ndata: 1\n\nevent: b\ndata: 2\n\n"
    assert shown(text) == text
    assert shown("data: half") == "data: half\n"


def test_long_texts_are_cut_and_say_so():
    assert cut("a" * 9, chars_max=9) == "a" * 9
    assert cut("a" * 10, chars_max=9) == "a" * 9 + "… (10 characters)"
    long = "a" * (LINE_CHARS_MAX + 1)
    assert shown(f"data: 1\ndata: {long}\n\n") == f"data: 1\n{cut('data: ' + long, chars_max=LINE_CHARS_MAX)}\n\n"
