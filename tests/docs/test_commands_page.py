"""The page of commands: every command there is, with its arguments and options, and no other; the exit codes."""

import re
from collections.abc import Iterator

import click

from dragoman.cli import failing
from dragoman.cli.main import cli
from tests.checkout import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text()
ROW = re.compile(r"^\| `([a-z].*?)` \| (.*?) \| (.+) \|$", re.MULTILINE)
EVERYWHERE = {"--home", "--config", "--verbose", "--quiet", "--help", "--json", "--project"}


def there(command: click.Command, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Each command with its arguments, and its options."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from there(below, click.Context(below, info_name=name, parent=context), (*path, name))
        return
    arguments = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
    options = [max(each.opts, key=len) for each in command.params if isinstance(each, click.Option)]
    yield " ".join((*path, *arguments)), " ".join(f"`{each}`" for each in options if each not in EVERYWHERE)


def test_the_page_has_every_command_with_its_options_and_no_other() -> None:
    told = {command.replace("\\|", "|"): options for command, options, _ in ROW.findall(PAGE)}
    assert told == dict(there(cli, click.Context(cli, info_name="dragoman")))


def test_the_exit_codes_are_those() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    known = {value for name, value in vars(failing).items() if name.isupper() and isinstance(value, int)}
    assert told == {0, *known}
