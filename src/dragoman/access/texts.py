"""The texts that prove who asks. A credential's text comes in three forms, which mean the same everywhere:

    drg_<id>_<secret>_<crc>     our own: 10 and 32 base62 characters and 8 hex digits
    gat_<id>_<secret>_<crc>     the same, of a login: short-lived, renewed by its program
    glsa_<id><secret>_<crc>     as Grafana writes those of its service accounts: 10 and 22 characters, 8 hex digits

`gar_<id>_<secret>_<crc>` renews a login and proves nothing else. The id is public and finds the row; a secret of 32
holds 190 bits, one of 22 holds 131; the CRC32 of what stands before it tells scanners and us junk from a credential,
and is no protection.
"""

import re
import zlib
from enum import StrEnum

from msgspec import Struct

from dragoman.access.pepper import RandomBytes


class Form(StrEnum):
    """How a text begins."""

    DRG = "drg"
    GLSA = "glsa"
    GAT = "gat"
    GAR = "gar"


ID_CHARS = 10
SECRET_CHARS = 32
GLSA_SECRET_CHARS = 22
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TEXT_CHARS = len(Form.DRG) + 1 + ID_CHARS + 1 + SECRET_CHARS + 1 + 8
GLSA_TEXT_CHARS = len(Form.GLSA) + 1 + ID_CHARS + GLSA_SECRET_CHARS + 1 + 8
TEXT_LENGTHS = frozenset((TEXT_CHARS, GLSA_TEXT_CHARS))
"""A text of any other length is no credential."""

_TEXT = re.compile(
    rf"(?:(drg|gat|gar)_([0-9A-Za-z]{{{ID_CHARS}}})_([0-9A-Za-z]{{{SECRET_CHARS}}})"
    rf"|(glsa)_([0-9A-Za-z]{{{ID_CHARS}}})([0-9A-Za-z]{{{GLSA_SECRET_CHARS}}}))_[0-9a-f]{{8}}"
)


class Parts(Struct, frozen=True):
    """What a text is made of."""

    form: Form
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Parts({self.form!r}, {self.id!r})"


def base62(chars: int, random_bytes: RandomBytes) -> str:
    """Random base62 text. Bytes over 247 are drawn again: `byte % 62` alone would favour eight of the characters."""
    text = ""
    while len(text) < chars:
        text += "".join(BASE62[byte % 62] for byte in random_bytes(chars) if byte < 248)
    return text[:chars]


def credential_text(random_bytes: RandomBytes, *, credential_id: str = "", form: Form = Form.DRG) -> str:
    """A new credential's text; with `credential_id` a new secret for that id."""
    secret_chars = GLSA_SECRET_CHARS if form is Form.GLSA else SECRET_CHARS
    return joined(Parts(form, credential_id or base62(ID_CHARS, random_bytes), base62(secret_chars, random_bytes)))


def joined(parts: Parts) -> str:
    """The text of these parts, with its checksum."""
    between = "" if parts.form is Form.GLSA else "_"
    body = f"{parts.form}_{parts.id}{between}{parts.secret}"
    return f"{body}_{_checksum(parts.form, body)}"


def split(text: str) -> Parts | None:
    """The parts of a text, or None if it is none of ours: wrong shape or checksum. Never raises."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    form = Form(match[1] or match[4])
    if _checksum(form, text[:-9]) != text[-8:]:
        return None
    return Parts(form, match[2] or match[5], match[3] or match[6])


def credential_id_of(text: str) -> str | None:
    """The id in a credential's text, or None if it cannot be one. Never raises."""
    parts = split(text)
    return None if parts is None or parts.form is Form.GAR else parts.id


def _checksum(form: Form, body: str) -> str:
    crc = zlib.crc32(body.encode())
    # Grafana writes its bytes the other way round: glsa_VVQjot0nijQ59lun6pMZRtsdBXxnFQ9M_77c34a79 in its documentation.
    return crc.to_bytes(4, "little").hex() if form is Form.GLSA else f"{crc:08x}"
