"""Secrets that come back are not passed on."""

import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.blotting import BLOT, SECRET_CHARS_MIN, blotted, without_secrets

KEY = "k" * SECRET_CHARS_MIN


@pytest.mark.parametrize(
    ("headers", "said", "told"),
    [
        ([("X-Key", KEY)], f"you sent {KEY}.", f"you sent {BLOT}."),
        ([("X-Key", KEY[1:])], f"you sent {KEY[1:]}.", f"you sent {KEY[1:]}."),
        ([("Authorization", f"Bearer {KEY}")], f"Bearer {KEY} or {KEY}", f"{BLOT} or {BLOT}"),
        ([("Authorization", f"Bearer {KEY}")], "the Bearer of this", "the Bearer of this"),
        ([("X-Key", 'a"quoted\\secret')], r'{"sent": "a\"quoted\\secret"}', f'{{"sent": "{BLOT}"}}'),
        ([("A", KEY), ("B", KEY + "more")], f"{KEY}more and {KEY}", f"{BLOT} and {BLOT}"),
        ([("Accept", "application/json")], "as application/json", "as application/json"),
        ([], "anything", "anything"),
    ],
)
def test_what_was_sent_is_not_told(headers: list[tuple[str, str]], said: str, told: str):
    assert without_secrets(said, headers) == told


def test_a_failure_tells_none_either():
    with pytest.raises(ToolFailed) as caught, blotted([("X-Key", KEY)]):
        raise ToolFailed(f"It said: {KEY}", code="denied", internal=f"sent {KEY}")
    error = caught.value
    assert (error.detail, error.code, error.internal) == (f"It said: {BLOT}", "denied", f"sent {BLOT}")


def test_what_is_for_the_log_alone_tells_none_either():
    with pytest.raises(ToolFailed) as caught, blotted([("X-Key", KEY)]):
        raise ToolFailed("It said nothing.", internal=f"sent {KEY}")
    assert (caught.value.detail, caught.value.internal) == ("It said nothing.", f"sent {BLOT}")


def test_a_failure_without_any_is_left_as_it_is():
    failed = ToolFailed("It said nothing.")
    with pytest.raises(ToolFailed) as caught, blotted([("X-Key", KEY)]):
        raise failed
    assert caught.value is failed
