"""`dragoman config`: check, show."""

import click

from dragoman.cli.opening import load_settings
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import dim, say, say_json
from dragoman.server.config_show import show as shown


@click.group("config", short_help="Configuration: check it, and show where each value is from.")
def command() -> None:
    """Configuration: one TOML file, overridden by DRAGOMAN_… variables of the environment."""


@command.command("check")
@json_option
@global_options
def check(as_json: bool) -> None:
    """Read the configuration and name everything that is wrong with it; exit code 78 if anything is."""
    loaded = load_settings()
    file = str(loaded.file) if loaded.file else None
    config = loaded.config
    named = {"models": list(config.models), "agents": list(config.agents), "workflows": list(config.workflows)}
    if as_json:
        say_json({"ok": True, "file": file, **named, "warnings": list(loaded.warnings)})
        return
    told = [f"{what}: {' '.join(names)}" for what, names in named.items() if names]
    say("  ".join(("ok", file or "no file, all defaults", *told)))


@command.command("show")
@json_option
@global_options
def show(as_json: bool) -> None:
    """Print every key with its value and where that is from. Secrets are masked."""
    items = shown(load_settings(resolve_secrets=False))
    if as_json:
        say_json([{"key": item.key, "value": item.value, "origin": item.origin} for item in items])
        return
    width = max(len(item.key) + len(item.value) for item in items if len(item.value) < 60) + 3
    for item in items:
        line = f"{item.key} = {item.value}"
        say(f"{line.ljust(width)}  {dim('# ' + item.origin)}")
