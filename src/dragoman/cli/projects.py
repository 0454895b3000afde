"""`dragoman projects`: create, ls, show, rm."""

import os
import uuid
from typing import TYPE_CHECKING, Any

import click

from dragoman.access.minting import Minted
from dragoman.access.ports import Credential, Project
from dragoman.access.projects import check_name, check_project_id
from dragoman.cli.credentials import EXPIRES, described
from dragoman.cli.opening import in_house
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import dim, note, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.names import ProjectId

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.group("projects", short_help="Projects: the tenants that own everything else.")
def command() -> None:
    """Projects: the tenants. Each owns its conversations, runs and credentials; none sees another's."""


@command.command("create")
@click.argument("name")
@click.option("--id", "project_id", default="", metavar="UUID", help="Its id: a UUID or slug; default a new UUID.")
@EXPIRES
@json_option
@global_options
def create(name: str, project_id: str, expires_s: float | None, as_json: bool) -> None:
    """Make a project called NAME, and a credential for it, which is printed this once."""
    project = check_project_id(project_id or str(uuid.UUID(bytes=os.urandom(16), version=4)))
    name = check_name(name, what="project")

    async def work(house: "House") -> Minted:
        await house.access.put_project(Project(project, name, house.clock.now()))
        return await house.mint.create(name, project, expires_s=expires_s)

    minted = in_house(work, writer=False)
    if as_json:
        say_json({"id": project, "name": name, "secret": minted.text})
        return
    credential = minted.credential
    until = "never expires" if credential.expires_at is None else f"expires {iso(credential.expires_at)}"
    say(f"{name}  id {project}")
    note(f"its credential {credential.id} {until}; renew it with: dragoman credentials rotate {credential.id}")
    note("shown once:  ", nl=False)
    say(minted.text)


@command.command("ls")
@json_option
@global_options
def ls(as_json: bool) -> None:
    """List projects."""

    async def work(house: "House") -> list[Project]:
        return list(await house.access.projects())

    found = in_house(work, writer=False)
    if as_json:
        say_json([_described(project) for project in found])
        return
    say_table(("ID", "NAME", "CREATED"), [(project.id, project.name, stamp(project.created_at)) for project in found])
    if not found:
        note("No project yet. The default one is made when first needed; others with: dragoman projects create NAME")


@command.command("show")
@click.argument("project")
@json_option
@global_options
def show(project: str, as_json: bool) -> None:
    """Show PROJECT: its credentials, and how many conversations it has."""

    async def work(house: "House") -> tuple[Project, list[Credential], int, float]:
        found = await _get(house, project)
        credentials = list(await house.access.credentials(found.id))
        return found, credentials, await house.store.count(found.id), house.clock.now()

    found, credentials, conversations, now = in_house(work, writer=False)
    details = [described(credential, now=now) for credential in credentials]
    if as_json:
        say_json({**_described(found), "conversations": conversations, "credentials": details})
        return
    say(f"{found.name}  id {found.id}  made {stamp(found.created_at)}  {conversations} conversations")
    for each in details:
        say(dim(f"  credential {each['id']}  {each['name']}  {each['state']}  {' '.join(each['scopes'])}"))


@command.command("rm")
@click.argument("project")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@global_options
def rm(project: str, yes: bool, as_json: bool) -> None:
    """Delete PROJECT with everything it owns: conversations, runs, credentials. There is no way back."""

    async def count(house: "House") -> tuple[Project, int, bool]:
        found = await _get(house, project)
        return found, await house.store.count(found.id), found.id == house.config.defaults.project

    async def work(house: "House") -> bool:
        return await house.access.delete_project(ProjectId(project))

    found, conversations, is_default = in_house(count, writer=False)
    if is_default:
        raise BadRequest(f"{project} is the default project; make another the default first ([defaults] project).")
    if not yes:
        click.confirm(
            f"Delete {found.name} ({found.id}) with its {conversations} conversations, for good?", abort=True, err=True
        )
    in_house(work, writer=False)
    if as_json:
        say_json({"id": found.id, "deleted": True})
        return
    say(f"{found.name} ({found.id}) and everything it owned is deleted.")


async def _get(house: "House", project: str) -> Project:
    found = await house.access.project(ProjectId(project))
    if found is None:
        raise NotFound(f"There is no project {project}; list them with: dragoman projects ls", what="project")
    return found


def _described(project: Project) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created_at": iso(project.created_at)}
