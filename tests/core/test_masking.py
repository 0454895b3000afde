import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.core.errors import BadRequest
from dragoman.core.masking import (
    VALUE_CHARS_MAX,
    WINDOW_CHARS,
    Masker,
    PatternFinder,
    Span,
    Unmasker,
    check_entity,
)
from dragoman.core.messages import Masked

KEY = b"0123456789abcdef"
EMAIL = PatternFinder("EMAIL", r"[\w.+-]+@[\w-]+\.[\w.-]+")
URL = PatternFinder("URL", r"https?://[^\s\"]+")
MASKER = Masker([EMAIL, URL], key=KEY)

_MASK = re.compile(r"[A-Z_]+_[0-9a-f]{40}")


def mask_of(value: str, masker: Masker = MASKER) -> str:
    (found,) = masker.mask(value).found
    return found.mask


def shape(text: str) -> str:
    """With each mask as its class in brackets."""
    return _MASK.sub(lambda match: f"<{match[0][:-41]}>", text)


# -- masks -----------------------------------------------------------------------------------------------------------


def test_each_value_is_replaced_by_its_class_and_forty_hex_digits() -> None:
    masking = MASKER.mask("Write to ann@example.com or see https://example.com/x, ann@example.com!")
    email, url = masking.found
    assert masking.text == f"Write to {email.mask} or see {url.mask} {email.mask}!"
    assert (email.entity, email.value, url.entity, url.value) == (
        "EMAIL",
        "ann@example.com",
        "URL",
        "https://example.com/x,",
    )
    assert re.fullmatch(r"EMAIL_[0-9a-f]{40}", email.mask)
    assert re.fullmatch(r"URL_[0-9a-f]{40}", url.mask)


def test_equal_values_have_equal_masks_also_after_a_restart_and_others_do_not() -> None:
    again = Masker([PatternFinder("EMAIL", r"\S+@\S+")], key=KEY)
    assert mask_of("ann@example.com") == mask_of("ann@example.com", again)
    assert mask_of("ann@example.com") != mask_of("bob@example.com")
    assert mask_of("ann@example.com") != mask_of("ann@example.com", Masker([EMAIL], key=KEY + b"!"))
    renamed = Masker([PatternFinder("CONTACT", r"\S+@\S+")], key=KEY)
    assert mask_of("ann@example.com")[-40:] != mask_of("ann@example.com", renamed)[-40:]


def test_a_key_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Masker([EMAIL], key=b"short")
    assert mask_of("ann@example.com", Masker([EMAIL], key=b"k" * 1000))


def test_text_without_a_value_is_the_same_text() -> None:
    text = "The cluster is healthy."
    assert MASKER.mask(text).text is text
    assert MASKER.mask_json(text).text is text
    whole = '{"a": 1.0, "b":"x\\u0041"}'
    assert MASKER.mask_json(whole).text is whole


@pytest.mark.parametrize("entity", ["EMAIL", "A", "US_SSN2", "X" * 32])
def test_names_of_classes(entity: str) -> None:
    assert check_entity(entity) == entity


@pytest.mark.parametrize("entity", ["", "email", "1A", "A-B", "X" * 33, "É"])
def test_names_that_are_none(entity: str) -> None:
    with pytest.raises(BadRequest, match="capital letters"):
        PatternFinder(entity, "a")


def test_an_expression_that_may_take_for_ever_is_refused() -> None:
    with pytest.raises(BadRequest, match="for ever"):
        PatternFinder("A", "(a+)+b")


# -- finders that disagree ---------------------------------------------------------------------------------------------


class Places:
    """A finder that is told what it finds."""

    def __init__(self, *spans: tuple[int, int, str]) -> None:
        self._spans = [Span(*each) for each in spans]

    def find(self, text: str) -> Iterator[Span | None]:
        yield None
        yield from self._spans


@pytest.mark.parametrize(
    ("finders", "told"),
    [
        ([[(2, 5, "A")], [(0, 8, "B")]], "<B><A><B>89"),
        ([[(0, 8, "B")], [(2, 5, "A")]], "<B>89"),
        ([[(2, 5, "A"), (2, 7, "B")]], "01<B>789"),
        ([[(4, 8, "B"), (2, 5, "A")]], "01<A><B>89"),
        ([[(0, 2, "A"), (4, 6, "A")], [(1, 9, "B")]], "<A><B><A><B>9"),
        ([[(0, 4, "A")], [(4, 6, "B")]], "<A><B>6789"),
        ([[(3, 6, "A")], [(0, 4, "B")], [(2, 9, "C")]], "<B><A><C>9"),
    ],
)
def test_the_first_finder_wins_and_nothing_that_was_found_remains(
    finders: Sequence[Sequence[tuple[int, int, str]]], told: str
) -> None:
    masking = Masker([Places(*spans) for spans in finders], key=KEY).mask("0123456789")
    assert shape(masking.text) == told
    assert Unmasker(masking.found).whole(masking.text) == "0123456789"


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from("AB")), max_size=4), max_size=3)
)
def test_no_character_that_anybody_found_remains(found: list[list[tuple[int, int, str]]]) -> None:
    text = "".join(chr(0x4E00 + at) for at in range(40))
    spans = [[(start, start + length, entity) for start, length, entity in each] for each in found]
    masking = Masker([Places(*each) for each in spans], key=KEY).mask(text)
    covered = {at for each in spans for start, end, _ in each for at in range(start, end)}
    assert [char for char in masking.text if char in text] == [
        char for at, char in enumerate(text) if at not in covered
    ]
    assert Unmasker(masking.found).whole(masking.text) == text


# -- JSON ------------------------------------------------------------------------------------------------------------


def test_masked_json_stays_json_and_the_rest_of_it_stays_as_it_stands() -> None:
    text = '{ "to" : ["ann@example.com", "https://x.org/"], "n":1.0, "say":"a\\"ann@example.com\\"b" }'
    masking = MASKER.mask_json(text)
    email, url = masking.found
    assert masking.text == (f'{{ "to" : ["{email.mask}", "{url.mask}"], "n":1.0, "say":"a\\"{email.mask}\\"b" }}')
    assert Unmasker(masking.found).json(masking.text) == text


def test_a_value_that_json_spells_otherwise_is_found_and_its_mask_is_that_of_plain_text() -> None:
    masking = MASKER.mask_json('["ann\\u0040example.com"]')
    assert masking.text == f'["{mask_of("ann@example.com")}"]'


def test_keys_are_masked_and_numbers_are_not() -> None:
    digits = Masker([PatternFinder("CARD", r"\d{16}")], key=KEY)
    masking = digits.mask_json('{"4111111111111111":4111111111111111}')
    assert shape(masking.text) == '{"<CARD>":4111111111111111}'


@pytest.mark.parametrize("text", ['{"a":"ann@example.com"', "ann@example.com", "[" * 100_000 + '"ann@example.com"'])
def test_what_is_no_json_is_masked_as_plain_text(text: str) -> None:
    assert MASKER.mask_json(text).text == text.replace("ann@example.com", mask_of("ann@example.com"))


def test_half_a_surrogate_pair_breaks_nothing() -> None:
    finder = Masker([PatternFinder("ANY", r"[^\"]+x")], key=KEY)
    for masking in (finder.mask("\ud800x"), finder.mask_json('["\\ud800x"]')):
        assert [each.value for each in masking.found] == ["\ud800x"]
    masking = finder.mask_json('["\\ud800x"]')
    assert Unmasker(masking.found).json(masking.text) == '["\\ud800x"]'


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=12) | st.sampled_from(["a@b.io", 'say "c@d.io"\n', "https://e/\\"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_comes_back_as_it_was(value: object) -> None:
    text = json.dumps([value])
    masking = MASKER.mask_json(text)
    json.loads(masking.text)
    assert json.loads(Unmasker(masking.found).json(masking.text)) == [value]
    assert not any(each.value in masking.text for each in masking.found if len(each.value) > 5)


# -- long texts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at", [0, 1, WINDOW_CHARS - VALUE_CHARS_MAX - 1, WINDOW_CHARS - 7, WINDOW_CHARS, 3 * WINDOW_CHARS - 1]
)
def test_a_value_is_found_wherever_it_stands(at: int) -> None:
    filler = "x " * (2 * WINDOW_CHARS)
    text = filler[:at] + " ann@example.com " + filler
    assert MASKER.mask(text).text == text.replace("ann@example.com", mask_of("ann@example.com"))


@pytest.mark.parametrize("chars", [VALUE_CHARS_MAX, WINDOW_CHARS, 5 * WINDOW_CHARS])
@pytest.mark.parametrize("at", [0, 100, WINDOW_CHARS - 3])
def test_a_value_that_grows_beyond_its_window_is_masked_whole(chars: int, at: int) -> None:
    value = ("https://" + "y" * chars)[:chars]
    text = " " * at + value + " " * (2 * WINDOW_CHARS)
    masking = MASKER.mask(text)
    assert [each.value for each in masking.found] == [value]
    assert masking.text == text.replace(value, masking.found[0].mask)


def test_what_only_looks_like_a_match_at_the_end_of_a_window_is_none() -> None:
    words = Masker([PatternFinder("RUN", r"a+\b(?!_)")], key=KEY)
    text = "." * (WINDOW_CHARS - 10) + "a" * 30 + "_" + "." * WINDOW_CHARS + "aaa ."
    assert [each.value for each in words.mask(text).found] == ["aaa"]


@given(
    st.lists(st.sampled_from(["ann@example.com", "https://x.org/y", "word", " ", "\n", "@", "x" * 50]), max_size=400)
)
@settings(deadline=None, max_examples=50)
def test_windows_change_nothing(parts: list[str]) -> None:
    text = "".join(parts)
    plain = [(match.start(), match.end()) for match in re.finditer(r"[\w.+-]+@[\w-]+\.[\w.-]+", text)]
    found = [(span.start, span.end) for span in EMAIL.find(text) if span is not None]
    assert found == plain


def test_the_worst_text_takes_a_bounded_time_and_gives_others_their_turn() -> None:
    steps = MASKER.masking("a" * 20_000)
    pauses = sum(1 for _ in steps)
    assert pauses >= 20_000 // VALUE_CHARS_MAX - 2


# -- putting back ---------------------------------------------------------------------------------------------------


FOUND = tuple(
    Masker([PatternFinder(entity, "(?s).+")], key=KEY).mask(value).found[0]
    for entity, value in (("EMAIL", "ann@example.com"), ("EMAIL", 'E"M'), ("MY_EMAIL", "EMAIL_"), ("E", "🦊\n"))
)
PIECES = st.lists(
    st.sampled_from([each.mask for each in FOUND])
    | st.sampled_from(["E", "EM", "EMAIL_", "MY_", "EMAIL_0123", " ", "é", "EMAIL_" + "0" * 40])
    | st.sampled_from([FOUND[0].mask[:20], FOUND[0].mask[20:]])
    | st.text(max_size=3),
    max_size=8,
).map("".join)


@given(PIECES, st.lists(st.integers(0, 400), max_size=12))
@example("MY_" + FOUND[0].mask, [5])
def test_any_cut_gives_the_same_text(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    unmasker = Unmasker(FOUND)
    shown = [unmasker.feed(text[start:end]) for start, end in pairwise(places)]
    expected = text
    for each in sorted(FOUND, key=lambda each: -len(each.mask)):
        expected = expected.replace(each.mask, f"\0{FOUND.index(each)}\0")
    expected = re.sub("\0(\\d)\0", lambda match: FOUND[int(match[1])].value, expected)
    assert "".join(shown) + unmasker.end() == Unmasker(FOUND).whole(text) == expected


def test_only_what_may_be_a_mask_is_held_back() -> None:
    unmasker = Unmasker(FOUND)
    mask = FOUND[0].mask
    assert unmasker.feed("To " + mask[:10]) == "To "
    assert unmasker.feed(mask[10:] + "; E") == "ann@example.com; "
    assert unmasker.feed("Z, M") == "EZ, "
    assert unmasker.end() == "M"
    assert unmasker.feed("Y") == "Y"


def test_masks_of_nothing_that_was_found_stay_as_they_stand() -> None:
    other = mask_of("bob@example.com")
    assert Unmasker(FOUND).whole(other) == other
    assert Unmasker(()).feed(other) == other
    assert Unmasker(()).json(f'"{other}"') == f'"{other}"'


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('{"to":"<1>"}', {"to": 'E"M'}),
        ('{"to":"at <3>!"}', {"to": "at 🦊\n!"}),
        (json.dumps('{"to":"<1>"}'), '{"to":"E\\"M"}'),
        (json.dumps("to <1>"), 'to E"M'),
    ],
)
def test_arguments_with_values_put_back_are_still_json(said: str, meant: object) -> None:
    for at, each in enumerate(FOUND):
        said = said.replace(f"<{at}>", each.mask)
    assert json.loads(Unmasker(FOUND).json(said)) == meant


def test_arguments_that_are_no_json_have_their_values_put_back_too() -> None:
    assert Unmasker(FOUND).json('{"to":"' + FOUND[1].mask) == '{"to":"E\\"M'


def test_many_masks() -> None:
    found = [Masked("N", str(at), f"N_{at:040x}") for at in range(5_000)]
    unmasker = Unmasker(found)
    text = " ".join(each.mask for each in found)
    shown = "".join(unmasker.feed(text[at : at + 7]) for at in range(0, len(text), 7)) + unmasker.end()
    assert shown == " ".join(each.value for each in found)


@pytest.mark.parametrize("before", ["", "\\n", "\\t", "\\r\\n", "\\u000b", "x \\\\n", '\\"'])
def test_a_value_behind_an_escape_is_found_in_json_that_stands_in_a_text(before: str) -> None:
    """The letter of an escape is no part of the word behind it."""
    masker = Masker((PatternFinder("CARD", r"\b\d{16}\b"),), key=b"k" * 32)
    text = f'Documents: [{{"text": "the card{before or " "}4111111111111111"}}]'
    for masking in (masker.mask(text), masker.mask_json(json.dumps({"truncated": text}))):
        assert "4111" not in masking.text
        assert [each.value for each in masking.found] == ["4111111111111111"]
    assert Unmasker(masker.mask(text).found).whole(masker.mask(text).text) == text


def test_what_only_looks_like_an_escape_stays_part_of_a_value() -> None:
    masker = Masker((PatternFinder("SECRET", r"pw=\S+"),), key=b"k" * 32)
    masking = masker.mask(r"pw=ab\ncd and more")
    assert [each.value for each in masking.found] == [r"pw=ab\ncd"] and "cd" not in masking.text.split("_")[0]
