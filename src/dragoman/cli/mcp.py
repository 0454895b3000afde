"""`dragoman mcp`: ls, tools, pin, unpin."""

from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.opening import in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import note, printable, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import NotFound, ToolFailed

if TYPE_CHECKING:
    from dragoman.server.house import House
    from dragoman.tools.mcp.caller import Found
    from dragoman.tools.mcp.definitions import Definition, Difference
    from dragoman.tools.mcp.pins import Pin


@click.group("mcp", short_help="MCP servers: list, look at their tools, pin them.")
def command() -> None:
    """MCP servers: connections of the kind mcp, and those of projects. What agents may call is pinned first."""


@command.command("ls")
@project_option
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List the MCP servers that a project can reach. None is asked anything."""

    async def work(house: "House") -> "list[tuple[Found, Pin | None]]":
        return await house.mcp.all(await project_of(house, project))

    found = in_house(work, writer=False)
    if as_json:
        say_json([_described(each, pin) for each, pin in found])
        return
    rows = [
        (
            each.server.name,
            "project" if each.project else "configuration",
            each.server.transport or "http",
            printable(each.server.where),
            "no" if pin is None else f"{len(pin.tools)} tools, {stamp(pin.pinned_at)}",
        )
        for each, pin in found
    ]
    say_table(("NAME", "OF", "TRANSPORT", "WHERE", "PINNED"), rows)
    if not found:
        note('No MCP server yet. Put one into the configuration: [connections.NAME] kind = "mcp"')


@command.command("tools", short_help="Show a server's tools, and what differs from the pinned ones.")
@click.argument("name")
@project_option
@json_option
@global_options
def tools(name: str, project: str, as_json: bool) -> None:
    """Ask the server NAME for its tools, and show what differs from those that are pinned."""
    found, now, pin, changes = _looked_at(name, project)
    states = {change.name: change.what for change in changes}
    gone = tuple(each for each in (pin.tools if pin else ()) if states.get(each.name) == "gone")
    rows = [(each, _state(each.name, states, pin)) for each in (*now, *gone)]
    if as_json:
        say_json([_tool(each, state) for each, state in rows])
        return
    say_table(
        ("NAME", "STATE", "REPEAT", "DESCRIPTION"),
        [(printable(each.name), state, each.repeat.value, _line(each)) for each, state in rows],
    )
    if changes:
        note(f"Pin them as they are now with: {found.again}")


@command.command("pin", short_help="Agree to the tools that a server has now.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
@global_options
def pin(name: str, yes: bool, project: str, as_json: bool) -> None:
    """Agree to the tools that the server NAME has now: each with its description, parameters and hints.

    A tool that is something else later is not called. Agents are offered the pinned tools of connections from the next
    start of the server on.
    """
    found, now, before, changes = _looked_at(name, project)
    if not yes:
        for change in changes:
            tool = next((each for each in now if each.name == change.name), None)
            note(printable(f"{change.what}: {change.name}" + (f"  {_line(tool)}" if tool else "")))
        if before is not None and not changes:
            note("Nothing changed since it was pinned.")
        click.confirm(f"Pin the {len(now)} tools of {name}?", abort=True, err=True)

    async def work(house: "House") -> "Pin":
        return await house.mcp.pins.put(found.project, found.server.name, now, by="command line")

    done = in_house(work, writer=False)
    if as_json:
        say_json(_described(found, done) | {"changes": [{"name": each.name, "what": each.what} for each in changes]})
        return
    say(f"{name}: {len(done.tools)} tools are pinned.")


@command.command("unpin", short_help="Forget what was pinned of a server.")
@click.argument("name")
@project_option
@json_option
@global_options
def unpin(name: str, project: str, as_json: bool) -> None:
    """Forget what was pinned of the server NAME. Agents lose its tools; workflows that name it may go on calling."""

    async def work(house: "House") -> bool:
        found = await _found(house, project, name)
        return await house.mcp.pins.remove(found.project, name)

    if not in_house(work, writer=False):
        raise NotFound(f"Nothing is pinned of {name}; see what is with: dragoman mcp ls", what="pin")
    if as_json:
        say_json({"name": name, "pinned": None})
        return
    say(f"{name}: nothing is pinned any more.")


def _looked_at(name: str, project: str) -> "tuple[Found, tuple[Definition, ...], Pin | None, list[Difference]]":
    """The server, its tools now, those that are pinned, and how they differ. Its secrets are needed."""
    from dragoman.tools.mcp.definitions import differences  # noqa: PLC0415 keeps --help fast

    async def work(house: "House") -> "tuple[Found, tuple[Definition, ...], Pin | None]":
        found = await _found(house, project, name)
        return found, await house.mcp.tools(found), await house.mcp.pins.get(found.project, name)

    found, now, before = in_house(work, writer=False, resolve_secrets=True)
    return found, now, before, differences(before.tools if before else (), now)


async def _found(house: "House", project: str, name: str) -> "Found":
    from dragoman.tools.mcp.caller import NO_SERVER  # noqa: PLC0415 keeps --help fast

    try:
        return await house.mcp.find(await project_of(house, project), name)
    except ToolFailed as error:
        if error.code != NO_SERVER:
            raise
        raise NotFound(error.detail, what="mcp_server") from None


def _state(name: str, states: dict[str, str], pin: "Pin | None") -> str:
    return "not pinned" if pin is None else states.get(name, "pinned")


def _line(tool: "Definition") -> str:
    return printable(tool.description.split("\n", 1)[0])


def _tool(tool: "Definition", state: str) -> dict[str, Any]:
    return {
        "name": tool.name,
        "state": state,
        "repeat": tool.repeat.value,
        "description": tool.description,
        "parameters": tool.parameters,
    }


def _described(found: "Found", pin: "Pin | None") -> dict[str, Any]:
    return {
        "name": found.server.name,
        "project": found.project or None,
        "transport": found.server.transport or "http",
        "where": found.server.where,
        "pinned": None if pin is None else len(pin.tools),
        "pinned_at": None if pin is None else iso(pin.pinned_at),
    }
