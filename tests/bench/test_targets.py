import json
from pathlib import Path

import pytest

from bench.targets import Failed, Process, Target, running_grip

RELAY = Target("relay", "http://127.0.0.1:1", 1, grip=False, repeats_text=False)
DRAGOMAN = Target("dragoman", "http://127.0.0.1:1", 1, credential="secret")
GRIP = Target("grip", "http://127.0.0.1:1", 1, credential="secret", repeats_text=False)


def test_the_relay_is_asked_as_the_llm_would_be() -> None:
    job = RELAY.job(50, series=3, callers=32, streamed=True, seconds=1.0)
    assert (job.path, job.headers, job.words, job.delta) == ("/v1/chat/completions", {}, 50, "word")
    assert json.loads(job.body) == {
        "model": "fake",
        "messages": [{"role": "user", "content": "Question @id@ of series 3: say WORDS50."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream" not in json.loads(RELAY.job(50, series=3, callers=1, streamed=False).body)


def test_every_chat_has_a_session_of_its_own() -> None:
    job = DRAGOMAN.job(50, series=3, callers=32, streamed=False, seconds=1.0)
    assert (job.path, job.headers) == ("/api/v1/chat", {"authorization": "Bearer secret"})
    assert json.loads(job.body) == {"message": "Question @id@ of series 3: say WORDS50.", "session_key": "b-3-@id@"}


def test_a_stream_that_ends_with_the_whole_text_must_hold_each_word_twice() -> None:
    words = [target.job(50, series=1, callers=1, streamed=True).words for target in (DRAGOMAN, GRIP, RELAY)]
    assert words == [100, 50, 50]
    assert DRAGOMAN.job(50, series=1, callers=1, streamed=False).words == 50


def test_a_process_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"did not start; it said:\nno such port"):
        Process(["-c", "import sys; sys.exit('no such port')"], tmp_path / "log")


def test_a_process_says_where_it_listens_and_is_stopped(tmp_path: Path) -> None:
    program = "import sys, signal; print('listening on http://here:1', file=sys.stderr, flush=True); signal.pause()"
    process = Process(["-c", program], tmp_path / "log")
    assert process.url == "http://here:1"
    assert process.listening_s > 0
    process.stop()
    assert process.process.returncode == -15


def test_a_grip_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(Failed, match="its CPU time cannot be seen"):
        running_grip("http://127.0.0.1:1", "token")
