"""The entry point: the table of verbs, what it costs, and that every failure is one sentence and a code."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dragoman.cli.main import VERBS, main, module_of


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_of_verbs_says_what_each_verb_says_of_itself(verb: str):
    command = importlib.import_module(module_of(verb)).command

    assert isinstance(command, click.Command)
    assert (command.name, command.short_help) == (verb, VERBS[verb])


def test_every_module_that_offers_a_command_is_in_the_table():
    folder = Path(importlib.import_module("dragoman.cli").__path__[0])
    offering = {path.stem for path in folder.glob("*.py") if "def command(" in path.read_text()}

    assert offering == {module_of(verb).rpartition(".")[2] for verb in VERBS}


def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        return [leaf for name, sub in command.commands.items() for leaf in leaves(sub, f"{path} {name}")]
    return [(path, command)]


LEAVES = [leaf for verb in VERBS for leaf in leaves(importlib.import_module(module_of(verb)).command, verb)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_takes_the_global_options_and_has_a_word_of_help_for_each_option(
    path: str, command: click.Command
):
    options = {name: param for param in command.params for name in param.opts}

    assert {"--home", "--config", "-v", "-q"} <= set(options)
    assert command.help
    assert [name for name, param in options.items() if isinstance(param, click.Option) and not param.help] == []


@pytest.mark.parametrize(
    "path",
    [path for path, _ in LEAVES if path not in ("serve", "chat", "demo")],
)
def test_every_command_that_lists_or_creates_speaks_json(path: str):
    assert "--json" in {name for param in dict(LEAVES)[path].params for name in param.opts}


def test_help_lists_every_verb_and_imports_none(tmp_path: Path):
    script = (
        "import sys; from dragoman.cli.main import main; main(['--help']);"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('dragoman', 'msgspec', 'aiohttp', 'starlette', 'uvicorn', 'asyncio')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, cwd=tmp_path)

    assert done.stderr.split() == ["dragoman", "dragoman.cli", "dragoman.cli.main", "dragoman.cli.options"]
    assert [verb for verb in VERBS if f"\n  {verb} " not in done.stdout] == []


def test_help_costs_at_most_a_fifth_of_a_second_of_cpu(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "--help"], stdout=subprocess.DEVNULL, cwd=tmp_path, env=dict(os.environ)
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)

    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime <= 0.2


def test_a_verb_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert main(["versio"]) == 2
    assert "No such command 'versio'" in capsys.readouterr().err


def test_an_option_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert main(["version", "--jsn"]) == 2
    assert "--json" in capsys.readouterr().err


def test_help_and_version_are_no_failures(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert main(["config", "--help"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith("dragoman 0.1.0\n")


def test_no_verb_at_all_prints_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


def test_an_error_of_ours_is_one_sentence_and_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["config", "check", "--config", str(tmp_path / "no.toml")]) == 78
    assert capsys.readouterr().err == f"dragoman: There is no config file {tmp_path / 'no.toml'}.\n"


def test_a_fault_of_ours_shows_its_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(**kwargs: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("dragoman.cli.config.load_settings", broken)

    assert main(["config", "check"]) == 1
    assert capsys.readouterr().err == (
        "dragoman: something went wrong inside dragoman (ZeroDivisionError: boom). Run it again with -v to see where.\n"
    )
    assert main(["config", "check", "-v"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "dragoman: something went wrong inside dragoman (ZeroDivisionError: boom)."


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, click.Abort])
def test_an_interruption_is_130(
    interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(**kwargs: object) -> None:
        raise interruption

    monkeypatch.setattr("dragoman.cli.config.load_settings", interrupted)

    assert main(["config", "check"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path):
    """As `dragoman config show | head -1`: the pipe is closed before anything is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "dragoman", "config", "show"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=20,
        cwd=tmp_path,
    )
    os.close(write_end)

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_shell_can_complete_verbs(tmp_path: Path):
    asked = {"_DRAGOMAN_COMPLETE": "bash_complete", "COMP_WORDS": "dragoman co", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dragoman"],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=tmp_path,
        env={**os.environ, **asked},
    )

    assert done.stdout.split() == ["plain,conversations", "plain,connectors", "plain,config"]
