import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.runtime.record_rules import (
    NAME_CHARS_MAX,
    check_deletion,
    check_name,
    check_record,
    is_live,
    record_of,
    written,
)

P = ProjectId("p")
NEW = Record(P, "login_code", "r1", "{}", owner="ann", created_by="ann", updated_by="ann", version=9)
OLD = Record(P, "login_code", "r1", "1", "bob", version=3, created_at=5.0, updated_at=6.0, created_by="bob")


def test_the_first_write_is_version_one_at_the_stores_time():
    assert written(NEW, None, expect=0, key_taken=False, now=7.0) == replace(
        NEW, version=1, created_at=7.0, updated_at=7.0
    )


def test_a_later_one_counts_on_and_keeps_the_beginning():
    for expect in (3, None):
        assert written(NEW, OLD, expect=expect, key_taken=False, now=7.0) == replace(
            NEW, version=4, created_at=5.0, created_by="bob", updated_at=7.0
        )


@pytest.mark.parametrize(
    ("over", "expect", "key_taken", "sentence"),
    [
        (OLD, 0, False, "There is a login code of that id already."),
        (OLD, 2, False, "The login code was changed by somebody else meanwhile; read it again, then change it."),
        (OLD, 3, True, "There is another login code of that name already."),
        (None, None, True, "There is another login code of that name already."),
    ],
)
def test_a_write_that_does_not_fit_says_why(over: Record | None, expect: int | None, key_taken: bool, sentence: str):
    with pytest.raises(Conflict) as refused:
        written(NEW, over, expect=expect, key_taken=key_taken, now=7.0)
    assert refused.value.detail == sentence


def test_a_change_of_what_is_gone_finds_nothing():
    with pytest.raises(NotFound) as missing:
        written(NEW, None, expect=3, key_taken=False, now=7.0)
    assert (missing.value.what, missing.value.detail) == ("login_code", "There is no such login code any more.")


def test_only_the_version_that_is_meant_is_deleted():
    check_deletion("rule", 3, None)
    check_deletion("rule", 3, 3)
    with pytest.raises(Conflict):
        check_deletion("rule", 3, 2)


def test_what_expires_now_has_expired():
    assert [is_live(at, 5.0) for at in (None, 5.5, 5.0, 4.5)] == [True, True, False, False]


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
def test_what_not_every_engine_keeps_is_refused_and_named(bad: str):
    for field in ("project", "kind", "id", "key", "owner", "body", "created_by", "updated_by"):
        with pytest.raises(BadRequest) as refused:
            check_record(replace(NEW, **{field: bad}))
        assert refused.value.faults[0].field == field


def test_names_have_a_greatest_length():
    check_name(P, "rule", id="x" * NAME_CHARS_MAX)
    with pytest.raises(BadRequest) as refused:
        check_name(P, "rule", id="x" * (NAME_CHARS_MAX + 1))
    assert refused.value.detail == "id: has 513 characters, 512 at most"


def test_a_row_is_the_record_whose_fields_it_holds_in_their_order() -> None:
    row = ("p", "rule", "1", "{}", "me", 1, "k", 3, 1.0, 2.0, "me", "you", None)
    assert record_of(row) == Record(ProjectId("p"), "rule", "1", "{}", "me", True, "k", 3, 1.0, 2.0, "me", "you", None)
