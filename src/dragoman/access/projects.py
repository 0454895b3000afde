"""Projects and the names people give: what is allowed in them, and a project that must be there."""

import re

from dragoman.access.ports import AccessStore, Project
from dragoman.core.errors import BadRequest, Conflict
from dragoman.core.names import ProjectId

NAME_CHARS_MAX = 100
PROJECT_ID_CHARS_MAX = 64

_PROJECT_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")


def check_name(text: str, *, what: str) -> str:
    """A name to show: 1 to 100 printable characters, not only spaces. Raises BadRequest."""
    name = text.strip()
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise BadRequest(f"The name of a {what} has 1 to {NAME_CHARS_MAX} printable characters.")
    return name


def check_project_id(text: str) -> ProjectId:
    """A UUID or a slug. It stands in URLs and file names, hence nothing else. Raises BadRequest."""
    if len(text) > PROJECT_ID_CHARS_MAX or _PROJECT_ID.fullmatch(text) is None:
        raise BadRequest(
            f'"{text[:PROJECT_ID_CHARS_MAX]}" cannot be a project\'s id: use a UUID or 1 to {PROJECT_ID_CHARS_MAX}'
            " letters, digits, - and _, beginning and ending with a letter or digit."
        )
    return ProjectId(text)


async def ensure_project(store: AccessStore, project: ProjectId, *, at: float) -> Project:
    """The project of that id; made, named like its id, if there is none."""
    found = await store.project(project)
    if found is not None:
        return found
    made = Project(project, str(project), at)
    try:
        await store.put_project(made)
    except Conflict:  # another process was faster
        return await store.project(project) or made
    return made
