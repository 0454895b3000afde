"""A bounded walk through the workspace, folder handle by folder handle. Links are shown, never followed."""

import os
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Literal

from msgspec import Struct

from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import DEPTH_MAX, FOLDER_FLAGS, Parts, is_temporary

FOLDER_ENTRIES_MAX = 10_000
"""Entries looked at in one folder."""
WALK_ENTRIES_MAX = 100_000
"""Entries looked at in one walk."""
FOLDERS_SKIPPED = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"})
"""A walk shows these and does not go in: what they hold was not written by people. Naming one as the start does."""

Kind = Literal["file", "folder", "link", "special"]


class Found(Struct, frozen=True, gc=False):
    """One entry. `folder` is a handle on what it lies in, good until the walk goes on; `bytes` is 0 but for files."""

    parts: Parts
    kind: Kind
    bytes: int
    folder: int


class Walk:
    """Entries below a folder, in order of name, each folder before what it holds.

    `cut` says, once the walk is over, why it did not see everything; "" if it did.
    """

    def __init__(self, deadline: Deadline, *, recursive: bool) -> None:
        self._deadline = deadline
        self._recursive = recursive
        self._left = WALK_ENTRIES_MAX
        self.cut = ""

    def below(self, folder: int, parts: Parts) -> Generator[Found]:
        """Close the generator, or let it run out, before `folder` is closed."""
        for entry in self._entries(folder):
            if self._deadline.passed:
                self.cut = "time is up"
                return
            found = Found((*parts, entry.name), *_look(entry), folder)
            yield found
            if self._recursive and found.kind == "folder" and entry.name not in FOLDERS_SKIPPED:
                yield from self._inside(folder, found.parts)

    def _inside(self, folder: int, parts: Parts) -> Iterator[Found]:
        if len(parts) >= DEPTH_MAX:
            return  # what lies deeper has no path a tool would take
        try:
            inner = os.open(parts[-1], FOLDER_FLAGS, dir_fd=folder)
        except OSError:
            return  # gone, closed to us, or a link by now
        try:
            yield from self.below(inner, parts)
        finally:
            os.close(inner)

    def _entries(self, folder: int) -> list[os.DirEntry[str]]:
        most = min(FOLDER_ENTRIES_MAX, self._left)
        try:
            with os.scandir(folder) as scan:
                entries = list(islice(scan, most + 1))
        except OSError:
            return []
        if len(entries) > most:
            self.cut = "there are too many entries"
            del entries[most:]
        self._left -= len(entries)
        return sorted((entry for entry in entries if not is_temporary(entry.name)), key=_name)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _look(entry: os.DirEntry[str]) -> tuple[Kind, int]:
    try:
        if entry.is_symlink():
            return "link", 0
        if entry.is_dir(follow_symlinks=False):
            return "folder", 0
        if entry.is_file(follow_symlinks=False):
            return "file", entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass  # gone since the folder was read
    return "special", 0
