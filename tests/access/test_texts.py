"""The text of a credential: its shape, its checksum, and that junk is told apart without a store."""

import random
import re
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.access.texts import (
    BASE62,
    GLSA_TEXT_CHARS,
    TEXT_CHARS,
    TEXT_LENGTHS,
    Form,
    Parts,
    base62,
    credential_id_of,
    credential_text,
    joined,
    split,
)


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


# -- the other forms -------------------------------------------------------------------------------------------------

BASE62_TEXT = st.text(BASE62, min_size=10, max_size=10)


def crc32(data: bytes) -> int:
    """CRC-32 of IEEE 802.3 bit by bit, so that the checksum is not tested with the library it was made with."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("text", ["glsa_VVQjot0nijQ59lun6pMZRtsdBXxnFQ9M_77c34a79"])
def test_a_text_from_grafanas_documentation_has_the_shape_and_checksum_of_ours(text: str):
    """Service account HTTP API, `DELETE /api/serviceaccounts/1/revert/…`."""
    assert split(text) == Parts(Form.GLSA, "VVQjot0nij", "Q59lun6pMZRtsdBXxnFQ9M")
    assert credential_id_of(text) == "VVQjot0nij"


def test_grafanas_checksum_is_crc32_with_its_bytes_the_other_way_round():
    assert crc32(b"123456789") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
    for seed in range(50):
        text = credential_text(random.Random(seed).randbytes, form=Form.GLSA)
        assert re.fullmatch(r"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}", text)
        assert bytes.fromhex(text[-8:]) == crc32(text[:-9].encode()).to_bytes(4, "little")


def test_our_own_byte_order_on_a_glsa_text_is_junk():
    text = credential_text(random.Random(6).randbytes, form=Form.GLSA)

    assert credential_id_of(f"{text[:-8]}{zlib.crc32(text[:-9].encode()):08x}") is None


@given(st.sampled_from(Form), BASE62_TEXT, st.integers(0, 2**32))
def test_what_is_joined_is_split_again(form: Form, credential_id: str, seed: int):
    secret = base62(22 if form is Form.GLSA else 32, random.Random(seed).randbytes)
    text = joined(Parts(form, credential_id, secret))

    assert split(text) == Parts(form, credential_id, secret)
    assert len(text) == (GLSA_TEXT_CHARS if form is Form.GLSA else TEXT_CHARS)
    assert len(text) in TEXT_LENGTHS == {46, 56}
    assert credential_id_of(text) == (None if form is Form.GAR else credential_id)
    assert secret not in repr(split(text))


@given(st.sampled_from(Form), st.integers(0, 2**32), st.data())
def test_no_text_with_one_character_changed_is_any_credential(form: Form, seed: int, data):
    text = credential_text(random.Random(seed).randbytes, form=form)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([char for char in BASE62 + "_-é" if char != text[place]]))

    assert split(text[:place] + other + text[place + 1 :]) is None


def test_a_text_of_one_form_is_none_of_another():
    text = credential_text(random.Random(7).randbytes)

    assert split("gat" + text[3:]) is None
    assert split("glsa" + text[3:]) is None


def test_no_text_makes_it_raise_that_looks_like_one():
    assert split("glsa_" + "é" * 32 + "_00000000") is None
    assert split("gar_" + "\ud800" * 10 + "_" + "x" * 32 + "_00000000") is None
