"""What a reader hears of a reply that is begun again, where nothing can be taken back."""

from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.retelling import Retelling


def test_a_reply_that_is_not_begun_again_is_told_as_it_comes() -> None:
    text = Retelling()
    assert (text.add("Hel"), text.add(""), text.add("lo"), text.finish("Hello!", seq=9)) == ("Hel", "", "lo", "!")
    assert (text.add("Next"), text.finish("Next", seq=9)) == ("Next", "")


def test_only_what_is_new_is_told() -> None:
    text = Retelling()
    text.add("Hel")
    text.reset(1)
    assert (text.add("H"), text.add("ello"), text.finish("Hello", seq=9)) == ("", "lo", "")


def test_what_was_told_over_several_tries_is_owed_whole() -> None:
    text = Retelling()
    text.add("He")
    text.reset(1)
    text.add("Hel")
    text.reset(1)
    assert (text.add("Hello"), text.finish("Hello", seq=9)) == ("lo", "")


def test_another_text_cannot_be_told() -> None:
    text = Retelling()
    text.add("Hel")
    text.reset(1)
    assert text.add("Hi") is None


def test_a_text_that_ends_before_what_was_told_cannot_be_told() -> None:
    text = Retelling()
    text.add("Hel")
    text.reset(1)
    assert (text.add("He"), text.finish("He", seq=9)) == ("", None)


@given(pieces=st.lists(st.text(max_size=3), max_size=6), cuts=st.lists(st.integers(0, 20), max_size=3))
def test_what_is_heard_adds_up_to_the_text(pieces: list[str], cuts: list[int]) -> None:
    text, heard, whole = Retelling(), "", "".join(pieces)
    for cut in cuts:
        heard += text.add(whole[:cut]) or ""
        text.reset(1)
    for piece in pieces:
        heard += text.add(piece) or ""
    assert heard + (text.finish(whole, seq=9) or "") == whole


def test_what_is_settled_cannot_be_taken_back() -> None:
    text = Retelling()
    text.add("Hel")
    assert text.reset(4)
    text.finish("Hello", seq=6)
    assert not text.reset(6)
    assert text.reset(7)
    text.settle(9)
    assert (text.reset(9), text.reset(10)) == (False, True)
