"""An AccessStore in a dict, for tests of those who only need what its docstrings promise."""

from collections.abc import Sequence

import msgspec

from dragoman.access.ports import Credential, Project
from dragoman.core.errors import Conflict, NotFound
from dragoman.core.names import ProjectId


class MemoryAccess:
    """`reads` counts look-ups of credentials."""

    def __init__(self, *projects: str) -> None:
        self._projects = {ProjectId(name): Project(ProjectId(name), name, 0.0) for name in projects}
        self.kept: dict[str, Credential] = {}
        self.reads = 0

    async def project(self, project: ProjectId) -> Project | None:
        return self._projects.get(project)

    async def projects(self) -> Sequence[Project]:
        return tuple(self._projects.values())

    async def put_project(self, project: Project) -> None:
        if project.id in self._projects:
            raise Conflict(f"There is a project {project.id} already.")
        self._projects[project.id] = project

    async def delete_project(self, project: ProjectId) -> bool:
        self.kept = {key: kept for key, kept in self.kept.items() if kept.project != project}
        return self._projects.pop(project, None) is not None

    async def credential(self, credential_id: str) -> Credential | None:
        self.reads += 1
        return self.kept.get(credential_id)

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        return tuple(kept for kept in self.kept.values() if project in (None, kept.project))

    async def put_credential(self, credential: Credential) -> None:
        if credential.project not in self._projects:
            raise NotFound(f"There is no project {credential.project}.", what="project")
        self.kept[credential.id] = credential

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        self.kept[credential_id] = msgspec.structs.replace(self.kept[credential_id], last_used_at=at)
