"""Keys of the server's own: from the environment, or from a file in home that is made on first use and that only its
owner can read."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from dragoman.core.errors import DragomanError

RandomBytes = Callable[[int], bytes]
"""Gives that many random bytes. The composition root hands in `os.urandom`."""

KEY_BYTES = 32
KEY_CHARS_MIN = 32
KEY_FILE_BYTES_MAX = 4096


class KeySource(Struct, frozen=True):
    """`noun` is what people call this key; `variable` wins over `file`."""

    noun: str
    variable: str
    file: str


def read_key(
    home: Path,
    source: KeySource,
    *,
    env: Mapping[str, str],
    random_bytes: RandomBytes,
    refused: Callable[[str], DragomanError],
) -> bytes:
    """The key's text as bytes; made if there is none. `home` must exist. Raises what `refused` makes of a sentence."""
    given = env.get(source.variable)
    if given is not None:
        return _checked(given, source, f"the environment variable {source.variable}", refused)
    path = home / source.file
    if not path.exists():
        _write_once(path, random_bytes(KEY_BYTES).hex() + "\n", suffix=random_bytes(8).hex())
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise refused(f"Others on this machine can read {path}; close it with: chmod 600 {path}")
    with path.open("rb") as file:
        text = file.read(KEY_FILE_BYTES_MAX + 1)
    if len(text) > KEY_FILE_BYTES_MAX or not text.isascii():
        raise refused(
            f"{path} is not a {source.noun}: it must hold one line of at least {KEY_CHARS_MIN} ASCII characters."
        )
    return _checked(text.decode("ascii"), source, str(path), refused)


def _checked(text: str, source: KeySource, where: str, refused: Callable[[str], DragomanError]) -> bytes:
    key = text.strip().encode()
    if len(key) < KEY_CHARS_MIN:
        raise refused(
            f"The {source.noun} in {where} has {len(key)} characters and needs at least {KEY_CHARS_MIN};"
            " make one with: openssl rand -hex 32"
        )
    if len(set(key)) < 8:
        raise refused(f"The {source.noun} in {where} is a placeholder; make one with: openssl rand -hex 32")
    return key


def _write_once(path: Path, text: str, *, suffix: str) -> None:
    """Whole or not at all, and never over one that another process made in the meantime."""
    draft = path.with_name(f"{path.name}.{suffix}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
