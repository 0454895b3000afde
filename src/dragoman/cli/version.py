"""`dragoman version`."""

import platform
import sqlite3

import click

from dragoman import __version__
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import say, say_json
from dragoman.server.config_checks import installed_dialects


@click.command("version", short_help="Print the version.")
@json_option
@global_options
def command(as_json: bool) -> None:
    """Print the version, and what it runs on."""
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "dialects": list(installed_dialects()),
    }
    if as_json:
        say_json(facts)
        return
    dialects = " ".join(installed_dialects())
    say(f"dragoman {__version__}  python {facts['python']}  sqlite {facts['sqlite']}  dialects: {dialects}")
