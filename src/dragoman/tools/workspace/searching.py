"""Searching the text of files, line by line: plain text or a regular expression that cannot hang (`tools.patterns`).

Three bounds, each with its own words in the answer: the lines shown, the bytes looked at in one file, the time in all.
"""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Annotated

from msgspec import Meta, Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.patterns import REGEX_CHARS_MAX, BadPattern, regex
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail, Parts, open_file, shown
from dragoman.tools.workspace.reading import SNIFF_BYTES, looks_like_text, name_filter
from dragoman.tools.workspace.walking import Found, Walk

MATCHES_MAX = 200
FILE_BYTES_SEARCHED_MAX = 8 * 1024 * 1024
LINE_CHARS_SEARCHED_MAX = 10_000
LINE_CHARS_SHOWN_MAX = 300
CHUNK_BYTES = 1024 * 1024


SearchPath = Annotated[str, Meta(description="Folder or file, relative to the workspace. Leave out for everything.")]
FilesGlob = Annotated[
    str, Meta(description="Only files that fit this glob: *.py is about the name, docs/**/*.md about the path.")
]


class SearchFiles(Struct, frozen=True, forbid_unknown_fields=True):
    query: Annotated[
        str, Meta(min_length=1, max_length=REGEX_CHARS_MAX, description="Text to find, or a regular expression.")
    ]
    regex: Annotated[bool, Meta(description="Take the query as a regular expression.")] = False
    ignore_case: Annotated[bool, Meta(description="Treat upper and lower case alike.")] = False
    path: SearchPath = ""
    files: FilesGlob = ""


class _Search:
    """One search under way: what was found, and what was left out."""

    def __init__(self, asked: SearchFiles, deadline: Deadline) -> None:
        self.matches: list[str] = []
        self.cut = ""
        self.partly_read = 0
        self._matches = _matcher(asked)
        self._deadline = deadline

    def file(self, handle: int, parts: Parts) -> None:
        """Add the lines of an open file that match; none if it is not text."""
        data = self._read(handle)
        if not looks_like_text(data[:SNIFF_BYTES]):
            return
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), start=1):
            if self._deadline.passed:
                self.cut = "time is up"
                return
            searched = line[:LINE_CHARS_SEARCHED_MAX].removesuffix("\r")
            if self._matches(searched):
                if len(self.matches) == MATCHES_MAX:
                    self.cut = f"only the first {MATCHES_MAX} matching lines are shown"
                    return
                self.matches.append(f"{shown(parts)}:{number}: {_clipped(searched)}")

    def _read(self, handle: int) -> bytes:
        pieces: list[bytes] = []
        left = FILE_BYTES_SEARCHED_MAX
        while left and not self._deadline.passed and (piece := os.read(handle, min(left, CHUNK_BYTES))):
            pieces.append(piece)
            left -= len(piece)
            if len(pieces) == 1 and b"\0" in piece[:SNIFF_BYTES]:
                break  # not text: the rest need not be read to know
        if not left:
            self.partly_read += 1
        return b"".join(pieces)


def search_files(jail: Jail, asked: SearchFiles, deadline: Deadline) -> str:
    """`path:line: text` for each matching line, in order of path."""
    search = _Search(asked, deadline)
    wanted = name_filter(asked.files) if asked.files else None
    parts = jail.parts(asked.path)
    with closing(_files(jail, parts, search, deadline)) as files:
        for found in files:
            if wanted is None or wanted(found.parts[len(parts) :] or found.parts[-1:]):
                _look_into(found, search)
            if search.cut:
                break
    return _told(search, asked)


def _look_into(found: Found, search: _Search) -> None:
    try:
        handle = open_file(found.folder, found.parts)
    except ToolFailed:
        return  # gone, closed to us, or not a file any more: there is nothing of it to find
    try:
        search.file(handle, found.parts)
    finally:
        os.close(handle)


def _files(jail: Jail, parts: Parts, search: _Search, deadline: Deadline) -> Generator[Found]:
    if parts and _is_file(jail, parts):
        with jail.folder(parts[:-1]) as folder:
            yield Found(parts, "file", 0, folder)
        return
    with jail.folder(parts) as folder:
        walk = Walk(deadline, recursive=True)
        with closing(walk.below(folder, parts)) as entries:
            yield from (found for found in entries if found.kind == "file")
        search.cut = search.cut or walk.cut


def _is_file(jail: Jail, parts: Parts) -> bool:
    """Only chooses how to go on: either way opens what it uses anew."""
    try:
        with jail.file(parts):
            return True
    except ToolFailed:
        return False


def _matcher(asked: SearchFiles) -> Callable[[str], bool]:
    if asked.regex:
        try:
            return regex(asked.query, ignore_case=asked.ignore_case)
        except BadPattern as error:
            raise ToolFailed(str(error), code="bad_arguments") from None
    if asked.ignore_case:
        folded = asked.query.casefold()
        return lambda line: folded in line.casefold()
    return lambda line: asked.query in line


def _clipped(line: str) -> str:
    line = line.strip()
    return line if len(line) <= LINE_CHARS_SHOWN_MAX else line[:LINE_CHARS_SHOWN_MAX] + "…"


def _told(search: _Search, asked: SearchFiles) -> str:
    lines = search.matches or [f"No line matches {asked.query!r}."]
    if search.cut:
        lines = [*lines, f"[Not everything: {search.cut}. Narrow it with path or files.]"]
    if search.partly_read:
        size_mib = FILE_BYTES_SEARCHED_MAX // (1024 * 1024)
        lines = [*lines, f"[Large files were searched in their first {size_mib} MiB only: {search.partly_read}.]"]
    return "\n".join(lines)
