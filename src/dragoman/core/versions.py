"""Versions: the workflows a project has taken in. One never changes; which of them is published does."""

from msgspec import Struct

from dragoman.core.names import ProjectId
from dragoman.core.workflows import Workflow

ID_CHARS = 24
"""Lower-case hexadecimal digits, as clients of the API know ids (rowboat spec 1.1)."""

SOURCE_BYTES_MAX = 1024 * 1024
"""Of the text of one workflow."""
_DIGITS = frozenset("0123456789abcdef")


class VersionLine(Struct, frozen=True):
    """A version as it is listed. `number` counts from 1 within the project; `created_at` is in Unix seconds."""

    project: ProjectId
    id: str
    number: int
    name: str
    created_at: float
    published: bool


class Version(VersionLine, frozen=True):
    """`source` is the text it was made of, JSON or TOML."""

    workflow: Workflow
    source: str


def is_version_id(text: str) -> bool:
    return len(text) == ID_CHARS and _DIGITS.issuperset(text)
