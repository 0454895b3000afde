"""The name of somebody to whom something belongs."""

from dragoman.access.ports import AccessStore
from dragoman.core.names import ProjectId


class Naming:
    """Looks names up among the project's credentials, revoked ones too: what somebody made keeps its maker's name."""

    def __init__(self, store: AccessStore) -> None:
        self._store = store

    async def name_of(self, project: ProjectId, owner: str) -> str:
        """The name to show for a `Principal.owner`; "" = it is not known (any more). Raises Unavailable."""
        credential = await self._store.credential(owner)
        if credential is not None and credential.project == project:
            return credential.name
        known = await self._store.credentials(project)
        return next((each.name for each in known if each.subject == owner), "")
