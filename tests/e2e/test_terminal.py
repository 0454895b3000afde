"""The screen that tests of full-screen programs read: what is drawn on it stands where a terminal would put it."""

import pytest

from tests.e2e.terminal import Screen


def drawn(*pieces: bytes) -> list[str]:
    screen = Screen(rows=4, columns=8)
    for piece in pieces:
        assert screen.feed(piece) == []
    return screen.lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo", ["one", "two", "", ""]),
        (b"one\ntwo", ["one", "   two", "", ""]),
        (b"0123456789", ["01234567", "89", "", ""]),
        (b"1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"]),
        (b"one\x1b[31m red\x1b[0m", ["one red", "", "", ""]),
        (b"\x1b[2;3Hx\x1b[Hy\x1b[3dz", ["y", "  x", " z", ""]),
        (b"abcd\x1b[2D!\x1b[Be\x1b[Af\x1b[Gg", ["gb!df", "   e", "", ""]),
        (b"abcd\r\x1b[2C\x1b[K", ["ab", "", "", ""]),
        (b"abcd\r\x1b[2C\x1b[1K", ["   d", "", "", ""]),
        (b"one\r\ntwo\x1b[2Jx", ["", "   x", "", ""]),
        (b"one\r\ntwo\r\nsix\x1b[2;2H\x1b[J", ["one", "t", "", ""]),
        (b"\x1b]0;title\x07one\x1b[?25l\x1b(B", ["one", "", "", ""]),
        (b"ab\bc", ["ac", "", "", ""]),
    ],
)
def test_it_stands_where_a_terminal_would_put_it(data: bytes, lines: list[str]) -> None:
    assert drawn(data) == lines


def test_what_comes_in_pieces_is_drawn_as_if_it_came_at_once() -> None:
    whole = "\x1b[2;3H\N{BRAILLE PATTERN DOTS-1}\N{LARGE GREEN CIRCLE}\x1b[1mé\x1b[0m".encode()
    assert drawn(*(whole[at : at + 1] for at in range(len(whole)))) == drawn(whole)
    assert drawn(whole)[1] == "  \N{BRAILLE PATTERN DOTS-1}\N{LARGE GREEN CIRCLE}é"


def test_it_answers_what_it_is_asked_in_that_order() -> None:
    screen = Screen()
    assert screen.feed(b"ab\x1b]11;?\x1b\\\x1b[6n\x1b[c") == [
        b"\x1b]11;rgb:0000/0000/0000\x1b\\",
        b"\x1b[1;3R",
        b"\x1b[?62;22c",
    ]
