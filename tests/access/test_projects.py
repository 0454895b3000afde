"""Names and ids of projects, and a project that must be there."""

import pytest

from dragoman.access.ports import Project
from dragoman.access.projects import check_name, check_project_id, ensure_project
from dragoman.core.errors import BadRequest, Conflict
from dragoman.core.names import ProjectId
from tests.access_memory import MemoryAccess


@pytest.mark.parametrize("text", ["default", "a", "a-b_c", "3f0f7a52-5c0a-4a7e-9a27-2f6a0d4c9d11", "A" * 64])
def test_uuids_and_slugs_are_project_ids(text: str):
    assert check_project_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "a b", "a/b", "..", "ä", "a\n", "A" * 65])
def test_anything_else_is_not(text: str):
    with pytest.raises(BadRequest):
        check_project_id(text)


def test_a_name_is_trimmed():
    assert check_name("  ci bot ", what="credential") == "ci bot"
    assert check_name("x" * 100, what="credential") == "x" * 100


@pytest.mark.parametrize("text", ["", "   ", "x" * 101, "a\x1b[31m", "a\nb", "a\u202eb"])
def test_a_name_that_is_empty_too_long_or_not_printable_is_refused(text: str):
    with pytest.raises(BadRequest) as caught:
        check_name(text, what="credential")
    assert caught.value.detail == "The name of a credential has 1 to 100 printable characters."


async def test_a_project_that_must_be_there_is_made_once():
    store = MemoryAccess()

    first = await ensure_project(store, ProjectId("default"), at=7.0)
    again = await ensure_project(store, ProjectId("default"), at=8.0)

    assert first == again == Project(ProjectId("default"), "default", 7.0)
    assert await store.projects() == (first,)


async def test_another_process_that_makes_it_first_is_no_error():
    class Racing(MemoryAccess):
        async def put_project(self, project: Project) -> None:
            self._projects[project.id] = Project(project.id, "theirs", 1.0)
            raise Conflict("taken")

    assert await ensure_project(Racing(), ProjectId("p"), at=2.0) == Project(ProjectId("p"), "theirs", 1.0)
