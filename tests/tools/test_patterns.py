from fnmatch import fnmatchcase
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.tools.patterns import GLOB_CHARS_MAX, REGEX_CHARS_MAX, BadPattern, glob, regex


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("TODO", "a TODO here", True),
        ("todo", "a TODO here", False),
        (r"^\s*def \w+\(", "  def run(self):", True),
        (r"\bint\b", "print", False),
        (r"a|b$", "xb", True),
        (r"\d{3}-\d{4}", "call 555-1234", True),
        ("é+", "caféé", True),
        (r"\.py$", "main.py", True),
    ],
)
def test_a_regular_expression_is_found_anywhere(pattern: str, text: str, found: bool):
    assert regex(pattern)(text) is found


def test_case_can_be_ignored_in_every_alternative():
    fits = regex("todo|fixme", ignore_case=True)
    assert [fits(text) for text in ("TODO", "FixMe", "done")] == [True, True, False]


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){20}$", ".*a.*a.*b", "([a-z]+)*1", "(x+x+)+y"]
)
@pytest.mark.parametrize("text", ["a" * 10_000 + "!", "x" * 10_000, "ab" * 5_000])
def test_patterns_that_hang_a_backtracking_engine_do_not_hang_this_one(pattern: str, text: str):
    began = perf_counter()
    regex(pattern)(text)
    assert perf_counter() - began < 1.0


@pytest.mark.parametrize("pattern", ["[", "(", "a(?=b)", r"(a)\1", "(a{1000}){1000}", "*"])
def test_what_the_linear_engine_does_not_offer_is_told(pattern: str):
    with pytest.raises(BadPattern) as caught:
        regex(pattern)
    assert str(caught.value) == (
        "The regular expression is not valid here, or too large. Look-around and back-references are not "
        "offered; write a simpler one or search for plain text."
    )


def test_the_longest_regular_expression_is_taken_and_one_more_is_not():
    assert regex("a" * REGEX_CHARS_MAX)("a" * REGEX_CHARS_MAX)
    with pytest.raises(BadPattern, match="longer than 1000 characters"):
        regex("a" * (REGEX_CHARS_MAX + 1))


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.py", "a.py", True),
        ("*.py", "src/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("src/**", "src/a/b", True),
        ("src/**", "src", True),
        ("src/**", "srcs/a", False),
        ("src/**/test_?.py", "src/test_1.py", True),
        ("src/**/test_?.py", "src/a/b/test_12.py", False),
        ("a/**/b/**/c", "a/b/x/c", True),
        ("a/**/b/**/c", "a/x/c", False),
        ("*.{ts,tsx}", "a.tsx", True),
        ("{a,b/{c,d}}/x", "b/d/x", True),
        ("{a,b/{c,d}}/x", "c/x", False),
        ("[ab].md", "b.md", True),
        ("[!ab].md", "b.md", False),
        ("README*", "readme.md", False),
        ("a*c", "a/c", False),
        ("**", "anything/at/all", True),
    ],
)
def test_globs(pattern: str, path: str, fits: bool):
    assert glob(pattern)(path) is fits


@pytest.mark.parametrize("pattern", ["", "x" * (GLOB_CHARS_MAX + 1), "{a,b,c,d}" * 3, "{" + "," * 100 + "}"])
def test_globs_without_bounds_are_refused(pattern: str):
    with pytest.raises(BadPattern):
        glob(pattern)


@pytest.mark.parametrize("pattern", ["*a" * 200 + "b", "**/" * 150 + "x", "[" * 400])
def test_globs_that_could_take_long_do_not(pattern: str):
    began = perf_counter()
    fits = glob(pattern)
    for path in ("a" * 255, "/".join("a" * 500)):
        fits(path)
    assert perf_counter() - began < 1.0


plain_glob = st.text(alphabet="ab*?[]!-", min_size=1, max_size=8)


@given(plain_glob, st.text(alphabet="ab-]", min_size=1, max_size=8))
def test_within_one_name_globs_mean_what_the_standard_library_means(pattern: str, name: str):
    assert glob(pattern)(name) is (fnmatchcase(name, pattern) or pattern == "**")
