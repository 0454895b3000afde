"""The statements of `queries.sql`, `records.sql` and `knowledge.sql` by name."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """The statements under their `-- name: x` headers, without the lines of comment."""
    parts = _NAME.split(text)
    return {name: _COMMENT.sub("", body).strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


_FOLDER = files("dragoman.stores.postgres")
QUERIES = {
    name: sql
    for file in ("queries.sql", "records.sql", "knowledge.sql")
    for name, sql in parse((_FOLDER / file).read_text("utf-8")).items()
}
