import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest
from dragoman.core.knowledge import EntryRole, KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.runtime.knowledge_rules import (
    ASKED_WORDS_MAX,
    INDEXED_CHARS_MAX,
    WORD_CHARS_MAX,
    asked_of,
    asked_words,
    check_entries,
    check_sort,
    entry_of,
    folded,
    labels_text,
    names_of,
    over,
    scope_word,
    words,
)

ENTRY = KnowledgeEntry(
    *(ProjectId("p"), "e", "text", "title", False, EntryRole.PROGRAM),
    labels={"a": 'é"'},
    owner="ann",
    owner_name="Ann",
    updated_at=1.5,
)


# -- entries ---------------------------------------------------------------------------------------------------------


def test_entries_are_written_in_order_of_id_the_last_of_one_id_with_the_owner_of_the_first():
    first, other = replace(ENTRY, id="b"), replace(ENTRY, id="a")
    last = replace(ENTRY, id="b", text="new", owner="bob", owner_name="Bob")
    assert check_entries((first, other, last)) == [other, replace(first, text="new")]
    assert check_entries(()) == []


def test_entries_of_two_projects_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="several projects"):
        check_entries((ENTRY, replace(ENTRY, project=ProjectId("q"))))


def test_what_is_put_over_nothing_is_as_it_is():
    assert over(ENTRY, None) is ENTRY


def test_a_row_becomes_an_entry():
    row = ("p", "e", "text", "title", 0, "program", labels_text(ENTRY.labels), "ann", "Ann", 1.5)
    assert entry_of(row) == ENTRY


def test_only_some_orders_are_known():
    for sort in ("title", "updated_at", "id", "role", "public"):
        check_sort(sort)
    with pytest.raises(BadRequest) as refused:
        check_sort("text; --")
    assert refused.value.faults[0].field == "sort"


def test_upper_and_lower_case_are_alike_in_names():
    assert names_of("ÄPFEL Straße", "ID") == "äpfel strasse\nid"
    assert folded("STRASSE") in names_of("Straße", "x")


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" \t?!-_🦉", ()),
        ("The Disk is FULL!", ("the", "disk", "is", "full")),
        ("disk_full/var-log a.b", ("disk", "full", "var", "log", "a", "b")),
        ("caches cached caching cache", ("cach", "cach", "cach", "cach")),
        ("queries query", ("quer", "quer")),
        ("stopped stops stop", ("stop", "stop", "stop")),
        ("class status this", ("class", "status", "this")),
        ("runs 0x1Fs v2s", ("run", "0x1fs", "v2s")),
        ("Äpfel ÀÉÎ Straße ﬁn", ("apfel", "aei", "strass", "fin")),
        ("е\u0308ж Ёж", ("еж", "еж")),
        ("株", ("株",)),
        ("売上X高", ("売", "上", "売上", "x", "高")),
        ("ガ ｶﾞ", ("ガ", "ガ")),
        ("한국", ("한", "국", "한국")),
        ("हिन्दी", ("हिन्दी",)),
        ("a\u0000b\u2028c", ("a", "b", "c")),
        ("\U0001d400\u2460", ("a1",)),
    ],
)
def test_the_words_of_a_text(text: str, expected: tuple[str, ...]):
    assert tuple(words(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("disk Disk DISKS", ("disk",)),
        ("売上", ("売上",)),
        ("売上高", ("売上", "上高")),
        ("株 x", ("株", "x")),
        ('"* OR -', ("or",)),
    ],
)
def test_the_words_of_a_query(text: str, expected: tuple[str, ...]):
    assert asked_words(text) == expected
    assert set(asked_words(text)) <= set(words(text))


def test_words_are_of_letters_digits_and_marks_alone():
    everything = " ".join(map(chr, range(1, 0xD800))) + "".join(map(chr, range(0xE000, 0x11000)))
    found = "".join(words(everything, chars_max=10**9))
    assert len(found) > 10_000
    assert not set("\"'\\&|!():*<>=- \t\n") & set(found)


def test_a_word_a_text_and_a_query_have_a_greatest_length():
    for char in ("x", "é", "ж"):
        long = char * (WORD_CHARS_MAX + 1)
        assert [len(word) for word in words(long)] == [WORD_CHARS_MAX]
        assert asked_words(char * 10_000) == tuple(words(long))
    assert len(words("ab " * INDEXED_CHARS_MAX)) == INDEXED_CHARS_MAX // 2 + 1
    assert len(asked_words(" ".join(f"w{number}" for number in range(1000)))) == ASKED_WORDS_MAX
    assert len(asked_words("".join(map(chr, range(0x4E00, 0x5E00))))) == ASKED_WORDS_MAX


def test_a_query_that_asks_for_nothing_is_left_out():
    boosts = (1.0, 0.0, -1.0, float("nan"), float("inf"), 2.5)
    queries = [Query("a b", boost) for boost in boosts]
    assert asked_of((Query("?"), *queries)) == [(("a", "b"), 1.0), (("a", "b"), 2.5)]


def test_each_project_has_a_word_of_its_own():
    found = {scope_word(ProjectId(name)) for name in ("", "default", "Default", "ünd", "x" * 5000)}
    assert len(found) == 5
    assert {len(word) for word in found} == {16}
