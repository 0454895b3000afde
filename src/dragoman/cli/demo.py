"""`dragoman demo`."""

import sys
import tempfile
from pathlib import Path

import click

from dragoman.cli.options import global_options


@click.command("demo", short_help="Send each system's documented examples through its own API.")
@global_options
def command() -> int:
    """Start a server on the offline model and send each system's own documented examples through its own API.

    It keeps to a temporary home. On a terminal it goes on serving until Ctrl-C. Exit code 1 if a step fails.
    """
    from dragoman.server.demo import run_demo  # noqa: PLC0415 keeps --help fast

    with tempfile.TemporaryDirectory(prefix="dragoman-demo-") as folder:
        return run_demo(Path(folder) / "home", sys.stdout)
