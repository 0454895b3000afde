"""The pepper: the server's own secret, without which the hashes in a stolen database prove nothing.

It comes from the environment (DRAGOMAN_PEPPER) or from a file in home, which is made on first use. Every credential
keeps the id of the pepper it was hashed with, so that a changed pepper is noticed and not mistaken for a wrong text.
"""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from dragoman.access.key_files import KeySource, RandomBytes, read_key
from dragoman.core.errors import DragomanError

PEPPER_VARIABLE = "DRAGOMAN_PEPPER"
PEPPER_FILE = "pepper"


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
    source = KeySource("pepper", PEPPER_VARIABLE, PEPPER_FILE)
    key = read_key(home, source, env=env, random_bytes=random_bytes, refused=BadPepper)
    return Pepper(hashlib.sha256(b"dragoman pepper id\n" + key).hexdigest()[:8], key)
