import sys
from pathlib import Path

import pytest

from bench import readers, scripted
from bench.figures import Figure

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory and connections are read from /proc")


@linux
@pytest.mark.parametrize(("name", "chats"), [("idle", False), ("listeners", True)])
async def test_idle_readers_are_watched_and_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chats: bool
) -> None:
    monkeypatch.setattr(readers, "SILENCE_S", 0.5)  # how long is waited, not how long the server is silent
    monkeypatch.setattr(readers, "OTHERS_S", 0.2)
    said: list[str] = []
    found = await readers.idle(tmp_path, 30, watch_s=0.2, say=said.append, chats=chats)
    assert [figure.key for figure in found] == [f"{name}-{what}" for what in ("rss", "cpu", "others", "closed")]
    assert all(figure.budget for figure in found) and found[2].median > 0
    assert said[0].startswith(f"30 {name} of 1 runs, opened in ")


@linux
async def test_a_stop_is_refused_if_a_line_of_the_log_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RUNS", 3), ("READERS", 6), ("LONG_TOOLS", 1)):
        monkeypatch.setattr(readers, name, value)
    (exit_s,) = await readers.drain(tmp_path / "good", drain_s=0.1, say=lambda line: None)
    assert 0.1 < exit_s.median < exit_s.budget
    monkeypatch.setattr(scripted.Server, "faults", lambda self: ["Traceback (most recent call last):"])
    with pytest.raises(readers.Failed, match=r"its log has faults:\nTraceback"):
        await readers.drain(tmp_path / "bad", drain_s=0.1, say=lambda line: None)


def test_a_scene_that_does_not_exist_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        readers.main(["--only", "idle,busy"])
    assert refused.value.code == 2
    assert "--only knows idle, listeners, deaf, drain, not busy" in capsys.readouterr().err


def test_more_readers_than_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert readers.main(["--n", "100000000", "--scratch", str(tmp_path)]) == 1
    assert "100000000 readers need 100000256 open files" in capsys.readouterr().err


def test_what_has_no_budget_is_not_over_it() -> None:
    over = [readers._is_over(Figure("a", "A", "s", (2.0,), budget)) for budget in (0.0, 1.0, 3.0)]
    assert over == [False, True, False]
