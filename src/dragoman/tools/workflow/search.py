"""The search of an agent in its sources (rowboat spec 7.2)."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from dragoman.core.names import ProjectId
from dragoman.core.sources import Passage
from dragoman.core.workflows import Member
from dragoman.runtime.sources import Sources

CONTENT_CHARS_MAX = 200_000
"""Of all results together; each whole document has an equal part of it, and the beginning is what is kept."""
CUT = "\n[the rest is left out here]"


class _Result(Struct, frozen=True):
    title: str
    name: str
    content: str
    docId: str
    sourceId: str


async def searched(sources: Sources, project: ProjectId, member: Member, query: str) -> str:
    """JSON as upstream's tool gives it: `{"results": [{title, name, content, docId, sourceId}]}`, best first."""
    found = await sources.search(
        project, member.sources, query, found_max=member.found_max, whole=member.whole_documents
    )
    chars_max = CONTENT_CHARS_MAX // max(len(found), 1)
    return msgspec.json.encode({"results": _results(found, chars_max)}).decode()


def _results(found: Sequence[Passage], chars_max: int) -> list[_Result]:
    return [
        _Result(
            passage.title,
            passage.name,
            passage.text if len(passage.text) <= chars_max else passage.text[: chars_max - len(CUT)] + CUT,
            passage.document,
            passage.source,
        )
        for passage in found
    ]
