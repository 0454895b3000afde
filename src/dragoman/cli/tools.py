"""`dragoman tools`: ls, call."""

from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.failing import UPSTREAM
from dragoman.cli.opening import in_house, local_principal
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import note, printable, say, say_json, say_table, warn
from dragoman.core.agents import ToolSpec
from dragoman.core.operations import CallTool, ListTools, ToolList, ToolOutput
from dragoman.runtime.waiting import Policy, policy_of

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.group("tools", short_help="Tools: list them, and call one.")
def command() -> None:
    """Tools: what an agent can do besides talk."""


@command.command("ls")
@click.option("--agent", default="", metavar="A", help="Those this agent holds; else the default one's.")
@json_option
@global_options
def ls(agent: str, as_json: bool) -> None:
    """List the tools an agent holds."""

    async def work(house: "House") -> tuple[ToolList, Policy, tuple[str, ...]]:
        held = await house.desk.answer(local_principal(house.config), ListTools(agent))
        table = house.config.agents[agent or house.config.defaults.agent]
        return held, policy_of(table.spec(agent), held.tools), house.warnings

    held, policy, warnings = in_house(work, writer=False)
    tools = held.tools
    if as_json:
        say_json([_described(tool, policy) for tool in tools])
        return
    rows = [
        (tool.name, tool.toolset, _policy(tool, policy), tool.repeat.value, tool.description.split("\n", 1)[0])
        for tool in tools
    ]
    say_table(("NAME", "TOOLSET", "POLICY", "REPEAT", "DESCRIPTION"), rows)
    for warning in warnings:
        warn(warning)
    if not tools:
        note("This agent holds no tool; see [agents] tools in the configuration.")


@command.command("call")
@click.argument("name")
@click.argument("arguments", default="{}")
@json_option
@global_options
def call(name: str, arguments: str, as_json: bool) -> int:
    """Run the tool NAME with ARGUMENTS, a JSON object. Exit code 5 if the tool fails."""

    async def work(house: "House") -> ToolOutput:
        return await house.desk.answer(local_principal(house.config), CallTool(name, arguments))

    output = in_house(work, writer=False, resolve_secrets=True)
    if as_json:
        say_json({"name": name, "content": output.content, "error": output.is_error, "code": output.code})
    elif output.is_error:
        click.echo(f"dragoman: {printable(output.content)}", err=True)
    else:
        say(printable(output.content))
    return UPSTREAM if output.is_error else 0


def _policy(tool: ToolSpec, policy: Policy) -> str:
    """What is also in `ask` is refused."""
    return "deny" if tool.name in policy.deny else "ask" if tool.name in policy.ask else "auto"


def _described(tool: ToolSpec, policy: Policy) -> dict[str, Any]:
    return {
        "name": tool.name,
        "toolset": tool.toolset,
        "policy": _policy(tool, policy),
        "repeat": tool.repeat.value,
        "description": tool.description,
        "parameters": tool.parameters,
    }
