"""The statements of `queries.sql`, `records.sql` and `knowledge.sql` by name, and the same for many rows at once."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_NUMBERED = re.compile(r"\?(\d+)")
_ROW = re.compile(r"values (\(\?(?:, \?)*\))")


def parse(text: str) -> dict[str, str]:
    """The statements under their `-- name: x` headers, without the lines of comment."""
    parts = _NAME.split(text)
    return {name: _named(_COMMENT.sub("", body).strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _named(sql: str) -> str:
    """`?1` as `:p1`: Python 3.12 warns of numbered parameters in a sequence, 3.14 refuses them."""
    return _NUMBERED.sub(r":p\1", sql)


_FOLDER = files("dragoman.stores.sqlite")
QUERIES = {
    name: sql
    for file in ("queries.sql", "records.sql", "knowledge.sql")
    for name, sql in parse((_FOLDER / file).read_text("utf-8")).items()
}


_BY_NAME = frozenset(name for name, sql in QUERIES.items() if ":p1" in sql)


def statement(name: str, parameters: Sequence[Any] = ()) -> tuple[str, Sequence[Any] | dict[str, Any]]:
    """The query of this name and its parameters, in order, as `execute` wants them."""
    if name not in _BY_NAME:
        return QUERIES[name], parameters
    return QUERIES[name], {f"p{number}": value for number, value in enumerate(parameters, start=1)}


@cache
def for_rows(name: str, rows: int) -> str:
    """The insert of this name, written for one row `values (?, ?)`, for `rows` rows: one step instead of many."""
    return _ROW.sub(lambda match: "values " + ", ".join([match[1]] * rows), QUERIES[name], count=1)


@cache
def columns(name: str) -> int:
    """Parameters of one row of the insert of this name."""
    match = _ROW.search(QUERIES[name])
    if match is None:
        raise KeyError(f"{name} has no row of parameters")
    return match[1].count("?")
