"""Dialects are found by their folders; nothing lists them."""

from pathlib import Path

from dragoman import dialects
from dragoman.dialects import installed


def test_every_folder_is_an_installed_dialect_of_its_own_name_in_order() -> None:
    folders = sorted(path.parent.name for path in Path(dialects.__file__).parent.glob("*/__init__.py"))
    assert [dialect.name for dialect in installed()] == folders
