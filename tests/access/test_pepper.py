"""The pepper: where it comes from, and what is refused."""

import random
import stat
from pathlib import Path

import pytest

from dragoman.access.pepper import BadPepper, Pepper, load_pepper

GIVEN = "5f0c9b1d7a3e48f6a2c4d8e0917b3c5d"


def draw() -> random.Random:
    return random.Random(11)


def test_the_first_use_makes_a_file_only_its_owner_reads_and_later_ones_read_it(tmp_path: Path):
    made = load_pepper(tmp_path, env={}, random_bytes=draw().randbytes)
    path = tmp_path / "pepper"

    assert path.read_text().strip().encode() == made.key
    assert len(made.key) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]
    assert load_pepper(tmp_path, env={}, random_bytes=random.Random(12).randbytes) == made


def test_a_file_made_by_another_process_in_between_wins(tmp_path: Path):
    def slow(size: int) -> bytes:
        (tmp_path / "pepper").write_text(GIVEN)
        (tmp_path / "pepper").chmod(0o600)
        return draw().randbytes(size)

    assert load_pepper(tmp_path, env={}, random_bytes=slow).key == GIVEN.encode()
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


def test_the_environment_wins_and_no_file_is_made(tmp_path: Path):
    pepper = load_pepper(tmp_path, env={"DRAGOMAN_PEPPER": GIVEN}, random_bytes=draw().randbytes)

    assert pepper.key == GIVEN.encode()
    assert list(tmp_path.iterdir()) == []


def test_the_id_is_the_same_for_the_same_key_another_for_another_and_does_not_hold_it(tmp_path: Path):
    first = load_pepper(tmp_path, env={"DRAGOMAN_PEPPER": GIVEN}, random_bytes=draw().randbytes)
    again = load_pepper(tmp_path, env={"DRAGOMAN_PEPPER": GIVEN + "\n"}, random_bytes=draw().randbytes)
    other = load_pepper(tmp_path, env={"DRAGOMAN_PEPPER": GIVEN[::-1]}, random_bytes=draw().randbytes)

    assert first.id == again.id != other.id
    assert len(first.id) == 8
    assert repr(first) == f"Pepper('{first.id}')"


def test_the_digest_is_hmac_sha256():
    # RFC 4231, test case 2
    assert Pepper("", b"Jefe").digest(b"what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "changeme",
            "The pepper in the environment variable DRAGOMAN_PEPPER has 8 characters and needs at least 32;"
            " make one with: openssl rand -hex 32",
        ),
        (
            "x" * 40,
            "The pepper in the environment variable DRAGOMAN_PEPPER is a placeholder;"
            " make one with: openssl rand -hex 32",
        ),
    ],
)
def test_a_short_or_placeholder_pepper_is_refused(tmp_path: Path, given: str, sentence: str):
    with pytest.raises(BadPepper) as caught:
        load_pepper(tmp_path, env={"DRAGOMAN_PEPPER": given}, random_bytes=draw().randbytes)
    assert caught.value.detail == sentence
    assert caught.value.code == "bad_config"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path):
    path = tmp_path / "pepper"
    path.write_text(GIVEN)
    path.chmod(0o644)
    with pytest.raises(BadPepper) as caught:
        load_pepper(tmp_path, env={}, random_bytes=draw().randbytes)
    assert caught.value.detail == f"Others on this machine can read {path}; close it with: chmod 600 {path}"


@pytest.mark.parametrize("content", [b"\xff" * 64, b"a1b2c3d4" * 600])
def test_a_file_that_is_no_pepper_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadPepper) as caught:
        load_pepper(tmp_path, env={}, random_bytes=draw().randbytes)
    assert caught.value.detail == f"{path} is not a pepper: it must hold one line of at least 32 ASCII characters."
