"""Sealing: secrets that must be used again, such as another system's credential, lie in the store encrypted.

The key is not in the store: it comes from DRAGOMAN_SECRET_KEY or from `HOME/secret-key`, so that a stolen database
gives nothing away. XChaCha20-Poly1305 binds each secret to its place: a sealed text that is moved to another one cannot
be opened. See docs/decisions/0038.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path

from dragoman.access.key_files import KeySource, RandomBytes, read_key
from dragoman.core.errors import DragomanError, Unavailable

SECRET_KEY_VARIABLE = "DRAGOMAN_SECRET_KEY"
SECRET_KEY_FILE = "secret-key"

_FORM = "s1"
"""Begins every sealed text: which cipher, and in what order the parts stand."""
_NONCE_BYTES = 24
"""Long enough to be drawn at random for every secret there will ever be."""


class BadSecretKey(DragomanError):
    """The key given cannot be used; the sentence says what to do."""

    code = "bad_config"


class Sealer:
    """Seals and opens with one key. `id`: 8 hex digits that name the key and do not tell it."""

    def __init__(self, key: bytes, random_bytes: RandomBytes) -> None:
        self.id = hashlib.sha256(b"dragoman secret key id\n" + key).hexdigest()[:8]
        self._key = hashlib.sha256(b"dragoman secret key\n" + key).digest()
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"Sealer({self.id!r})"

    def seal(self, secret: bytes, context: str) -> str:
        """ASCII text that only this key opens, and only in the same context: what the secret is and whose."""
        from nacl import bindings  # noqa: PLC0415 most servers keep no secrets

        nonce = self._random_bytes(_NONCE_BYTES)
        encrypt = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
        sealed = nonce + encrypt(secret, context.encode(), nonce, self._key)
        return f"{_FORM}.{self.id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, text: str, context: str) -> bytes:
        """Raises Unavailable if it was sealed with another key, in another context, or is damaged."""
        from nacl import bindings  # noqa: PLC0415 as above
        from nacl.exceptions import CryptoError  # noqa: PLC0415 as above

        form, _, rest = text.partition(".")
        key_id, _, body = rest.partition(".")
        if form == _FORM and key_id != self.id:
            raise _unreadable("was kept under another key", f"of key {key_id}, ours is {self.id}")
        try:
            sealed = base64.b64decode(body, altchars=b"-_", validate=True)
            if form != _FORM or base64.urlsafe_b64encode(sealed).decode() != body:
                raise ValueError("not as it was written")
            nonce, hidden = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            decrypt = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
            return decrypt(hidden, context.encode(), nonce, self._key)
        except (CryptoError, binascii.Error, ValueError) as error:
            raise _unreadable("is damaged", f"{type(error).__name__}: not what was sealed for {context!r}") from None


def load_sealer(home: Path, *, env: Mapping[str, str], random_bytes: RandomBytes) -> Sealer:
    """The sealer of this home; its key is made if there is none. `home` must exist. Raises BadSecretKey."""
    source = KeySource("secret key", SECRET_KEY_VARIABLE, SECRET_KEY_FILE)
    return Sealer(read_key(home, source, env=env, random_bytes=random_bytes, refused=BadSecretKey), random_bytes)


def _unreadable(why: str, internal: str) -> Unavailable:
    return Unavailable(
        f"A secret that is kept here {why} and cannot be read; put the old key back ({SECRET_KEY_VARIABLE} or"
        f" HOME/{SECRET_KEY_FILE}), or enter the secret anew.",
        code="secret_unreadable",
        internal=internal,
    )
