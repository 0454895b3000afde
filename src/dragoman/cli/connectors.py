"""`dragoman connectors`: ls, show, rm."""

import json
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.opening import acting_in, in_house
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import dim, note, printable, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.connectors import Connector, DeleteConnector, ListConnectors, ListConnectorTypes, ReadConnector

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.group("connectors", short_help="Connectors: list, look at, delete those that people set up.")
def command() -> None:
    """Connectors: outside systems that people set up while the server runs, and the configured models among them."""


@command.command("ls")
@click.option("--models", is_flag=True, help="Only those that can answer: what a chat may name.")
@project_option
@json_option
@global_options
def ls(models: bool, project: str, as_json: bool) -> None:
    """List connectors, by name."""

    async def work(house: "House") -> tuple[tuple[Connector, ...], dict[str, str]]:
        principal = await acting_in(house, project)
        found = await house.desk.answer(principal, ListConnectors(models_only=models))
        return found.items, await _whys(house, project)

    found, whys = in_house(work, writer=False)
    if as_json:
        say_json([_described(connector, whys) for connector in found])
        return
    rows = [(each.id, each.type, each.name, _state(each, whys)) for each in found]
    say_table(("ID", "TYPE", "NAME", "STATE"), rows)
    if not found:
        note("No connector yet. Clients of the Elastic API make them: POST /api/actions/connector.")


@command.command("show")
@click.argument("connector")
@project_option
@json_option
@global_options
def show(connector: str, project: str, as_json: bool) -> None:
    """Show CONNECTOR: its type and its settings. Secrets are shown to nobody."""

    async def work(house: "House") -> tuple[Connector, dict[str, str]]:
        found = await house.desk.answer(await acting_in(house, project), ReadConnector(connector))
        return found, await _whys(house, project)

    found, whys = in_house(work, writer=False)
    if as_json:
        say_json(_described(found, whys))
        return
    say(f"{found.name}  id {found.id}  type {found.type}  {_state(found, whys)}".rstrip())
    if found.created_at:
        say(dim(f"  made {stamp(found.created_at)}  changed {stamp(found.updated_at)}"))
    for name, value in found.config.items():
        say(printable(f"  {name} = {json.dumps(value, ensure_ascii=False)}"))
    if why := whys.get(found.type):
        note(why)


@command.command("rm")
@click.argument("connector")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
@global_options
def rm(connector: str, yes: bool, project: str, as_json: bool) -> None:
    """Delete CONNECTOR with its secrets. A model of the configuration file goes by the file alone."""
    if not yes:
        click.confirm(f"Delete the connector {connector} for good?", abort=True, err=True)

    async def work(house: "House") -> None:
        await house.desk.answer(await acting_in(house, project), DeleteConnector(connector))

    in_house(work, writer=False)
    if as_json:
        say_json({"id": connector, "deleted": True})
        return
    say(f"{connector} is deleted.")


async def _whys(house: "House", project: str) -> dict[str, str]:
    """Why this server cannot do what is of a type, by types that it cannot."""
    found = await house.desk.answer(await acting_in(house, project), ListConnectorTypes())
    return {each.id: each.why for each in found.items if not each.enabled}


def _state(connector: Connector, whys: dict[str, str]) -> str:
    """What it is good for, and what is wrong with it."""
    states = (
        ("model", connector.model),
        ("preconfigured", connector.preconfigured),
        ("its secrets are missing", connector.missing_secrets),
        ("cannot be used here", connector.type in whys),
    )
    return ", ".join(name for name, holds in states if holds)


def _described(connector: Connector, whys: dict[str, str]) -> dict[str, Any]:
    return {
        "id": connector.id,
        "type": connector.type,
        "name": connector.name,
        "config": connector.config,
        "model": connector.model,
        "preconfigured": connector.preconfigured,
        "missing_secrets": connector.missing_secrets,
        "why_not": whys.get(connector.type),
        "created_at": iso(connector.created_at or None),
        "updated_at": iso(connector.updated_at or None),
    }
