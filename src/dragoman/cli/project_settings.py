"""`dragoman projects`: set, secret, client, mcp. What a project is set to."""

from typing import TYPE_CHECKING, Any, get_args

import click

from dragoman.access.ports import Project
from dragoman.access.projects import ensure_project
from dragoman.cli.opening import in_house
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import note, say, say_json, say_table
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.names import ProjectId
from dragoman.runtime.project_settings import McpServer, Settings, Style

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.command("set")
@click.argument("project")
@click.option(
    "--webhook",
    default=None,
    metavar="URL",
    help='Where calls of its workflows\' tools go: an address, connection:NAME of the configuration, or "" for none.',
)
@click.option(
    "--webhook-style",
    type=click.Choice(get_args(Style)),
    default=None,
    help="What is signed: all that a receiver may look at, or the body's hash alone.",
)
@json_option
@global_options
def set_(project: str, webhook: str | None, webhook_style: Style | None, as_json: bool) -> None:
    """Change what PROJECT is set to."""
    if webhook is None and webhook_style is None:
        raise BadRequest("Say what to set: --webhook, --webhook-style.")

    async def work(house: "House") -> tuple[Project, Settings]:
        found = await existing(house, project)
        if webhook is not None:
            await house.settings.set_webhook(found.id, webhook)
        if webhook_style is not None:
            await house.settings.set_webhook_style(found.id, webhook_style)
        return found, await house.settings.of(found.id)

    found, settings = in_house(work, writer=False)
    if as_json:
        say_json({"id": found.id, "name": found.name, **shown(settings)})
        return
    where = settings.webhook or "nowhere"
    say(f"{found.name} ({found.id}): calls go to {where}, signed {settings.webhook_style}.")


@click.command("secret", short_help="Print what webhook requests and user tokens are signed with.")
@click.argument("project")
@click.option("--rotate", is_flag=True, help="Make a new one first; the old one proves nothing any more.")
@json_option
@global_options
def secret(project: str, rotate: bool, as_json: bool) -> None:
    """Print the secret that PROJECT's webhook requests and its widget users' tokens are signed with."""

    async def work(house: "House") -> tuple[Project, Settings]:
        found = await existing(house, project)
        if rotate:
            await house.settings.rotate_secret(found.id)
        return found, await house.settings.of(found.id)

    found, settings = in_house(work, writer=False)
    if as_json:
        say_json({"id": found.id, "secret": settings.secret})
        return
    if rotate:
        note(f"{found.name} ({found.id}) has a new secret; whoever checks signatures needs it too")
    say(settings.secret)


@click.command("client")
@click.argument("project")
@click.option("--rotate", is_flag=True, help="Make a new one first; widgets with the old one stop working.")
@json_option
@global_options
def client(project: str, rotate: bool, as_json: bool) -> None:
    """Print the id by which a chat widget finds PROJECT. It is no secret."""

    async def work(house: "House") -> tuple[Project, Settings]:
        found = await existing(house, project)
        if rotate:
            await house.settings.rotate_client(found.id)
        return found, await house.settings.of(found.id)

    found, settings = in_house(work, writer=False)
    if as_json:
        say_json({"id": found.id, "client_id": settings.client_id})
        return
    say(settings.client_id)


@click.group("mcp")
def mcp() -> None:
    """MCP servers of a project, for the tools of its workflows."""


@mcp.command("add")
@click.argument("project")
@click.argument("name")
@click.argument("url")
@click.option(
    "--transport", type=click.Choice(("http", "sse")), default=None, help="How it is spoken to; else it is found out."
)
@click.option("--header", "headers", multiple=True, metavar="'K: V'", help="Goes with every request; kept sealed.")
@json_option
@global_options
def mcp_add(project: str, name: str, url: str, transport: str | None, headers: tuple[str, ...], as_json: bool) -> None:
    """Give PROJECT the MCP server NAME at URL; one of that name is replaced."""
    server = McpServer(name, url, "http" if transport == "http" else "sse" if transport else "", _headers(headers))

    async def work(house: "House") -> None:
        await house.settings.put_mcp_server((await existing(house, project)).id, server)

    in_house(work, writer=False)
    if as_json:
        say_json(_server(server))
        return
    say(f"{project} has the MCP server {name}.")


@mcp.command("rm")
@click.argument("project")
@click.argument("name")
@json_option
@global_options
def mcp_rm(project: str, name: str, as_json: bool) -> None:
    """Take the MCP server NAME from PROJECT."""

    async def work(house: "House") -> None:
        await house.settings.remove_mcp_server((await existing(house, project)).id, name)

    in_house(work, writer=False)
    if as_json:
        say_json({"name": name, "deleted": True})
        return
    say(f"{project} has no MCP server {name} any more.")


@mcp.command("ls")
@click.argument("project")
@json_option
@global_options
def mcp_ls(project: str, as_json: bool) -> None:
    """List the MCP servers of PROJECT."""

    async def work(house: "House") -> Settings:
        return await house.settings.of((await existing(house, project)).id)

    servers = in_house(work, writer=False).mcp_servers
    if as_json:
        say_json([_server(server) for server in servers])
        return
    rows = [
        (each.name, each.url, each.transport or "found out", ", ".join(key for key, _ in each.headers))
        for each in servers
    ]
    say_table(("NAME", "URL", "TRANSPORT", "HEADERS"), rows)
    if not servers:
        note(f"None yet. Add one with: dragoman projects mcp add {project} NAME URL")


async def existing(house: "House", project: str) -> Project:
    """The default project is made if need be. Raises NotFound."""
    if project == house.config.defaults.project:
        return await ensure_project(house.access, ProjectId(project), at=house.clock.now())
    found = await house.access.project(ProjectId(project))
    if found is None:
        raise NotFound(f"There is no project {project}; list them with: dragoman projects ls", what="project")
    return found


def shown(settings: Settings) -> dict[str, Any]:
    """What of it everybody may see who works at this machine: all but the secrets."""
    return {
        "client_id": settings.client_id,
        "webhook": settings.webhook,
        "webhook_style": settings.webhook_style,
        "mcp_servers": [_server(server) for server in settings.mcp_servers],
    }


def _server(server: McpServer) -> dict[str, Any]:
    """Of its headers the names alone."""
    return {
        "name": server.name,
        "url": server.url,
        "transport": server.transport or None,
        "headers": [name for name, _ in server.headers],
    }


def _headers(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [each.partition(":") for each in given]
    if not all(colon for _, colon, _ in pairs):
        raise BadRequest(
            "--header takes a name and a value with a colon between them, such as 'Authorization: Bearer x'."
        )
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)
