"""Listing folders, finding files by name, reading text: what models ask first."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated

from msgspec import Meta, Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.patterns import BadPattern, glob
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail, Parts, shown
from dragoman.tools.workspace.walking import Found, Walk

LIST_ENTRIES_MAX = 1_000
READ_BYTES_MAX = 1024 * 1024 - 1024
"""One MiB with the line that says how to go on, so that the registry's cap never cuts that line off."""
READ_LINES_DEFAULT = 2_000
READ_LINES_MAX = 100_000
LINE_OFFSET_MAX = 1_000_000_000
SNIFF_BYTES = 8 * 1024
"""How much of a file's beginning decides whether it is text."""
UNREADABLE_SHARE_MAX = 0.3
"""Of the characters in that beginning; a few stray bytes are an old encoding, many are not text."""
CHUNK_BYTES = 256 * 1024

FolderPath = Annotated[str, Meta(description="Folder, relative to the workspace. Leave out for the whole workspace.")]
FilePath = Annotated[str, Meta(description="File, relative to the workspace, such as src/main.py.")]


class ListFiles(Struct, frozen=True, forbid_unknown_fields=True):
    path: FolderPath = ""
    recursive: Annotated[bool, Meta(description="Also list what is inside the folders.")] = False
    sizes: Annotated[bool, Meta(description="Add each file's size in bytes.")] = False


class FindFiles(Struct, frozen=True, forbid_unknown_fields=True):
    pattern: Annotated[
        str,
        Meta(
            description="Glob: *.py is about the name, in every folder; src/**/*.{ts,tsx} about the path. Case matters."
        ),
    ]
    path: FolderPath = ""


class ReadFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: FilePath
    offset: Annotated[int, Meta(ge=1, le=LINE_OFFSET_MAX, description="First line to read, counted from 1.")] = 1
    limit: Annotated[int, Meta(ge=1, le=READ_LINES_MAX, description="How many lines to read at most.")] = (
        READ_LINES_DEFAULT
    )


def list_files(jail: Jail, asked: ListFiles, deadline: Deadline) -> str:
    """One path per line, relative to the workspace, folders with a / at the end."""
    parts = jail.parts(asked.path)
    with jail.folder(parts) as folder:
        walk = Walk(deadline, recursive=asked.recursive)
        lines, cut = _take(walk, folder, parts, lambda found: _line(found, with_size=asked.sizes))
    if not lines and not cut:
        return f"{shown(parts)}/ is empty." if parts else "The workspace is empty."
    return _told(lines, cut, "List one of the folders, or look for names with find_files.")


def find_files(jail: Jail, asked: FindFiles, deadline: Deadline) -> str:
    """The paths of files that fit the glob, one per line, relative to the workspace."""
    fits = name_filter(asked.pattern)
    parts = jail.parts(asked.path)
    with jail.folder(parts) as folder:
        walk = Walk(deadline, recursive=True)

        def line(found: Found) -> str:
            fitting = found.kind == "file" and fits(found.parts[len(parts) :])
            return shown(found.parts) if fitting else ""

        lines, cut = _take(walk, folder, parts, line)
    if not lines and not cut:
        return f"No file's name fits {asked.pattern!r}."
    return _told(lines, cut, "Use a narrower pattern, or a path to start from.")


def name_filter(pattern: str) -> Callable[[Parts], bool]:
    """Whether a path fits a glob: one without / is about the name alone. Raises ToolFailed."""
    try:
        fits = glob(pattern.removeprefix("./"))
    except BadPattern as error:
        raise ToolFailed(str(error)) from None
    if "/" in pattern.removeprefix("./"):
        return lambda parts: fits("/".join(parts))
    return lambda parts: fits(parts[-1])


def read_file(jail: Jail, asked: ReadFile, deadline: Deadline) -> str:
    """The file's text as it stands; if some is left out, a last line in brackets says how to go on."""
    parts = jail.file_parts(asked.path)
    with jail.file(parts) as handle:
        check_is_text(os.pread(handle, SNIFF_BYTES, 0), parts)
        data = _seek_line(handle, deadline, lines=asked.offset - 1)
        data = _fill(handle, data, size=READ_BYTES_MAX + 1)
        empty = not os.fstat(handle).st_size
    if not data:
        if empty:
            return f"{shown(parts)} is empty."
        raise ToolFailed(f"{shown(parts)} ends before line {asked.offset:,}; choose a smaller offset.")
    kept = _first_lines(data, asked.limit)
    if b"\0" in kept:
        raise _binary(parts)
    text = kept.decode("utf-8", "replace")
    return text if len(kept) == len(data) else text.removesuffix("\n") + _go_on(kept, asked.offset)


def check_is_text(beginning: bytes, parts: Parts) -> None:
    """Raises ToolFailed unless these first SNIFF_BYTES look like text."""
    if not looks_like_text(beginning):
        raise _binary(parts)


def looks_like_text(beginning: bytes) -> bool:
    if b"\0" in beginning:
        return False
    # The beginning may end inside a character: only what stands before its last few bytes is judged.
    text = beginning.decode("utf-8", "replace")
    return text[:-3].count("\ufffd") <= len(text) * UNREADABLE_SHARE_MAX


def _binary(parts: Parts) -> ToolFailed:
    return ToolFailed(f"{shown(parts)} is not a text file; only text can be read.")


def _line(found: Found, *, with_size: bool) -> str:
    path = shown(found.parts)
    match found.kind:
        case "folder":
            return f"{path}/"
        case "file":
            return f"{path} ({found.bytes:,} bytes)" if with_size else path
        case "link":
            return f"{path} (link, not followed)"
        case "special":
            return f"{path} (not a regular file)"


def _take(walk: Walk, folder: int, parts: Parts, line: Callable[[Found], str]) -> tuple[list[str], str]:
    """The walk's lines, empty ones left out, and why there may be more; "" if there are not."""
    lines: list[str] = []
    with closing(walk.below(folder, parts)) as entries:
        for found in entries:
            if text := line(found):
                if len(lines) == LIST_ENTRIES_MAX:
                    return lines, f"only the first {LIST_ENTRIES_MAX:,} are shown"
                lines.append(text)
    return lines, walk.cut


def _told(lines: list[str], cut: str, advice: str) -> str:
    return "\n".join([*lines, f"[Not everything: {cut}. {advice}]"] if cut else lines)


def _seek_line(handle: int, deadline: Deadline, *, lines: int) -> bytes:
    """Pass over `lines` lines; what was read beyond them."""
    for chunk in _chunks(handle):
        if not lines:
            return chunk
        if deadline.passed:
            raise ToolFailed("Finding that line took too long; the file is very large. Use search_files instead.")
        ends = chunk.count(b"\n")
        if ends >= lines:
            at = -1
            for _ in range(lines):
                at = chunk.index(b"\n", at + 1)
            return chunk[at + 1 :]
        lines -= ends
    return b""


def _chunks(handle: int) -> Iterator[bytes]:
    while chunk := os.read(handle, CHUNK_BYTES):
        yield chunk


def _fill(handle: int, data: bytes, *, size: int) -> bytes:
    """`data` and what follows it in the file, up to `size` bytes."""
    pieces = [data[:size]]
    left = size - len(pieces[0])
    while left and (piece := os.read(handle, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _first_lines(data: bytes, lines: int) -> bytes:
    """The first `lines` lines within READ_BYTES_MAX: whole ones, unless the first alone is longer than that."""
    end = 0
    for _ in range(lines):
        following = data.find(b"\n", end) + 1
        if not following:
            if len(data) <= READ_BYTES_MAX:
                return data
            break
        if following > READ_BYTES_MAX:
            break
        end = following
    if end:
        return data[:end]
    return data[:READ_BYTES_MAX].decode("utf-8", "ignore").encode()


def _go_on(kept: bytes, offset: int) -> str:
    lines = kept.count(b"\n")
    if not lines:
        return f"\n[Line {offset} is longer than {READ_BYTES_MAX:,} bytes; its rest is left out.]"
    return f"\n[Lines {offset} to {offset + lines - 1}. There are more: read on with offset={offset + lines}.]"
