"""A terminal for programs that draw on one: it types, answers what they ask it, and knows what stands on its screen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self

ROWS, COLUMNS = 40, 120
WAIT_S = 15.0
TYPED_TOGETHER_S = 0.03
"""Programs take what comes at once for one paste, and some lose one that follows another: a key is followed by such a
pause, in which the screen is read."""

_SEQUENCE = re.compile(
    rb"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<command>[@-~])"  # CSI
    rb"|\x1b\](?P<text>[^\x07\x1b]*)(?:\x07|\x1b\\)"  # OSC
    rb"|\x1b[()][0-9A-Za-z]|\x1b[=>78cDEHM]"
)
_UNFINISHED = re.compile(rb"\x1b(\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[()])?\Z")


class Screen:
    """What stands where: text, cursor and erasing, as far as full-screen programs use them. Colours are not kept."""

    def __init__(self, rows: int = ROWS, columns: int = COLUMNS) -> None:
        self.rows, self.columns = rows, columns
        self._row = self._column = 0
        self._cells = [[" "] * columns for _ in range(rows)]
        self._rest = b""

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, data: bytes) -> list[bytes]:
        """Draw it; the answers to what the program asked, in the order it asked."""
        data = self._rest + data
        self._rest = b""
        answers: list[bytes] = []
        at = 0
        while at < len(data):
            if data[at] == 0x1B:
                found = _SEQUENCE.match(data, at)
                if found is None:
                    if _UNFINISHED.match(data, at):
                        self._rest = data[at:]
                        break
                    at += 1
                    continue
                answers += self._obey(found)
                at = found.end()
                continue
            end = data.find(b"\x1b", at)
            end = len(data) if end < 0 else end
            plain = data[at:end]
            text = plain.decode(errors="ignore" if end < len(data) else "replace")
            if end == len(data) and text.endswith("\N{REPLACEMENT CHARACTER}"):  # a character cut in two
                kept = next(size for size in range(1, 5) if _whole(plain[:-size]))
                self._rest, text = plain[-kept:], plain[:-kept].decode()
            self._write(text)
            at = end
        return answers

    def _write(self, text: str) -> None:
        for character in text:
            if character == "\r":
                self._column = 0
            elif character == "\n":
                self._line_feed()
            elif character == "\b":
                self._column = max(0, self._column - 1)
            elif character >= " ":
                if self._column == self.columns:
                    self._column = 0
                    self._line_feed()
                self._cells[self._row][self._column] = character
                self._column += 1

    def _line_feed(self) -> None:
        if self._row < self.rows - 1:
            self._row += 1
        else:
            self._cells = [*self._cells[1:], [" "] * self.columns]

    def _obey(self, found: re.Match[bytes]) -> list[bytes]:
        if found["text"] is not None:
            return [b"\x1b]11;rgb:0000/0000/0000\x1b\\"] if found["text"] == b"11;?" else []
        parameters, command = found["parameters"], found["command"]
        if command == b"n" and parameters == b"6":
            return [b"\x1b[%d;%dR" % (self._row + 1, self._column + 1)]
        if command == b"c":
            return [b"\x1b[?62;22c"]
        if command is not None and not parameters.startswith((b"?", b">", b"<", b"=")):
            numbers = [int(number or 0) for number in parameters.split(b";")]
            self._move(command, numbers)
            self._erase(command, numbers[0])
        return []

    def _move(self, command: bytes, numbers: Sequence[int]) -> None:
        by = max(1, numbers[0])
        row, column = self._row, min(self._column, self.columns - 1)
        match command:
            case b"H" | b"f":
                row, column = by - 1, max(1, numbers[1] if len(numbers) > 1 else 1) - 1
            case b"A":
                row -= by
            case b"B":
                row += by
            case b"C":
                column += by
            case b"D":
                column -= by
            case b"G":
                column = by - 1
            case b"d":
                row = by - 1
            case _:
                return
        self._row = min(max(0, row), self.rows - 1)
        self._column = min(max(0, column), self.columns - 1)

    def _erase(self, command: bytes, what: int) -> None:
        """What: 0 = from the cursor on, 1 = up to it, 2 = all."""
        if command == b"K":
            self._blank(self._row, what)
        elif command == b"J":
            for row in range(self.rows):
                if what >= 2 or (row > self._row if what == 0 else row < self._row):
                    self._blank(row, 2)
            if what < 2:
                self._blank(self._row, what)

    def _blank(self, row: int, what: int) -> None:
        first = self._column if what == 0 else 0
        last = self._column + 1 if what == 1 else self.columns
        self._cells[row][first:last] = [" "] * (min(last, self.columns) - first)


def _whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: str | None = None) -> None:
        self._command = command
        self._env = {**env, "TERM": "xterm-256color"}
        self._cwd = cwd
        self.screen = Screen()

    def __enter__(self) -> Self:
        self._fd, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.rows, self.screen.columns, 0, 0))
            self._process = subprocess.Popen(
                self._command,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(theirs)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(WAIT_S)
        os.close(self._fd)

    def type(self, text: str) -> None:
        """Key by key; what the program draws meanwhile is drawn."""
        for key in text:
            os.write(self._fd, key.encode())
            self._draw(TYPED_TOGETHER_S)

    def say(self, text: str) -> None:
        """Type a line, see it, and press Enter."""
        self.type(text)
        self.wait_for(text)
        self.type("\r")

    def wait_for(self, text: str, *, timeout_s: float = WAIT_S) -> str:
        """Until it stands on the screen; all that stands there then."""
        deadline = time.monotonic() + timeout_s
        while text not in self.screen.text:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{text!r} did not appear in {timeout_s} s; the screen:\n{self.screen.text}"
            assert self._draw(min(left_s, 0.1)), f"the program ended before it showed {text!r}:\n{self.screen.text}"
        return self.screen.text

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Until the program ends; its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._draw(0.1):
            assert time.monotonic() < deadline, f"it did not end in {timeout_s} s; the screen:\n{self.screen.text}"
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _draw(self, timeout_s: float) -> bool:
        """Draw what comes within that time; False if nothing will come any more."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux says so when the other end is closed
            data = b""
        for answer in self.screen.feed(data):
            os.write(self._fd, answer)
        return bool(data)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
