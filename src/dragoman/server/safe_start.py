"""What must be true before anybody may connect: whoever can reach the server can be told from others.

no credential in the store, loopback only   -> make a first admin credential, in a file of home
no credential in the store, reachable       -> refuse, with the two commands that mend it
"""

import os
from pathlib import Path

from dragoman.access.minting import Mint
from dragoman.access.ports import AccessStore
from dragoman.access.projects import ensure_project
from dragoman.core.names import ProjectId, Scope
from dragoman.server.config import BadConfig
from dragoman.server.quantities import parse_address

ADMIN_FILE = "admin-credential"
ADMIN_NAME = "first admin"


async def prepare(
    access: AccessStore, mint: Mint, *, listen: str, home: Path, project: ProjectId, at: float
) -> Path | None:
    """Make sure the server may listen there. Returns the file a first admin credential was written to, if it was.

    Raises BadConfig when the address can be reached from outside and nobody could prove who they are.
    """
    await ensure_project(access, project, at=at)
    if await access.credentials(None):
        return None
    try:
        address = parse_address(listen)
    except ValueError as error:
        raise BadConfig(str(error)) from error
    if not address.loopback:
        raise BadConfig(
            f"Others could reach {address}, and there is no credential yet to tell them apart. Make one first:\n"
            "  dragoman credentials create admin --scope admin\n"
            "or let only this machine connect:\n"
            f"  dragoman serve --listen 127.0.0.1:{address.port}"
        )
    return await first_admin(mint, home, project=project)


async def first_admin(mint: Mint, home: Path, *, project: ProjectId) -> Path:
    """A credential with every scope, written to a file only its owner reads. The file is made first, so that no
    credential exists whose text nobody holds."""
    path = home / ADMIN_FILE
    draft = path.with_name(f".{ADMIN_FILE}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            minted = await mint.create(ADMIN_NAME, project, scopes=(Scope.ADMIN,))
            file.write(minted.text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
