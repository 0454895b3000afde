"""How the command line prints: results on stdout, everything else on stderr, colours only where a person looks."""

import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

import click

from dragoman.cli.options import settings

PROGRESS_AFTER_S = 1.0
"""Work that takes longer than this shows that it goes on."""
CELL_CHARS_MAX = 60


def colours(stream: TextIO) -> bool:
    """A terminal that shows colours, and nobody said NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str = "", *, nl: bool = True) -> None:
    """A result: to stdout, at once."""
    click.echo(text, nl=nl, color=colours(sys.stdout))


def note(text: str = "", *, nl: bool = True) -> None:
    """What a person may want to know besides: to stderr, and not with -q."""
    if settings().verbosity >= 0:
        click.echo(text, err=True, nl=nl, color=colours(sys.stderr))


def warn(text: str) -> None:
    click.echo(click.style(f"! {text}", fg="yellow"), err=True, color=colours(sys.stderr))


def dim(text: str) -> str:
    return click.style(text, dim=True)


def say_json(value: Any) -> None:
    """JSON for programs: two spaces of indent, keys in the order given."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the titles only for a person (to a terminal)."""
    shown = [[shorten(cell) for cell in row] for row in rows]
    lines = [list(titles), *shown] if sys.stdout.isatty() else shown
    if not lines:
        return
    widths = [max(columns(line[column]) for line in lines) for column in range(len(titles))]
    for number, line in enumerate(lines):
        cells = zip(line, widths, strict=True)
        text = "  ".join(cell + " " * (width - columns(cell)) for cell, width in cells).rstrip()
        say(dim(text) if number == 0 and lines is not shown else text)


def shorten(text: str, *, chars_max: int = CELL_CHARS_MAX) -> str:
    """One line of printable characters, cut with an ellipsis. What others wrote must not steer the terminal."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def columns(text: str) -> int:
    """How wide a line of printable characters is: those of East Asian scripts take two columns, marks take none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def printable(text: str) -> str:
    """Text of others for the terminal: line ends and tabs stay, control characters and escapes become U+FFFD."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
"""Letters and marks that count as printable and show nothing."""


def exact(text: str) -> str:
    """A JSON text for a person who decides about it: letters as themselves, and every character that could hide,
    turn round or rewrite what stands there as its escape. Still JSON, of the same value."""
    value = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    return "".join(char if _shows(char) else json.dumps(char)[1:-1] for char in value)


def _shows(char: str) -> bool:
    return char.isprintable() and char not in BLANK and not 0xFE00 <= ord(char) <= 0xFE0F and ord(char) < 0xE0000


@contextmanager
def progress(what: str, *, total: int) -> Generator["Progress"]:
    """Counts steps; after a second it shows them on stderr, if that is a terminal."""
    bar = Progress(what, total)
    try:
        yield bar
    finally:
        bar.clear()


class Progress:
    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._began_s = monotonic()
        self._shown = False
        self._visible = sys.stderr.isatty() and settings().verbosity >= 0

    def step(self, count: int = 1) -> None:
        self._done += count
        elapsed_s = monotonic() - self._began_s
        if not self._visible or elapsed_s < PROGRESS_AFTER_S:
            return
        left_s = elapsed_s / self._done * (self._total - self._done)
        click.echo(f"\r{self._what} {self._done}/{self._total}, {left_s:.0f} s left  ", err=True, nl=False)
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False, color=True)
