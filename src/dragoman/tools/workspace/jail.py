"""The jail: files are reached from the workspace's root by directory handles, never by a path.

    root ─openat─► folder ─openat─► folder ─openat─► file        each step O_NOFOLLOW, each name checked first

A path is looked up name by name, so there is no moment between a check and a use in which something could be swapped:
what was opened is what was checked. A link is never followed, wherever it points. The root itself is the operator's
word and may be a link. Hard links look like any other file; no tool makes one, and writing replaces the name instead
of writing through it.
"""

import errno
import os
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from dragoman.core.errors import ToolFailed

PATH_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
DEPTH_MAX = 32
"""Names in one path; also how deep a walk goes, and so how many handles it holds."""
NEW_FILE_MODE = 0o666
NEW_FOLDER_MODE = 0o777
"""Both before the process's umask."""
TEMPORARY_TRIES_MAX = 100

TEMPORARY_PREFIX = ".dragoman-"
TEMPORARY_SUFFIX = ".tmp"

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: what it is can be seen only once it is open, and opening a pipe must not wait for its other end.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Parts = tuple[str, ...]
"""A checked path below the root, name by name; () is the root."""


class Jail:
    """One workspace. Blocking: call it from a worker thread. Raises only ToolFailed, with a sentence for the model."""

    def __init__(self, root: Path) -> None:
        """Makes the root if it does not exist. Raises OSError if that fails."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.absolute()
        self._prefixes = tuple({f"{self._root}/", f"{root.resolve()}/"})
        self._counter = count(1)
        self.writing = threading.Lock()
        """Held from reading a file to replacing it: two edits of one turn run side by side."""

    def parts(self, path: str) -> Parts:
        """Check a path a model wrote. "" , "." and "./" are the root; a trailing / is allowed.

        An absolute path is taken if it begins with the root's own.
        """
        for prefix in self._prefixes:
            if path.startswith(prefix) or path == prefix[:-1]:
                path = path[len(prefix) :]
                break
        _check_path(path)
        parts = tuple(name for name in path.split("/") if name not in ("", "."))
        for name in parts:
            _check_name(name)
        if len(parts) > DEPTH_MAX:
            raise _denied(f"The path has more than {DEPTH_MAX} folders.")
        return parts

    def file_parts(self, path: str) -> Parts:
        """The same for a path that must name a file."""
        parts = self.parts(path)
        if not parts or path.endswith(("/", "/.")):
            raise _denied(f"{_quoted(path)} names a folder; name a file in it, such as notes.md.")
        return parts

    @contextmanager
    def folder(self, parts: Parts, *, create: bool = False) -> Generator[int]:
        """A handle on a folder, for as long as the block lasts. `create` makes the folders that are missing."""
        handle = self._open_root()
        try:
            for at, name in enumerate(parts):
                inner = _open_folder(handle, name, parts[: at + 1], create=create)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def file(self, parts: Parts) -> Generator[int]:
        """A handle on a regular file, open for reading, for as long as the block lasts."""
        with self.folder(parts[:-1]) as folder:
            handle = open_file(folder, parts)
        try:
            yield handle
        finally:
            os.close(handle)

    def replace(self, parts: Parts, content: bytes) -> bool:
        """Make or replace a file, whole or not at all, also over a crash; True if it is new. Folders are made."""
        with self.folder(parts[:-1], create=True) as folder:
            mode = _replaceable(folder, parts)
            try:
                self._write_beside(folder, parts[-1], content, mode=mode)
            except OSError as error:
                raise told(error, parts, "written") from None
        return mode is None

    def _write_beside(self, folder: int, name: str, content: bytes, *, mode: int | None) -> None:
        temporary, handle = self._new_temporary(folder)
        try:
            try:
                if mode is not None:
                    os.fchmod(handle, mode)
                left = memoryview(content)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):  # the first failure is the one to tell
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)

    def _new_temporary(self, folder: int) -> tuple[str, int]:
        for _ in range(TEMPORARY_TRIES_MAX):
            name = f"{TEMPORARY_PREFIX}{os.getpid()}-{next(self._counter)}{TEMPORARY_SUFFIX}"
            try:
                return name, os.open(name, _NEW_FLAGS, NEW_FILE_MODE, dir_fd=folder)
            except FileExistsError:
                continue  # left behind by a process that died with this id
        raise FileExistsError(errno.EEXIST, "no free name for a temporary file")

    def _open_root(self) -> int:
        try:
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            detail = "The workspace folder is missing or cannot be opened; whoever runs this server must restore it."
            raise ToolFailed(detail, internal=repr(error)) from None


def open_file(folder: int, parts: Parts) -> int:
    """A handle on the regular file `parts[-1]` in an open folder. The caller closes it."""
    try:
        handle = os.open(parts[-1], _FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        raise told(error, parts, "opened") from None
    try:
        _check_regular(os.fstat(handle).st_mode, parts)
    except BaseException:
        os.close(handle)
        raise
    return handle


def is_temporary(name: str) -> bool:
    """A file of ours that is being written, or was when a process died."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def shown(parts: Parts) -> str:
    """A path for a model or a person to read: what would break a line or turn it around is escaped."""
    return "/".join("".join(_visible(char) for char in name) for name in parts)


def _visible(char: str) -> str:
    if char in _BIDI or char in "\u2028\u2029" or ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0:
        return f"\\u{ord(char):04x}"
    if 0xDC80 <= ord(char) <= 0xDCFF:  # how Python spells a byte of a name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char


def _check_path(path: str) -> None:
    if len(path) > PATH_BYTES_MAX or len(path.encode("utf-8", "replace")) > PATH_BYTES_MAX:
        raise _denied(f"The path is longer than {PATH_BYTES_MAX} bytes.")
    if path.startswith("/"):
        raise _denied(f"{_quoted(path)} is outside the workspace: give a path relative to it, such as src/main.py.")
    if "\\" in path:
        raise _denied(f"{_quoted(path)}: write / between folders, not \\.")


def _check_name(name: str) -> None:
    if name == "..":
        raise _denied("A path may not contain '..': give it from the top of the workspace.")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in name):
        raise _denied(f"{_quoted(name)} contains a control character; such names are not taken.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise _denied(f"{_quoted(name)} is not valid text.") from None
    if size > NAME_BYTES_MAX:
        raise _denied(f"The name {_quoted(name)} is longer than {NAME_BYTES_MAX} bytes.")
    if is_temporary(name):
        raise _denied(f"{_quoted(name)} is a name this server uses for files being written; choose another.")


def _open_folder(handle: int, name: str, parts: Parts, *, create: bool) -> int:
    try:
        if create:
            try:
                os.mkdir(name, NEW_FOLDER_MODE, dir_fd=handle)
                os.fsync(handle)
            except FileExistsError:
                pass  # it may be anything: opening it decides
        return os.open(name, FOLDER_FLAGS, dir_fd=handle)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _not_a_folder(handle, name, parts) from None
        raise told(error, parts, "opened") from None


def _not_a_folder(handle: int, name: str, parts: Parts) -> ToolFailed:
    """Only words the refusal: the handle was not given."""
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)
    except OSError:
        is_link = False
    return _is_link(parts) if is_link else ToolFailed(f"{shown(parts)} is not a folder.")


def _replaceable(folder: int, parts: Parts) -> int | None:
    """The permissions of the file that stands there, None if there is none. Raises if something else does."""
    try:
        status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise told(error, parts, "written") from None
    _check_regular(status.st_mode, parts)
    if not status.st_mode & 0o222:
        raise _denied(f"{shown(parts)} is read-only.")
    return status.st_mode & 0o777


def _check_regular(mode: int, parts: Parts) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise _is_link(parts)
    if stat.S_ISDIR(mode):
        raise ToolFailed(f"{shown(parts)} is a folder, not a file. list_files shows what is in it.")
    raise _is_special(parts)


def _is_link(parts: Parts) -> ToolFailed:
    return _denied(f"{shown(parts)} is a link, and links are not followed. Use the path of what it points to.")


def _is_special(parts: Parts) -> ToolFailed:
    return _denied(f"{shown(parts)} is not a regular file (a pipe, socket or device).")


def told(error: OSError, parts: Parts, done: str) -> ToolFailed:
    """An operating system's refusal, in a sentence. `done` says what could not be done: "opened", "written"."""
    if error.errno == errno.ELOOP:
        return _is_link(parts)
    if error.errno == errno.ENXIO:
        return _is_special(parts)
    name = shown(parts) or "the workspace"
    sentences = {
        errno.ENOENT: f"There is no {name} in the workspace. list_files shows what there is.",
        errno.EISDIR: f"{name} is a folder, not a file.",
        errno.ENOTDIR: f"{name} is not a folder.",
        errno.EACCES: f"The server has no permission on {name}.",
        errno.EPERM: f"The server has no permission on {name}.",
        errno.EROFS: "The workspace is read-only.",
        errno.ENOSPC: "The disk is full; nothing was changed.",
        errno.EDQUOT: "The disk quota is used up; nothing was changed.",
        errno.ENAMETOOLONG: f"The name of {name} is too long for this file system.",
    }
    sentence = sentences.get(error.errno or 0, f"{name} could not be {done}.")
    return ToolFailed(sentence, internal=f"errno {error.errno}: {error.strerror}")


def _denied(sentence: str) -> ToolFailed:
    return ToolFailed(sentence, code="denied")


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 100 else text[:100] + "...")
