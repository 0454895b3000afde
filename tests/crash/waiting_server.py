"""A server with the harness's wire beside the installed ones."""

from pathlib import Path

from dragoman.dialects import installed
from dragoman.server.assemble import Parts
from dragoman.server.config import load
from dragoman.server.serve import serve
from tests.crash.serve import die_with_parent
from tests.crash.waits import WAITS


def main(home: Path) -> int:
    die_with_parent()
    config = load(home, file=home / "dragoman.toml").config
    return serve(config, home, listen="127.0.0.1:0", parts=Parts(dialects=(*installed(), WAITS)))
