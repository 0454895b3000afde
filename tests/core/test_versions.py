"""Ids of versions."""

import pytest

from dragoman.core.versions import ID_CHARS, is_version_id


def test_an_id_is_24_hexadecimal_digits():
    assert is_version_id("6650f0c2a1b2c3d4e5f60718") and ID_CHARS == 24


@pytest.mark.parametrize(
    "text", ["", "6650f0c2a1b2c3d4e5f6071", "6650f0c2a1b2c3d4e5f607180", "support", "G" * 24, "٣" * 24]
)
def test_what_is_none(text: str):
    assert not is_version_id(text)
