"""`dragoman version`."""

import json
import platform
import sqlite3

import pytest

from dragoman import __version__
from dragoman.cli.main import main
from dragoman.dialects import installed


def test_it_names_the_version_and_what_it_runs_on(capsys: pytest.CaptureFixture[str]):
    names = [dialect.name for dialect in installed()]

    assert main(["version"]) == 0
    assert capsys.readouterr().out == (
        f"dragoman {__version__}  python {platform.python_version()}  sqlite {sqlite3.sqlite_version}"
        f"  dialects: {' '.join(names)}\n"
    )
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "dialects": names,
    }
