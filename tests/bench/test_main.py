import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.rounds import cases
from bench.targets import Target


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return command.main()


def test_a_group_that_does_not_exist_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, "--only", "blocking,sizes")
    assert refused.value.code == 2
    assert (
        "--only knows blocking, streamed, burst, pace, turns, workflows, start, help, size, not sizes"
        in capsys.readouterr().err
    )


def test_one_group_by_itself_prints_and_writes_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written = tmp_path / "found.json"
    assert run(monkeypatch, "--only", "size", "--json", str(written), "--scratch", str(tmp_path / "scratch")) == 0
    assert "core install, on disk" in capsys.readouterr().out
    assert [figure["key"] for figure in json.loads(written.read_bytes())["figures"]] == ["size", "distributions"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_upstream_that_is_not_there_ends_the_run_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--only", "size", "--upstream", "http://127.0.0.1:1", "--scratch", str(tmp_path)) == 1
    assert capsys.readouterr().err.startswith("bench: No process of ours listens at http://127.0.0.1:1;")


def test_the_server_with_tools_is_only_asked_what_tools_can_change() -> None:
    targets = {name: Target(name, "http://127.0.0.1:1", 1) for name in ("dragoman", "dragoman+tools")}
    asked = {name: [case.key for case in cases(pace_s=1) if command._wanted(targets[name], case)] for name in targets}
    assert asked["dragoman"] == [case.key for case in cases(pace_s=1)]
    assert asked["dragoman+tools"] == ["blocking-1", "blocking-32", "streamed-1", "streamed-32"]
