"""Keys of the server's own; tests/access/test_pepper.py holds what is refused, word for word."""

import random
import stat
from pathlib import Path

import pytest

from dragoman.access.key_files import KEY_CHARS_MIN, KEY_FILE_BYTES_MAX, KeySource, read_key
from dragoman.core.errors import DragomanError

SOURCE = KeySource("door key", "DOOR_KEY", "door")
GIVEN = "5f0c9b1d7a3e48f6a2c4d8e0917b3c5d"


def read(home: Path, env: dict[str, str] | None = None) -> bytes:
    return read_key(home, SOURCE, env=env or {}, random_bytes=random.Random(7).randbytes, refused=DragomanError)


def test_the_file_is_made_once_for_its_owner_only(tmp_path: Path):
    made = read(tmp_path)
    path = tmp_path / "door"
    assert path.read_bytes().strip() == made == read(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["door"]


def test_the_variable_wins_and_makes_no_file(tmp_path: Path):
    assert read(tmp_path, {"DOOR_KEY": f" {GIVEN}\n"}) == GIVEN.encode()
    assert list(tmp_path.iterdir()) == []


def test_a_key_has_a_least_length(tmp_path: Path):
    assert len(GIVEN) == KEY_CHARS_MIN
    with pytest.raises(DragomanError) as refused:
        read(tmp_path, {"DOOR_KEY": GIVEN[1:]})
    assert refused.value.detail.startswith(
        "The door key in the environment variable DOOR_KEY has 31 characters and needs at least 32"
    )


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_of_more_than_a_key_is_none(tmp_path: Path, more: int):
    path = tmp_path / "door"
    path.write_text((GIVEN * 200)[: KEY_FILE_BYTES_MAX + more])
    path.chmod(0o600)
    if not more:
        assert len(read(tmp_path)) == KEY_FILE_BYTES_MAX
        return
    with pytest.raises(DragomanError, match="is not a door key"):
        read(tmp_path)
