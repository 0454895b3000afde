import hashlib

import msgspec
import pytest

from dragoman.runtime.inventory import TABLES, Row, Tally

ROWS: list[Row] = [(1, "é", True), (2, "", None), (3, "\0", b"\xff"), (4, "x", 0.1)]


def digest_of(*pieces: list[Row]) -> str:
    tally = Tally()
    for piece in pieces:
        tally.add(piece)
    return tally.digest


def test_it_is_sha256_over_all_values():
    assert digest_of(ROWS) == hashlib.sha256(b"".join(map(msgspec.msgpack.encode, ROWS))).hexdigest()
    assert digest_of() == digest_of([]) == hashlib.sha256().hexdigest()


def test_it_does_not_matter_how_rows_are_cut_into_pieces():
    tally = Tally()
    for row in ROWS:
        tally.add([row])
    assert (tally.rows, tally.digest) == (4, digest_of(ROWS)) == (4, digest_of(ROWS[:3], [], ROWS[3:]))


@pytest.mark.parametrize(
    "others",
    [
        ROWS[:3],
        [*ROWS, ROWS[3]],
        [ROWS[1], ROWS[0], *ROWS[2:]],
        [(1, "é", 1), *ROWS[1:]],
        [(1, "e\u0301", True), *ROWS[1:]],
        [ROWS[0], (2, None, ""), *ROWS[2:]],
        [*ROWS[:3], (4, "x", 0.1 + 1e-16)],
    ],
    ids=["fewer", "more", "order", "type", "composed", "nothing", "last digit"],
)
def test_any_other_rows_give_another(others: list[Row]):
    assert digest_of(others) != digest_of(ROWS)


def test_no_name_stands_twice_and_each_table_has_its_key():
    assert len({table.name for table in TABLES}) == len(TABLES)
    assert [table.name for table in TABLES if len(set(table.columns)) != len(table.columns)] == []
    assert {table.name: table.columns[: table.key_columns] for table in TABLES} == {
        **dict.fromkeys(("projects", "credentials"), ("id",)),
        **dict.fromkeys(("entries", "deltas", "runs", "keys"), ("place",)),
        "conversations": ("tape",),
        "records": ("project", "kind", "id"),
        "knowledge": ("project", "id"),
    }
