"""Options that every command takes, before the verb or after it, and what they mean."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

HOME_DEFAULT = Path(".dragoman")
_KEY = "dragoman.settings"


@dataclass
class Settings:
    """What was said so far; a later option overrides an earlier one."""

    home: Path = HOME_DEFAULT
    config: Path | None = None
    verbosity: int = 0
    """-1 = quiet: results alone; 1 = more, with tracebacks."""


def settings() -> Settings:
    """Those of the command being run."""
    meta = click.get_current_context().meta
    if _KEY not in meta:
        meta[_KEY] = Settings(
            home=Path(os.environ.get("DRAGOMAN_HOME") or HOME_DEFAULT),
            config=Path(os.environ["DRAGOMAN_CONFIG"]) if os.environ.get("DRAGOMAN_CONFIG") else None,
        )
    found: Settings = meta[_KEY]
    return found


def _set_home(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        settings().home = value


def _set_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        settings().config = value


def _set_verbose(ctx: click.Context, param: click.Parameter, value: int) -> None:
    if value:
        settings().verbosity = value


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        settings().verbosity = -1


def global_options(command: F) -> F:
    """Decorator: the options that go with every command."""
    for option in (
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Print results alone."
        ),
        click.option(
            "-v", "--verbose", count=True, expose_value=False, callback=_set_verbose, help="Say more; show tracebacks."
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_set_config,
            help="Config file; else DRAGOMAN_CONFIG, ./dragoman.toml, HOME/dragoman.toml.",
        ),
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            metavar="DIR",
            expose_value=False,
            callback=_set_home,
            help="Where everything is kept; else DRAGOMAN_HOME, ./.dragoman.",
        ),
    ):
        command = option(command)
    return command


def json_option(command: F) -> F:
    """Decorator: `--json`, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def project_option(command: F) -> F:
    """Decorator: `--project`, passed as `project`; "" = the configured default."""
    return click.option("--project", default="", metavar="ID", help="The project; else the configured default.")(
        command
    )
