import json
from pathlib import Path

import pytest

from bench.rounds import WORDS, Generator, Meter
from bench.targets import Failed, start_upstream
from bench.workflows import ASKS, HISTORY, STEPS, _imported, body_of, documents, workflows
from dragoman.core.workflow_checks import check
from dragoman.dialects.rowboat.decode import asked_in
from dragoman.dialects.rowboat.workflow_json import compile_with_notes


@pytest.mark.parametrize("name", list(documents()))
def test_nothing_is_wrong_with_the_workflows(name: str) -> None:
    made = compile_with_notes(json.dumps(documents()[name]).encode())
    assert made.notes == ()
    assert check(made.workflow) == ()


def test_every_way_of_asking_is_understood_as_meant() -> None:
    asked = {ask.key: asked_in(json.loads(body_of(ask, "a" * 24))) for ask in ASKS}
    assert {key: each.generation.value for key, each in asked.items()} == {
        **dict.fromkeys(asked, "g1"),
        "kept": "g2",
    }
    assert {key: len(each.messages) for key, each in asked.items()} == {
        **dict.fromkeys(asked, 1),
        "history": HISTORY + 1,
    }
    assert {each.workflow for each in asked.values()} == {"a" * 24}
    assert all(f"WORDS{WORDS}" in each.messages[-1].content for each in asked.values())


def test_each_way_is_measured_on_a_server_and_every_step_speaks(tmp_path: Path) -> None:
    said: list[str] = []
    upstream, load = start_upstream(tmp_path), Generator()
    try:
        meter = Meter(load, upstream.pid)
        found = workflows(upstream.url, tmp_path, meter, rounds=1, seconds=0.05, say=said.append)
    finally:
        load.close()
        upstream.stop()
    assert [figure.key for figure in found] == ["workflow-chat", *(f"workflow-{ask.key}" for ask in ASKS)]
    assert all(len(figure.values) == 1 and figure.median > 0 for figure in found)
    assert len(said) == 1
    # A wrong answer would have ended the run: those of the pipeline held the words of each step.
    assert next(ask.said for ask in ASKS if ask.key == "pipeline") == STEPS + 1


def test_a_workflow_that_cannot_be_imported_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "dragoman.toml").touch()
    with pytest.raises(Failed, match="The workflow empty was not imported: "):
        _imported(tmp_path, "empty", {"agents": []})
