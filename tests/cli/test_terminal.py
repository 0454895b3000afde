"""How the command line prints."""

import io
import json

import click
import pytest
from click.testing import CliRunner

from dragoman.cli import terminal
from dragoman.cli.options import Settings
from dragoman.cli.terminal import (
    colours,
    columns,
    exact,
    note,
    printable,
    progress,
    say,
    say_json,
    say_table,
    shorten,
    warn,
)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    chosen = Settings()
    monkeypatch.setattr(terminal, "settings", lambda: chosen)
    return chosen


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch):
    assert colours(Screen())
    assert not colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(Screen())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colours(Screen())


def test_results_go_to_stdout_and_notes_to_stderr_unless_quiet(plain: Settings, capsys: pytest.CaptureFixture[str]):
    say(click.style("result", fg="red"))
    note("note")
    warn("warning")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("result\n", "note\n! warning\n")

    plain.verbosity = -1
    note("note")
    warn("warning")
    assert capsys.readouterr().err == "! warning\n"


def test_a_table_for_a_program_has_no_titles(capsys: pytest.CaptureFixture[str]):
    say_table(("A", "LONG TITLE"), [("x", "1"), ("yyyy", "")])
    assert capsys.readouterr().out == "x     1\nyyyy\n"


def test_a_table_for_a_person_has_titles(monkeypatch: pytest.MonkeyPatch):
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    say_table(("A", "TITLE"), [("x", "1")])
    assert screen.getvalue() == "A  TITLE\nx  1\n"


def test_columns_stand_below_each_other_whatever_the_letters(capsys: pytest.CaptureFixture[str]):
    say_table(("A", "B"), [("店舗", "x"), ("cafe\u0301", "y"), ("abcdef", "z")])
    assert capsys.readouterr().out == "店舗    x\ncafe\u0301    y\nabcdef  z\n"
    assert [columns(text) for text in ("", "abc", "店", "e\u0301", "é", "🚀")] == [0, 3, 2, 1, 1, 2]


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]):
    say_table(("A",), [])
    assert capsys.readouterr().out == ""


def test_json_is_readable_and_keeps_its_order(capsys: pytest.CaptureFixture[str]):
    say_json({"b": "ü", "a": [1]})
    text = capsys.readouterr().out
    assert text == '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n}\n'
    assert json.loads(text) == {"b": "ü", "a": [1]}


def test_what_others_wrote_does_not_steer_the_terminal():
    assert shorten("a\x1b[31m\nb\tc") == "a [31m b c"
    assert shorten("x" * 61) == "x" * 59 + "…"
    assert shorten("abc", chars_max=3) == "abc"
    assert printable("a\x1b[2Jb\nc\td\u202e") == "a\ufffd[2Jb\nc\td\ufffd"
    assert printable("plain ü") == "plain ü"


def test_progress_shows_itself_on_a_terminal_after_a_second(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    screen = Screen()
    monkeypatch.setattr(terminal, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", screen)
    with progress("imported", total=4) as bar:
        bar.step()
        assert screen.getvalue() == ""
        now[0] = 2.0
        bar.step()
        assert screen.getvalue() == "\rimported 2/4, 2 s left  "
    assert screen.getvalue() == "\rimported 2/4, 2 s left  \r\x1b[2K"


def test_progress_may_go_many_steps_at_once(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    screen = Screen()
    monkeypatch.setattr(terminal, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", screen)
    with progress("rows", total=4000) as bar:
        now[0] = 3.0
        bar.step(3000)
    assert screen.getvalue().startswith("\rrows 3000/4000, 1 s left  ")


def test_progress_is_silent_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    now = [0.0]
    monkeypatch.setattr(terminal, "monotonic", lambda: now[0])
    with progress("imported", total=1) as bar:
        now[0] = 5.0
        bar.step()
    assert capsys.readouterr().err == ""


def test_output_inside_a_command_is_captured_by_click():
    @click.command()
    def command() -> None:
        say("x")

    assert CliRunner().invoke(command).output == "x\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r'{"b":"Gr\u00fc\u00dfe","a":"\u65e5"}', '{"a": "日", "b": "Grüße"}'),
        (r'"\u202eevil\u001b[2J\n\u200b\u00a0"', r'"\u202eevil\u001b[2J\n\u200b\u00a0"'),
        (r'"a\u3164\ufe0f\udb40\udd00\ud83d\ude00\\u202e"', r'"a\u3164\ufe0f\udb40\udd00😀\\u202e"'),
        (r'"\ud800"', r'"\ud800"'),
    ],
)
def test_what_a_person_decides_about_hides_nothing(text: str, shown: str):
    assert exact(text) == shown
    assert json.loads(shown) == json.loads(text)
