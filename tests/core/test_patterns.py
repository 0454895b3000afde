import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.core.errors import BadRequest
from dragoman.core.patterns import PATTERN_CHARS_MAX, compiled, effort

HARMLESS = {
    r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}": 1,
    r"\b[\w.-]+@[\w.-]+\.\w+\b": 1,
    r"https?://\S+": 0,
    r"https?:\/\/(www\.)?[-a-zA-Z0-9@:%._\+~#=]{1,256}\.[a-zA-Z0-9()]{1,6}\b([-a-zA-Z0-9()@:%_\+.~#?&//=]*)": 1,
    r"(?:[a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}": 1,
    r"\b(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}\b": 0,
    r"\b(?:\d[ -]*?){13,16}\b": 1,
    r"\b\d{3}-\d{2}-\d{4}\b": 0,
    r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}": 0,
    r"-----BEGIN [A-Z ]+-----[\s\S]+?-----END [A-Z ]+-----": 1,
    r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+": 1,
    r"(?i)api[_-]?key\s*[:=]\s*\S+": 1,
    r".*password.*": 1,
    r"(?<=token=)[^&\s]+(?=&|$)": 1,
    r"[^\W\d_]+\d+": 1,
    r"(?>a+)b": 1,
    r"(?P<x>a|b)c?+é": 0,
}
BOUNDLESS = (
    r"(a+)+b",
    r"(a|a)*b",
    r"(a|ab|b)+c",
    r"([a-z]+)*@",
    r"(a{1,30}){1,30}b",
    r"(?:a?b?)+c",
    r"(a*)*b",
    r"(?:(?:x+)y?)+z",
    r"(?i)(?:ab|A)+c",
)
CUBIC = (r".*a.*b", r"\w+\w+@", r"\s*\S*\s*=", r"[^a]*[^b]*c", r"a+(?=a+b)a+c")


@pytest.mark.parametrize(("pattern", "steps"), HARMLESS.items())
def test_everyday_expressions_are_let_through(pattern: str, steps: int) -> None:
    assert effort(pattern) == steps
    assert compiled(pattern).pattern == pattern


@pytest.mark.parametrize("pattern", BOUNDLESS)
def test_what_can_be_read_in_many_ways_over_and_over_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest, match=r"for ever|may be empty"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", CUBIC)
def test_endless_repeats_that_take_the_same_characters_are_refused(pattern: str) -> None:
    assert effort(pattern) > 1
    with pytest.raises(BadRequest, match="may take too long: two"):
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", "is not a regular expression: missing"),
        ("a" * (PATTERN_CHARS_MAX + 1), f"has {PATTERN_CHARS_MAX + 1} characters"),
        ("x*", "fits empty text"),
        (r"(\w+)\1", "refers back"),
        (r"(a)?(?(1)b|c)", "refers back"),
        ("(a|a)" * 14 + "b", "too many ways"),
        ("a?" * 14 + "a" * 14, "too many ways"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(pattern: str, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        compiled(pattern)
    assert caught.value.detail.startswith(why) or why in caught.value.detail


ATOMS = st.sampled_from(["a", "b", "[ab]", ".", "[^a]", r"\w", r"\d", "ab", "(?:a|b)", "(?:ab|c)"])


def _join(parts: list[str]) -> str:
    return "".join(parts)


PIECES = st.one_of(
    ATOMS,
    st.tuples(ATOMS, st.sampled_from(["+", "*", "?", "{2,9}", "+?"])).map(lambda each: f"(?:{each[0]}){each[1]}"),
)
PATTERNS = st.recursive(
    st.lists(PIECES, min_size=1, max_size=4).map(_join),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "*", "{1,9}"]), PIECES).map(
        lambda each: f"(?:{each[0]}){each[1]}{each[2]}"
    ),
    max_leaves=3,
)


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.sampled_from(["a", "ab", "b", "aab", "a1", "abc"]))
def test_whatever_is_let_through_is_quick_on_repeated_text(pattern: str, unit: str) -> None:
    """1,000 characters take milliseconds if the bound holds; much longer if it is a cube or worse."""
    try:
        made = compiled(pattern)
    except BadRequest:
        return
    text = (unit * 1000)[:1000] + "\n"
    began = time.process_time()
    for _ in zip(range(5), re.finditer(made, text), strict=False):
        pass
    assert time.process_time() - began < 1.0
