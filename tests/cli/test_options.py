"""Options that every command takes: before the verb, after it, or from the environment."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dragoman.cli.options import Settings, global_options, json_option, project_option, settings

seen: list[object] = []


@click.group()
@global_options
def outer() -> None: ...


@outer.command()
@json_option
@project_option
@global_options
def inner(as_json: bool, project: str) -> None:
    seen.append((settings(), as_json, project))


def run(*args: str, env: dict[str, str] | None = None) -> object:
    seen.clear()
    clean = {"DRAGOMAN_HOME": None, "DRAGOMAN_CONFIG": None}
    result = CliRunner().invoke(outer, args, env={**clean, **(env or {})})
    assert result.exit_code == 0, result.output
    return seen[0]


def test_without_any_option_everything_has_its_default():
    assert run("inner") == (Settings(Path(".dragoman"), None, 0), False, "")


@pytest.mark.parametrize(
    "args", [("--home", "h", "--config", "c", "-v", "inner"), ("inner", "--home", "h", "--config", "c", "-v")]
)
def test_an_option_means_the_same_before_and_after_the_verb(args: tuple[str, ...]):
    assert run(*args) == (Settings(Path("h"), Path("c"), 1), False, "")


def test_the_later_one_wins():
    assert run("--home", "a", "-v", "inner", "--home", "b", "-q") == (Settings(Path("b"), None, -1), False, "")


def test_the_environment_is_asked_where_nothing_is_said():
    env = {"DRAGOMAN_HOME": "eh", "DRAGOMAN_CONFIG": "ec"}

    assert run("inner", env=env) == (Settings(Path("eh"), Path("ec"), 0), False, "")
    assert run("inner", "--home", "h", env=env) == (Settings(Path("h"), Path("ec"), 0), False, "")


def test_an_empty_variable_counts_as_none():
    assert run("inner", env={"DRAGOMAN_HOME": "", "DRAGOMAN_CONFIG": ""}) == (
        Settings(Path(".dragoman"), None, 0),
        False,
        "",
    )


def test_json_and_project_are_passed_on():
    assert run("inner", "--json", "--project", "p") == (Settings(), True, "p")
