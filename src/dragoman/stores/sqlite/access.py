"""Projects and credentials in the file. Written by the server and, beside it, by the command line."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from dragoman.access.ports import Credential, Project
from dragoman.core.names import ProjectId, Scope, Tape
from dragoman.runtime.keeping import no_project, project_taken
from dragoman.stores.sqlite.queries import statement
from dragoman.stores.sqlite.statements import Statements, delete_tape


def put_project(statements: Statements, project: Project) -> None:
    if not statements.change("put_project", project.id, project.name, project.created_at):
        raise project_taken(project.id)


def delete_project(statements: Statements, project: ProjectId) -> bool:
    existed = bool(statements.change("delete_project", project))
    statements.change("delete_credentials", project)
    statements.change("delete_records", project)
    statements.change("delete_knowledge", project)
    for (number,) in statements.look_up_all("tapes_of_project", project):
        delete_tape(statements, Tape(number))
    return existed


def put_credential(statements: Statements, credential: Credential) -> None:
    written = statements.change(
        "put_credential",
        credential.id,
        credential.project,
        credential.name,
        " ".join(credential.scopes),
        credential.hash,
        credential.pepper_id,
        credential.created_at,
        credential.expires_at,
        credential.rpm,
        credential.previous_hash,
        credential.previous_until,
        credential.last_used_at,
        credential.revoked_at,
        credential.subject,
    )
    if not written:
        raise no_project(credential.project)


def touch_credential(statements: Statements, credential_id: str, at: float) -> None:
    statements.change("touch_credential", credential_id, at)


# -- reading -------------------------------------------------------------------------------------------------------


def read_projects(connection: sqlite3.Connection, project: ProjectId | None) -> Sequence[Project]:
    """All, or the one of that id."""
    name, parameters = ("projects", ()) if project is None else ("project", (project,))
    rows = connection.execute(*statement(name, parameters)).fetchall()
    return tuple(Project(ProjectId(row[0]), row[1], row[2]) for row in rows)


def read_credential(connection: sqlite3.Connection, credential_id: str) -> Credential | None:
    row = connection.execute(*statement("credential", (credential_id,))).fetchone()
    return None if row is None else _credential(row)


def read_credentials(connection: sqlite3.Connection, project: ProjectId | None) -> Sequence[Credential]:
    return tuple(_credential(row) for row in connection.execute(*statement("credentials", (project,))).fetchall())


def _credential(row: tuple[Any, ...]) -> Credential:
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
