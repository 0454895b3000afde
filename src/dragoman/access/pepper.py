"""The pepper: the server's own secret, without which the hashes in a stolen database prove nothing.

It comes from the environment (DRAGOMAN_PEPPER) or from a file in home, which is made on first use. Every credential
keeps the id of the pepper it was hashed with, so that a changed pepper is noticed and not mistaken for a wrong text.
"""

import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from dragoman.core.errors import DragomanError

RandomBytes = Callable[[int], bytes]
"""Gives that many random bytes. The composition root hands in `os.urandom`."""

PEPPER_VARIABLE = "DRAGOMAN_PEPPER"
PEPPER_FILE = "pepper"
PEPPER_BYTES = 32
PEPPER_CHARS_MIN = 32
PEPPER_FILE_BYTES_MAX = 4096


class BadPepper(DragomanError):
    """The pepper given cannot be used; the sentence says what to do."""

    code = "bad_config"


class Pepper(Struct, frozen=True):
    id: str
    """8 hex digits that name the key and do not tell it."""
    key: bytes

    def __repr__(self) -> str:
        return f"Pepper({self.id!r})"

    def digest(self, text: bytes) -> bytes:
        """HMAC-SHA256(key, text), 32 bytes."""
        return hmac.digest(self.key, text, "sha256")


def load_pepper(home: Path, *, env: Mapping[str, str], random_bytes: RandomBytes) -> Pepper:
    """The pepper of this home; made if there is none. `home` must exist. Raises BadPepper."""
    given = env.get(PEPPER_VARIABLE)
    if given is not None:
        return _pepper(given, where=f"the environment variable {PEPPER_VARIABLE}")
    path = home / PEPPER_FILE
    if not path.exists():
        _write_once(path, random_bytes(PEPPER_BYTES).hex() + "\n", suffix=random_bytes(8).hex())
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadPepper(f"Others on this machine can read {path}; close it with: chmod 600 {path}")
    with path.open("rb") as file:
        text = file.read(PEPPER_FILE_BYTES_MAX + 1)
    if len(text) > PEPPER_FILE_BYTES_MAX or not text.isascii():
        raise BadPepper(
            f"{path} is not a pepper: it must hold one line of at least {PEPPER_CHARS_MIN} ASCII characters."
        )
    return _pepper(text.decode("ascii"), where=str(path))


def _pepper(text: str, *, where: str) -> Pepper:
    key = text.strip().encode()
    if len(key) < PEPPER_CHARS_MIN:
        raise BadPepper(
            f"The pepper in {where} has {len(key)} characters and needs at least {PEPPER_CHARS_MIN};"
            " make one with: openssl rand -hex 32"
        )
    if len(set(key)) < 8:
        raise BadPepper(f"The pepper in {where} is a placeholder; make one with: openssl rand -hex 32")
    return Pepper(hashlib.sha256(b"dragoman pepper id\n" + key).hexdigest()[:8], key)


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
