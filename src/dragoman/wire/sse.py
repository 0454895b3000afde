"""Server-sent events: frames to bytes, and bytes to frames however the network cuts them.

The rules are those of the WHATWG HTML standard, section "Server-sent events". What is read stays bytes: a frame's data
is mostly JSON, and a JSON decoder wants the bytes.
"""

import re

from msgspec import Struct

LINE_BYTES_MAX = 2 * 1024 * 1024
"""A longer line is not read: a peer that never ends a line would fill our memory."""

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""All lines of one frame together, comments among them included."""

RETRY_DIGITS_MAX = 9
"""A `retry:` of more digits (over eleven days in milliseconds) is ignored."""

BOM = b"\xef\xbb\xbf"
LF = 10
CR = 13

_LINE_END = re.compile(rb"\r\n|\r|\n")


def frame(
    data: str | bytes,
    *,
    event: str | None = None,
    id: str | None = None,
    retry_ms: int | None = None,
    newline: bytes = b"\n",
) -> bytes:
    """One frame as it goes on the wire, fields in the order id, event, retry, data.

    Line breaks in `data` (CR, LF or CRLF) become several `data:` lines, which a reader joins with LF. Raises ValueError
    for a line break in `event` or `id`, and for NUL in `id`: readers would ignore it.
    """
    if isinstance(data, str):
        data = data.encode()
    if b"\n" in data or b"\r" in data:
        data = (newline + b"data: ").join(_LINE_END.split(data))
    tail = b"data: " + data + newline + newline
    if event is None and id is None and retry_ms is None:
        return tail
    head = b""
    if id is not None:
        if "\0" in id:
            raise ValueError("a frame's id must not hold NUL")
        head = b"id: " + _one_line("id", id) + newline
    if event is not None:
        head += b"event: " + _one_line("event", event) + newline
    if retry_ms is not None:
        head += b"retry: %d" % retry_ms + newline
    return head + tail


def comment(text: str = "", *, newline: bytes = b"\n") -> bytes:
    """A comment frame: keeps a connection alive, and no reader sees it. Each line of `text` is a comment line."""
    lines = _LINE_END.split(text.encode())
    return b"".join((b": " + line if line else b":") + newline for line in lines) + newline


def retry(retry_ms: int, *, newline: bytes = b"\n") -> bytes:
    """Tells readers how long to wait before they connect again; delivers nothing to them."""
    return b"retry: %d" % retry_ms + newline + newline


def _one_line(field: str, value: str) -> bytes:
    if "\n" in value or "\r" in value:
        raise ValueError(f"a frame's {field} must not hold a line break")
    return value.encode()


class SseFrame(Struct, frozen=True, gc=False):
    """One frame as read. `event` is "" where the sender gave none (a browser says "message"); `id` is the last id the
    sender gave, in this frame or an earlier one."""

    data: bytes
    event: str = ""
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; bad UTF-8 becomes U+FFFD, as the standard has it."""
        return self.data.decode("utf-8", "replace")


class StreamTooLong(ValueError):
    """A line or a frame is over its bound. `frames` are the whole ones that came before it in the same chunk."""

    def __init__(self, what: str, *, bytes_max: int, frames: tuple[SseFrame, ...] = ()) -> None:
        super().__init__(f"a {what} is longer than {bytes_max} bytes")
        self.bytes_max = bytes_max
        self.frames = frames


class Reader:
    """Reads a stream of frames. Feed it chunks as they come; where they are cut makes no difference.

    An unfinished frame at the end of the stream is dropped, as the standard demands: simply stop feeding.
    """

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        """The last `retry:` of the sender."""
        self._line_bytes_max = line_bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._unchecked_bytes_max = min(line_bytes_max, frame_bytes_max)
        self._unread = bytearray()
        """An unfinished frame, its line ends already made LF."""
        self._line_bytes = 0
        """How much of its end is an unfinished line."""
        self._after_cr = False
        self._opening: bytes | None = b""
        """Up to two bytes that may begin a byte order mark; None once that is settled."""

    def feed(self, chunk: bytes) -> list[SseFrame]:
        """The frames that this chunk completes. Raises StreamTooLong; the reader is of no use after that."""
        if self._opening is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:  # a LF here belongs to the CR that ended the last chunk
            self._after_cr = False
            chunk = chunk[1:] if chunk[0] == LF else chunk
        if b"\r" in chunk:
            self._after_cr = chunk[-1] == CR
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._unread:
            # Only what is new is searched: a frame in a thousand pieces costs no more than in one.
            if b"\n\n" not in chunk and not (self._unread[-1] == LF and chunk[:1] == b"\n"):
                self._keep(chunk, [])
                return []
            chunk = bytes(self._unread) + chunk
            self._unread.clear()
            self._line_bytes = 0
        blocks = chunk.split(b"\n\n")
        rest = blocks.pop()
        long = len(chunk) > self._unchecked_bytes_max
        frames: list[SseFrame] = []
        for block in blocks:
            if block[:6] == b"data: " and b"\n" not in block and not long:
                frames.append(SseFrame(block[6:], "", self.last_id))
                continue
            if long:
                self._check(block, frames)
            self._parse(block, frames)
        if rest:
            self._keep(rest, frames)
        return frames

    def _without_bom(self, chunk: bytes) -> bytes:
        chunk = (self._opening or b"") + chunk
        if len(chunk) < len(BOM) and BOM.startswith(chunk):
            self._opening = chunk
            return b""
        self._opening = None
        return chunk.removeprefix(BOM)

    def _keep(self, part: bytes, frames: list[SseFrame]) -> None:
        """Hold back what does not end a frame yet. `frames` are those that came before it in the same chunk."""
        lines = part.split(b"\n")
        longest = max(self._line_bytes + len(lines[0]), *map(len, lines))
        self._line_bytes = len(lines[-1]) + (self._line_bytes if len(lines) == 1 else 0)
        self._unread += part
        # A line end at the end is not yet known to be within the frame.
        if longest > self._line_bytes_max or len(self._unread) - (self._line_bytes == 0) > self._frame_bytes_max:
            self._check(bytes(self._unread), frames)

    def _check(self, block: bytes, frames: list[SseFrame]) -> None:
        """Raise StreamTooLong for the bound that the stream passed first, if it passed one."""
        start = 0
        for line in block.split(b"\n"):
            if len(line) > self._line_bytes_max and start + self._line_bytes_max <= self._frame_bytes_max:
                raise StreamTooLong("line", bytes_max=self._line_bytes_max, frames=tuple(frames))
            start += len(line) + 1
        if len(block.removesuffix(b"\n")) > self._frame_bytes_max:
            raise StreamTooLong("frame", bytes_max=self._frame_bytes_max, frames=tuple(frames))

    def _parse(self, block: bytes, frames: list[SseFrame]) -> None:
        """All lines of one frame. Comments, empty lines and unknown fields count for nothing."""
        data: list[bytes] = []
        event = ""
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value.decode("utf-8", "replace")
            elif name == b"id" and b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace")
            elif name == b"retry" and value.isdigit() and len(value) <= RETRY_DIGITS_MAX:
                self.retry_ms = int(value)
        if data:
            frames.append(SseFrame(b"\n".join(data), event, self.last_id))
