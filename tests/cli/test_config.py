"""`dragoman config`."""

import json
from pathlib import Path

import pytest

from dragoman.cli.main import main

MODEL = '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\nkey = "${MODEL_KEY}"\n'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DRAGOMAN_HOME", "DRAGOMAN_CONFIG", "MODEL_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_file_the_check_says_so(capsys: pytest.CaptureFixture[str]):
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "ok  no file, all defaults  models: offline  agents: assistant\n"


def test_a_good_file_is_named(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (place / "dragoman.toml").write_text(MODEL)
    monkeypatch.setenv("MODEL_KEY", "sk-1")

    assert main(["config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "file": str(place / "dragoman.toml"),
        "models": ["main"],
        "agents": ["assistant"],
        "workflows": [],
        "warnings": [],
    }


def test_workflows_are_named(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "dragoman.toml").write_text('[workflows.shop.agents.desk]\ninstructions = "Greet."\n')

    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out.endswith("  agents: assistant  workflows: shop\n")


def test_everything_wrong_is_named_and_the_code_is_78(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "c.toml").write_text(MODEL + "[limits]\nbody = 1\n")

    assert main(["--config", "c.toml", "config", "check"]) == 78
    assert capsys.readouterr().err == (
        "dragoman: c.toml has 2 faults:\n"
        "  models.main.key: the environment variable MODEL_KEY is not set\n"
        '  limits.body: is not a key of [limits]; did you mean "body_mb"?\n'
    )


def test_a_warning_is_shown(place: Path, capsys: pytest.CaptureFixture[str]):
    file = place / "dragoman.toml"
    file.write_text(MODEL.replace("${MODEL_KEY}", "sk-1"))
    file.chmod(0o640)

    assert main(["config", "check"]) == 0
    assert capsys.readouterr().err == (
        f"! {file} holds secrets in clear (models.main.key) and its group can read it: chmod 600 {file}\n"
    )


def test_show_needs_no_secret_and_shows_none(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "dragoman.toml").write_text(MODEL)

    assert main(["config", "show", "--json"]) == 0
    items = {item["key"]: item for item in json.loads(capsys.readouterr().out)}
    assert items["models.main.key"] == {
        "key": "models.main.key",
        "value": '"***"',
        "origin": str(place / "dragoman.toml"),
    }


def test_show_names_where_each_value_is_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DRAGOMAN_LIMITS_BODY_MB", "3")

    assert main(["config", "show"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "limits.body_mb = 3.0 # $DRAGOMAN_LIMITS_BODY_MB" in lines
    assert 'server.listen = "127.0.0.1:8080" # default' in lines
