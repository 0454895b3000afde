"""`dragoman projects`: create, ls, show, rm; what a project is set to stands in `project_settings.py`."""

import os
import uuid
from typing import TYPE_CHECKING, Any

import click

from dragoman.access.minting import Minted
from dragoman.access.ports import Project
from dragoman.access.projects import check_name, check_project_id
from dragoman.cli.credentials import EXPIRES, described
from dragoman.cli.opening import in_house
from dragoman.cli.options import global_options, json_option
from dragoman.cli.project_settings import client, existing, mcp, secret, set_, shown
from dragoman.cli.terminal import dim, note, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest
from dragoman.core.names import ProjectId
from dragoman.runtime.project_settings import Settings

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.group("projects", short_help="Projects: the tenants that own everything else.")
def command() -> None:
    """Projects: the tenants. Each owns its conversations, runs and credentials; none sees another's."""


@command.command("create", short_help="Make a project, and a credential for it.")
@click.argument("name")
@click.option("--id", "project_id", default="", metavar="UUID", help="Its id: a UUID or slug; default a new UUID.")
@EXPIRES
@json_option
@global_options
def create(name: str, project_id: str, expires_s: float | None, as_json: bool) -> None:
    """Make a project called NAME, and a credential for it, which is printed this once.

    In JSON `secret` is what the project's webhook requests are signed with, and `credential` is for callers.
    """
    project = check_project_id(project_id or str(uuid.UUID(bytes=os.urandom(16), version=4)))
    name = check_name(name, what="project")

    async def work(house: "House") -> tuple[Minted, Settings]:
        await house.access.put_project(Project(project, name, house.clock.now()))
        settings = await house.settings.of(project)
        return await house.mint.create(name, project, expires_s=expires_s), settings

    minted, settings = in_house(work, writer=False)
    if as_json:
        ids = {"id": project, "name": name, "client_id": settings.client_id}
        say_json({**ids, "secret": settings.secret, "credential": minted.text})
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

    async def work(house: "House") -> tuple[Project, list[dict[str, Any]], int, Settings]:
        found = await existing(house, project)
        credentials = list(await house.access.credentials(found.id))
        details = [described(credential, now=house.clock.now()) for credential in credentials]
        return found, details, await house.store.count(found.id), await house.settings.of(found.id)

    found, details, conversations, settings = in_house(work, writer=False)
    if as_json:
        say_json({**_described(found), **shown(settings), "conversations": conversations, "credentials": details})
        return
    say(f"{found.name}  id {found.id}  made {stamp(found.created_at)}  {conversations} conversations")
    say(f"  client id {settings.client_id}  webhook {settings.webhook or 'none'}")
    for each in details:
        say(dim(f"  credential {each['id']}  {each['name']}  {each['state']}  {' '.join(each['scopes'])}"))


@command.command("rm", short_help="Delete a project with everything it owns.")
@click.argument("project")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@global_options
def rm(project: str, yes: bool, as_json: bool) -> None:
    """Delete PROJECT with everything it owns: conversations, runs, credentials. There is no way back."""

    async def count(house: "House") -> tuple[Project, int, bool]:
        found = await existing(house, project)
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


def _described(project: Project) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created_at": iso(project.created_at)}


for each in (set_, secret, client, mcp):
    command.add_command(each)
