"""Projects and credentials in the database. Written by servers and, beside them, by the command line."""

from collections.abc import Sequence
from typing import Any

from dragoman.access.ports import Credential, Project
from dragoman.core.names import ConversationId, ProjectId, Scope
from dragoman.runtime.keeping import no_project, project_taken
from dragoman.stores.postgres.connection import Connection, Pool, in_transaction, rows_changed
from dragoman.stores.postgres.queries import QUERIES


async def put_project(pool: Pool, project: Project) -> None:
    status = await pool.do(
        lambda connection: connection.execute(
            QUERIES["put_project"], project.id, project.name, float(project.created_at)
        ),
        again=False,
    )
    if not rows_changed(status):
        raise project_taken(project.id)


async def conversations_of(pool: Pool, project: ProjectId, limit: int) -> list[ConversationId]:
    query = QUERIES["conversations_of_project"]
    rows = await pool.do(lambda connection: connection.fetch(query, project, limit))
    return [ConversationId(row[0]) for row in rows]


async def delete_credentials(pool: Pool, project: ProjectId) -> None:
    await pool.do(lambda connection: connection.execute(QUERIES["delete_credentials"], project))


async def delete_project(pool: Pool, project: ProjectId) -> bool:
    """The project itself, and the credentials, records and knowledge that were put meanwhile. False if absent."""

    async def work(connection: Connection) -> bool:
        status = await connection.execute(QUERIES["delete_project"], project)
        await connection.execute(QUERIES["delete_credentials"], project)
        await connection.execute(QUERIES["delete_records"], project)
        await connection.execute(QUERIES["delete_knowledge"], project)
        return rows_changed(status) > 0

    return await pool.do(lambda connection: in_transaction(connection, work), again=False)


async def put_credential(pool: Pool, credential: Credential) -> None:
    row = (
        *(credential.id, credential.project, credential.name, " ".join(credential.scopes), credential.hash),
        *(credential.pepper_id, credential.created_at, credential.expires_at, credential.rpm),
        *(credential.previous_hash, credential.previous_until, credential.last_used_at, credential.revoked_at),
        credential.subject,
    )
    status = await pool.do(lambda connection: connection.execute(QUERIES["put_credential"], *row))
    if not rows_changed(status):
        raise no_project(credential.project)


async def touch_credential(pool: Pool, credential_id: str, at: float) -> None:
    await pool.do(lambda connection: connection.execute(QUERIES["touch_credential"], credential_id, at))


# -- reading -------------------------------------------------------------------------------------------------------


async def read_projects(pool: Pool, project: ProjectId | None) -> Sequence[Project]:
    """All, or the one of that id."""
    name, args = ("projects", ()) if project is None else ("project", (project,))
    rows = await pool.do(lambda connection: connection.fetch(QUERIES[name], *args))
    return tuple(Project(ProjectId(row[0]), row[1], row[2]) for row in rows)


async def read_credentials(pool: Pool, name: str, key: str | None) -> Sequence[Credential]:
    rows = await pool.do(lambda connection: connection.fetch(QUERIES[name], key))
    return tuple(_credential(row) for row in rows)


def _credential(row: Sequence[Any]) -> Credential:
    return Credential(
        id=row[0],
        project=ProjectId(row[1]),
        name=row[2],
        scopes=tuple(Scope(scope) for scope in row[3].split()),
        hash=row[4],
        pepper_id=row[5],
        created_at=row[6],
        expires_at=row[7],
        rpm=row[8],
        previous_hash=row[9],
        previous_until=row[10],
        last_used_at=row[11],
        revoked_at=row[12],
        subject=row[13],
    )
