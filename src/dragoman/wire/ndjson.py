"""Newline-delimited JSON: one value per line; bytes in, lines out, however the network cuts them."""

from dragoman.wire.sse import LINE_BYTES_MAX


def line(value: bytes) -> bytes:
    """One line as it goes on the wire. Raises ValueError for a line feed: JSON as we encode it holds none."""
    if b"\n" in value:
        raise ValueError("a line of newline-delimited JSON must not hold a line feed")
    return value + b"\n"


class LineTooLong(ValueError):
    """A line is over its bound. `lines` are the whole ones that came before it in the same chunk."""

    def __init__(self, *, bytes_max: int, lines: tuple[bytes, ...] = ()) -> None:
        super().__init__(f"a line is longer than {bytes_max} bytes")
        self.bytes_max = bytes_max
        self.lines = lines


class Reader:
    """Reads lines that end in LF or CRLF; empty ones are left out. Where chunks are cut makes no difference."""

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._unread = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes. Raises LineTooLong; the reader is of no use after that."""
        first, *others = chunk.split(b"\n")
        self._unread += first
        if not others:
            self._check(len(self._unread), [])
            return []
        found = [bytes(self._unread), *others]
        self._unread = bytearray(found.pop())
        lines: list[bytes] = []
        for each in found:
            self._check(len(each), lines)
            each = each.removesuffix(b"\r")
            if each:
                lines.append(each)
        self._check(len(self._unread), lines)
        return lines

    def end(self) -> list[bytes]:
        """The last line, if the sender did not end it: many do not. Whether it is whole, its JSON will tell."""
        rest = bytes(self._unread).removesuffix(b"\r")
        self._unread.clear()
        return [rest] if rest else []

    def _check(self, line_bytes: int, lines: list[bytes]) -> None:
        if line_bytes > self._line_bytes_max:
            raise LineTooLong(bytes_max=self._line_bytes_max, lines=tuple(lines))
