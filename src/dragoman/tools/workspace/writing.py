"""Writing files: whole, or one exact replacement. Either the new content stands, synced, or the old one does."""

import os
from typing import Annotated

from msgspec import Meta, Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail, Parts, shown
from dragoman.tools.workspace.reading import SNIFF_BYTES, FilePath, check_is_text

WRITE_BYTES_MAX = 1024 * 1024


class WriteFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: FilePath
    content: Annotated[str, Meta(description="The whole new content of the file.")]


class EditFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: FilePath
    old: Annotated[str, Meta(min_length=1, description="The exact text to replace, with its spaces and line ends.")]
    new: Annotated[str, Meta(description="The text to put in its place; empty to delete it.")]
    replace_all: Annotated[bool, Meta(description="Replace every occurrence; else there must be just one.")] = False


def write_file(jail: Jail, asked: WriteFile, _: Deadline) -> str:
    """Create or overwrite a file; folders on the way are made."""
    parts = jail.file_parts(asked.path)
    content = _encoded(asked.content)
    _check_size(len(content), parts)
    with jail.writing:
        created = jail.replace(parts, content)
    return f"{'Created' if created else 'Replaced'} {shown(parts)} ({len(content):,} bytes)."


def edit_file(jail: Jail, asked: EditFile, _: Deadline) -> str:
    """Replace one exact text in a file."""
    parts = jail.file_parts(asked.path)
    old, new = _encoded(asked.old), _encoded(asked.new)
    if old == new:
        raise ToolFailed("old and new are the same text; nothing was changed.")
    with jail.writing:
        before = _whole(jail, parts)
        times = _occurrences(before, old, parts, replace_all=asked.replace_all)
        after = before.replace(old, new)
        _check_size(len(after), parts)
        jail.replace(parts, after)
    return f"Replaced {times:,} occurrence{'s' if times > 1 else ''} in {shown(parts)}."


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolFailed("The text holds half a character (a lone surrogate) and cannot be written.") from None


def _check_size(size: int, parts: Parts) -> None:
    if size > WRITE_BYTES_MAX:
        raise ToolFailed(
            f"{shown(parts)} would be {size:,} bytes; at most {WRITE_BYTES_MAX:,} are written. Nothing was changed."
        )


def _whole(jail: Jail, parts: Parts) -> bytes:
    with jail.file(parts) as handle:
        pieces: list[bytes] = []
        left = WRITE_BYTES_MAX + 1
        while left and (piece := os.read(handle, left)):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise ToolFailed(f"{shown(parts)} is larger than {WRITE_BYTES_MAX:,} bytes and cannot be edited.")
    data = b"".join(pieces)
    check_is_text(data[:SNIFF_BYTES], parts)
    return data


def _occurrences(data: bytes, old: bytes, parts: Parts, *, replace_all: bool) -> int:
    """How many places will change. Overlapping ones count for whether the place is the only one."""
    first = data.find(old)
    if first < 0:
        raise ToolFailed(_not_found(data, old, parts))
    if not replace_all and data.find(old, first + 1) >= 0:
        raise ToolFailed(
            f"The text to replace stands in {shown(parts)} more than once. Give more of what surrounds it, "
            "or set replace_all. Nothing was changed."
        )
    return data.count(old)


def _not_found(data: bytes, old: bytes, parts: Parts) -> str:
    if b"\r\n" in data and data.find(old.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) >= 0:
        return f"The lines of {shown(parts)} end in CRLF: write \\r\\n in old and new. Nothing was changed."
    return (
        f"The text to replace was not found in {shown(parts)}. Read the file again and copy the text exactly, "
        "with its spaces and line ends. Nothing was changed."
    )
