"""The text of a credential: its shape, its checksum, and that junk is told apart without a store."""

import random
import re
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.access.texts import BASE62, TEXT_CHARS, base62, credential_id_of, credential_text


def test_a_text_has_the_documented_shape_and_yields_its_id():
    text = credential_text(random.Random(1).randbytes)

    assert re.fullmatch(r"drg_[0-9A-Za-z]{10}_[0-9A-Za-z]{32}_[0-9a-f]{8}", text)
    assert len(text) == TEXT_CHARS == 56
    assert credential_id_of(text) == text[4:14]
    assert text[-8:] == f"{zlib.crc32(text[:47].encode()):08x}"


def test_a_text_for_a_known_id_keeps_it_and_has_a_new_secret():
    draw = random.Random(2).randbytes
    first = credential_text(draw, credential_id="0123456789")
    second = credential_text(draw, credential_id="0123456789")

    assert credential_id_of(first) == credential_id_of(second) == "0123456789"
    assert first != second


def test_base62_draws_again_rather_than_favour_eight_characters():
    """248..255 would map onto 0..7 a fifth time; they are skipped, and the rest comes from further bytes."""
    draws = iter([bytes([255, 248, 0, 61]), bytes([62, 247, 1, 2])])

    assert base62(4, lambda size: next(draws)) == BASE62[0] + BASE62[61] + BASE62[0] + BASE62[61]


def test_base62_uses_all_characters_evenly():
    counts = Counter(base62(62_000, random.Random(3).randbytes))

    assert set(counts) == set(BASE62)
    assert 850 < min(counts.values()) and max(counts.values()) < 1150


@pytest.mark.parametrize("place", [0, 5, 14, 20, 46, 47, 50])
def test_one_wrong_character_anywhere_makes_it_junk(place: int):
    text = credential_text(random.Random(4).randbytes)
    other = "0" if text[place] != "0" else "1"

    assert credential_id_of(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text[:-1],
        lambda text: text.replace("_", "-"),
        lambda text: "ä" + text[1:],
        lambda text: text[:20] + "\ud800" + text[21:],
        lambda text: "",
    ],
)
def test_another_shape_is_junk(change):
    assert credential_id_of(change(credential_text(random.Random(5).randbytes))) is None


@given(st.text())
def test_no_text_at_all_makes_it_raise(text: str):
    assert credential_id_of(text) is None
