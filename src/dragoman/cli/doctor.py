"""`dragoman doctor`."""

from functools import partial
from typing import TYPE_CHECKING

import click
import msgspec

from dragoman.cli import checkup
from dragoman.cli.checkup import Finding
from dragoman.cli.failing import BAD_CONFIG, OURS
from dragoman.cli.models import probe as ask
from dragoman.cli.opening import in_house_of, load_settings
from dragoman.cli.options import global_options, json_option, settings
from dragoman.cli.terminal import say, say_json
from dragoman.cli.workflow_checkup import check_mcp, check_workflows
from dragoman.core.errors import DragomanError
from dragoman.server.config import BadConfig, Loaded, store_file, workspace_folder
from dragoman.server.config_checks import MCP

if TYPE_CHECKING:
    from dragoman.server.house import House

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", short_help="Check this installation and say how to mend what is wrong.")
@click.option(
    "--probe", is_flag=True, help="Ask every model once, also those that cost money, and knock at connections."
)
@json_option
@global_options
def command(probe: bool, as_json: bool) -> int:
    """Check this installation and say how to mend what is wrong.

    It makes home and an empty store where there are none, and changes nothing else. Exit code 78 if the configuration
    is at fault, 1 if something else fails, 0 with warnings only.
    """
    findings = examine(probe=probe)
    if as_json:
        say_json([msgspec.structs.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    failed = {finding.name for finding in findings if finding.state == "fail"}
    if "config" in failed:
        return BAD_CONFIG
    return OURS if failed else 0


def examine(*, probe: bool) -> list[Finding]:
    """Everything that can be looked at; what a broken config hides is left out."""
    home = settings().home
    findings = [checkup.check_home(home), checkup.check_disk(home)]
    try:
        loaded = load_settings()
    except BadConfig as error:
        sentences = "; ".join(error.faults) or error.detail
        return [Finding("fail", "config", sentences, "dragoman config check"), *findings]
    config = loaded.config
    findings.insert(0, _check_config(loaded))
    findings.append(checkup.check_workspace(workspace_folder(config, home)))
    if not config.store.is_postgres:
        findings.append(checkup.check_database(store_file(config, home)))
        findings.append(checkup.check_server(store_file(config, home)))
    if any(finding.state == "fail" and finding.name in ("database", "home") for finding in findings):
        return findings
    try:
        findings.extend(in_house_of(config, lambda house: _examine_house(house, probe=probe), writer=False))
    except DragomanError as error:
        findings.append(Finding("fail", "start", error.detail, "mend what this says, then run dragoman doctor again"))
    return findings


def _check_config(loaded: Loaded) -> Finding:
    if loaded.warnings:
        return Finding("warn", "config", loaded.warnings[0], "see the sentence")
    return Finding("ok", "config", str(loaded.file or "no file, all defaults"))


async def _examine_house(house: "House", *, probe: bool) -> list[Finding]:
    config = house.config
    credentials = list(await house.access.credentials(None))
    findings = [
        checkup.check_pepper(house.home, house.mint.pepper_id, credentials),
        checkup.check_credentials(config.server.listen, credentials, now=house.clock.now()),
    ]
    findings.extend(Finding("warn", "tools", warning, "dragoman tools ls") for warning in house.warnings)
    if config.store.is_postgres:
        findings.append(await checkup.check_store(config.store.url, house.store.probe))
    for name, table in config.models.items():
        findings.append(await checkup.check_model(name, table, partial(_seconds_of, house, name), probe=probe))
    findings += await check_workflows(house)
    for name, table in config.connections.items():
        if probe and table.url:
            findings.append(checkup.knock(f"connection {name}", checkup.address_of(table.url)))
        elif table.kind == MCP:
            findings.append(check_mcp(name, table))
    return findings


async def _seconds_of(house: "House", name: str) -> float:
    model, wire_name = await house.models.choose(house.project, name)
    return (await ask(model, wire_name, stream=False)).took_s


def _show(finding: Finding) -> None:
    state = click.style(f"{finding.state:<4}", fg=COLOURS[finding.state])
    fix = f"      fix: {finding.fix}" if finding.fix else ""
    say(f" {state}  {finding.name:<14} {finding.what}{fix}")
