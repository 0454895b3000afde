"""A credential's text: `drg_<id>_<secret>_<crc>`, 10 and 32 base62 characters and 8 hex digits.

The id is public and finds the row; the secret holds 190 bits; the CRC32 of what stands before it tells scanners and us
junk from a credential, and is no protection.
"""

import re
import zlib

from dragoman.access.pepper import RandomBytes

PREFIX = "drg"
ID_CHARS = 10
SECRET_CHARS = 32
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TEXT_CHARS = len(PREFIX) + 1 + ID_CHARS + 1 + SECRET_CHARS + 1 + 8

_TEXT = re.compile(rf"{PREFIX}_([0-9A-Za-z]{{{ID_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}}_([0-9a-f]{{8}})")


def base62(chars: int, random_bytes: RandomBytes) -> str:
    """Random base62 text. Bytes over 247 are drawn again: `byte % 62` alone would favour eight of the characters."""
    text = ""
    while len(text) < chars:
        text += "".join(BASE62[byte % 62] for byte in random_bytes(chars) if byte < 248)
    return text[:chars]


def credential_text(random_bytes: RandomBytes, *, credential_id: str = "") -> str:
    """A new credential's text; with `credential_id` a new secret for that id."""
    body = f"{PREFIX}_{credential_id or base62(ID_CHARS, random_bytes)}_{base62(SECRET_CHARS, random_bytes)}"
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def credential_id_of(text: str) -> str | None:
    """The id in a credential's text, or None if it cannot be one: wrong shape or checksum. Never raises."""
    match = _TEXT.fullmatch(text)
    if match is None or zlib.crc32(text[:-9].encode()) != int(match[2], 16):
        return None
    return match[1]
