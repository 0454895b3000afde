import os
import stat
from pathlib import Path

import pytest

from dragoman.access.sealing import BadSecretKey, Sealer, load_sealer
from dragoman.core.errors import Unavailable

GIVEN = "5f0c9b1d7a3e48f6a2c4d8e0917b3c5d"
SEALER = Sealer(GIVEN.encode(), os.urandom)


@pytest.mark.parametrize("secret", [b"", b"Bearer s3cret", "ü🦉".encode(), os.urandom(4096)])
def test_what_was_sealed_is_opened_again(secret: bytes):
    sealed = SEALER.seal(secret, "integration p i authorization")
    assert sealed.isascii()
    assert not secret or secret not in sealed.encode()
    assert SEALER.open(sealed, "integration p i authorization") == secret


def test_the_same_secret_is_another_text_each_time():
    assert SEALER.seal(b"x", "a") != SEALER.seal(b"x", "a")


def test_a_secret_cannot_be_moved_to_another_place():
    sealed = SEALER.seal(b"x", "integration p i authorization")
    with pytest.raises(Unavailable) as refused:
        SEALER.open(sealed, "integration q i authorization")
    assert refused.value.code == "secret_unreadable"


def test_not_one_letter_of_it_can_be_changed():
    sealed = SEALER.seal(b"secret", "a")
    for place in range(len(sealed)):
        for letter in "A~":
            changed = sealed[:place] + letter + sealed[place + 1 :]
            if changed != sealed:
                with pytest.raises(Unavailable):
                    SEALER.open(changed, "a")


@pytest.mark.parametrize("text", ["", "s1", "s1.", f"s1.{SEALER.id}.", f"s1.{SEALER.id}.AAAA", "plain", "ü"])
def test_what_was_never_sealed_is_not_opened(text: str):
    with pytest.raises(Unavailable):
        SEALER.open(text, "a")


def test_another_key_opens_nothing_and_the_sentence_says_what_to_do():
    other = Sealer(GIVEN[::-1].encode(), os.urandom)
    with pytest.raises(Unavailable) as refused:
        other.open(SEALER.seal(b"x", "a"), "a")
    assert refused.value.detail == (
        "A secret that is kept here was kept under another key and cannot be read; put the old key back"
        " (DRAGOMAN_SECRET_KEY or HOME/secret-key), or enter the secret anew."
    )
    assert other.id != SEALER.id


def test_it_shows_its_name_and_not_its_key():
    assert repr(SEALER) == f"Sealer('{SEALER.id}')"
    assert len(SEALER.id) == 8
    assert SEALER.id not in GIVEN


def test_the_key_is_made_once_in_home(tmp_path: Path):
    sealer = load_sealer(tmp_path, env={}, random_bytes=os.urandom)
    assert stat.S_IMODE((tmp_path / "secret-key").stat().st_mode) == 0o600
    again = load_sealer(tmp_path, env={}, random_bytes=os.urandom)
    assert again.open(sealer.seal(b"x", "a"), "a") == b"x"


def test_the_environment_wins_and_a_bad_key_is_refused(tmp_path: Path):
    given = load_sealer(tmp_path, env={"DRAGOMAN_SECRET_KEY": GIVEN}, random_bytes=os.urandom)
    assert given.id == SEALER.id
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadSecretKey) as refused:
        load_sealer(tmp_path, env={"DRAGOMAN_SECRET_KEY": "x" * 40}, random_bytes=os.urandom)
    assert (refused.value.code, refused.value.detail) == (
        "bad_config",
        "The secret key in the environment variable DRAGOMAN_SECRET_KEY is a placeholder;"
        " make one with: openssl rand -hex 32",
    )
