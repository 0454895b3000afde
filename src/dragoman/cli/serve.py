"""`dragoman serve`."""

import logging
import sys

import click

from dragoman.cli.opening import load_settings, refuse_if_in_use
from dragoman.cli.options import global_options, settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.command("serve", short_help="Run the server.")
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; else as configured. Port 0 takes a free one.")
@global_options
def command(listen: str | None) -> int:
    """Run the server until it is told to stop (Ctrl-C or SIGTERM), then drain and exit.

    Without any credential in the store it listens on this machine only, and writes a first admin credential to
    HOME/admin-credential.
    """
    from dragoman.server.serve import serve  # noqa: PLC0415 keeps --help fast

    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(settings().verbosity, logging.DEBUG)
    logging.basicConfig(stream=sys.stderr, level=level, format=LOG_FORMAT)
    loaded = load_settings()
    refuse_if_in_use(loaded.config)
    return serve(loaded.config, settings().home, listen=listen)
