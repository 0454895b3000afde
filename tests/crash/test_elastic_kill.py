"""A real `kill -9` of a real server in the middle of an Elastic turn, then a restart: the run ends, the document is
whole, nothing of it is there twice, and whoever asks again under its key hears the same stream to its end.

`CRASH_TIER=N` kills at every point and not only at those of each step of the loop.
"""

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.forked import ForkedServer

pytestmark = pytest.mark.timeout(60)

CONFIG = """
[server]
drain = "{drain_s}s"
[store]
url = "{store}"
lease = "2s"
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""

SCRIPT = """
[[reply]]
choice = "title_conversation"
delay_s = {title_s}
calls = [{{ name = "title_conversation", arguments = {{ title = "Clocks" }} }}]
[[reply]]
choice = "exit_loop"
calls = [{{ name = "exit_loop", arguments = {{ response = "I stop here." }} }}]
[[reply]]
match = "go round"
calls = [{{ name = "list_files", arguments = {{}} }}]
[[reply]]
match = '"files"|response|error'
delay_s = 0.01
text = ["It ", "is ", "done ", "now."]
[[reply]]
match = '"learnings"'
delay_s = 0.01
text = ["Let me ", "see."]
calls = [
  {{ name = "edit_file", arguments = {{ path = "clock.txt", old = "tick", new = "ticktock" }} }},
  {{ name = "list_files", arguments = {{}} }},
]
"""
ROUND = """
[[reply]]
choice = "title_conversation"
calls = [{ name = "title_conversation", arguments = { title = "Clocks" } }]
[[reply]]
choice = "exit_loop"
delay_s = 0.01
calls = [{ name = "exit_loop", arguments = { response = "I stop here." } }]
[[reply]]
match = '.'
calls = [{ name = "list_files", arguments = {} }]
"""

CHAT = "/api/observability_ai_assistant/chat/complete"
LINES = "/internal/observability_ai_assistant/chat/complete"
INTERNAL = "/internal/observability_ai_assistant"
TITLE = "Clocks"
KEY = "the-key"
ENDS_S = 20.0
POLL_S = 0.01


def home_of(tmp_path: Path, script: str) -> Path:
    (tmp_path / "workspace").mkdir(parents=True)
    (tmp_path / "workspace" / "clock.txt").write_text("tick\n")
    (tmp_path / "script.toml").write_text(script)
    return tmp_path


def server_of(home: Path, fuses: str = "", *, drain_s: float = 5, store: str = "sqlite:dragoman.db") -> ForkedServer:
    return ForkedServer(home, CONFIG.format(drain_s=drain_s, store=store), fuses=fuses)


def said(content: str, **fields: Any) -> dict[str, Any]:
    return {"@timestamp": "2026-11-21T00:00:00.000Z", "message": {"role": "user", "content": content, **fields}}


class Kibana:
    def __init__(self, server: ForkedServer) -> None:
        self._url = server.url
        self._headers = {**server.headers, "kbn-xsrf": "true"}
        self.headers: httpx.Headers = httpx.Headers()
        """Of the last answer, if one began."""
        self.status = 0

    def ask(self, text: str = "fix the clock", *, path: str = CHAT, key: str = KEY, **fields: Any) -> bytes:
        """What was heard until the stream ended or broke."""
        body = {"connectorId": "main", "messages": [said(text)], "persist": True, **fields}
        if path == LINES:
            body |= {"screenContexts": [], "scopes": ["all"]}
        heard = b""
        self.headers, self.status = httpx.Headers(), 0
        try:
            headers = self._headers | ({"Idempotency-Key": key} if key else {})
            with httpx.stream("POST", self._url + path, json=body, headers=headers, timeout=ENDS_S) as answer:
                self.headers, self.status = answer.headers, answer.status_code
                for chunk in answer.iter_raw():
                    heard += chunk
        except httpx.TransportError:
            pass
        return heard

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url + path, headers=self._headers, timeout=ENDS_S)

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self._url + path, headers=self._headers, json=body, timeout=ENDS_S)

    def put(self, path: str, body: Any) -> httpx.Response:
        return httpx.put(self._url + path, headers=self._headers, json=body, timeout=ENDS_S)

    def delete(self, path: str) -> httpx.Response:
        return httpx.delete(self._url + path, headers=self._headers, timeout=ENDS_S)

    def conversations(self) -> list[dict[str, Any]]:
        answer = self.post(f"{INTERNAL}/conversations", {})
        return answer.raise_for_status().json()["conversations"]

    def settled(self) -> None:
        """Until no run is live."""
        deadline = time.monotonic() + ENDS_S
        while self.get("/api/server").json()["live_runs"]:
            assert time.monotonic() < deadline, "a run does not end"
            time.sleep(POLL_S)

    def events(self, run: str) -> list[dict[str, Any]]:
        answer = self.get(f"/waits/runs/{run}").raise_for_status()
        return [entry["event"] for entry in answer.json()]


def check_document(document: dict[str, Any], *, answer: str) -> None:
    """Everything stands there once; each call is followed by its result."""
    messages = [told["message"] for told in document["messages"]]
    assert document["conversation"]["title"] == TITLE
    assert messages[0] == {"role": "user", "content": "fix the clock"}
    assert messages[-1]["role"] == "assistant" and messages[-1]["content"] == answer
    called = [
        message["function_call"]["name"] for message in messages if message.get("function_call", {}).get("name", "")
    ]
    results = [message["name"] for message in messages if message.get("name")]
    assert called == results, messages
    assert called.count("context") == 1
    for message in messages:
        if message.get("name"):
            assert isinstance(json.loads(message["content"]), dict), message


def check_tape(events: list[dict[str, Any]]) -> None:
    kinds = [event["kind"] for event in events]
    assert kinds.count("title_given") == 1 and kinds.count("call_added") == 1
    assert kinds[-1] == "run_completed" and kinds.count("run_completed") == 1
    asked = [event["call"]["id"] for event in events if event["kind"] == "call_added"]
    asked += [call["id"] for event in events if event["kind"] == "reply_finished" for call in event.get("calls", ())]
    returned = [event["call_id"] for event in events if event["kind"] == "tool_returned"]
    assert sorted(asked) == sorted(returned), "a call without a result, or with two"


def pieces(stream: bytes) -> list[bytes]:
    """Whole frames."""
    return stream.split(b"\n\n")[:-1]


def in_one_piece(stream: bytes) -> str:
    found = re.findall(rb'"delta":\{"content":("(?:[^"\\]|\\.)*")', stream)
    return "".join(json.loads(text) for text in found)


STEPS = {
    "accepted": "accept.after_commit=kill@1",
    "acknowledged": "accept.after_2xx=kill@1",
    "context begun": "tool.intent_committed=kill@1",
    "context ran": "tool.effect_done=kill@1",
    "context returned": "tool.result_committed=kill@1",
    "first words": "append.after_commit=kill@8",
    "between intent and effect": "tool.intent_committed=kill@2",
    "between effect and result": "tool.effect_done=kill@2",
    "mid delta of the answer": "stream.frame=kill@6",
    "torn frame": "stream.frame=torn@2",
    "before the end is committed": "finish.before_commit=kill@1",
    "end committed": "finish.after_commit=kill@1",
}
EVERY = {
    f"{point} {nth}": f"*.{point}=kill@{nth}" for point in ("before_commit", "after_commit") for nth in range(1, 14)
}
QUICK = ("context ran", "first words", "between effect and result")
NIGHTLY = os.environ.get("CRASH_TIER") == "N"
POINTS = STEPS | EVERY if NIGHTLY else {name: STEPS[name] for name in QUICK}
FORCED = ["finish.before_commit=kill@1", "tool.result_committed=kill@8", "append.before_commit=kill@15"]


@pytest.mark.parametrize("fuse", POINTS.values(), ids=POINTS)
def test_a_killed_server_finishes_an_elastic_turn_after_its_restart(tmp_path: Path, fuse: str) -> None:
    home = home_of(tmp_path, SCRIPT.format(title_s=0.03))
    with server_of(home, fuse) as server:
        kibana = Kibana(server)
        heard = kibana.ask()
        named = kibana.headers.get("x-conversation-id", "")
        acknowledged = kibana.status == 200
        assert server.wait() == -9
    with server_of(home) as server:
        kibana = Kibana(server)
        kibana.settled()
        found = kibana.conversations()
        assert len(found) == 1 or (not found and not acknowledged)
        whole = kibana.ask()
        id = kibana.headers["x-conversation-id"]
        assert named in ("", id) and whole.endswith(b"data: [DONE]\n\n")
        if b'"error"' not in whole:  # what was shown of a dead attempt and is not said again ends a stream like that
            assert in_one_piece(whole) == "Let me see.It is done now."
        assert pieces(whole)[: len(pieces(heard))] == pieces(heard)
        assert [each["conversation"]["id"] for each in kibana.conversations()] == [id]
        document = kibana.get(f"{INTERNAL}/conversation/{id}").raise_for_status().json()
        check_document(document, answer="It is done now.")
        check_tape(kibana.events(kibana.headers["x-run-id"]))
        assert (home / "workspace" / "clock.txt").read_text() in ("tick\n", "ticktock\n")
        assert server.stop() == 0


@pytest.mark.parametrize("fuse", FORCED if NIGHTLY else FORCED[:1])
def test_a_forced_end_comes_once_over_a_kill(tmp_path: Path, fuse: str) -> None:
    home = home_of(tmp_path, ROUND)
    with server_of(home, fuse) as server:
        Kibana(server).ask()
        assert server.wait() == -9
    with server_of(home) as server:
        kibana = Kibana(server)
        whole = kibana.ask()
        assert in_one_piece(whole) == "I stop here." and whole.count(b'"exit_loop"') == 1
        events = kibana.events(kibana.headers["x-run-id"])
        check_tape(events)
        assert sum(event["kind"] == "tool_returned" for event in events) == 8
        (document,) = kibana.conversations()
        check_document(document, answer="I stop here.")


# -- without a kill, and with one that costs something ---------------------------------------------------------------


def sans_errors(server: ForkedServer) -> None:
    """What it said has no traceback and no task that was forgotten."""
    said = server.rest_of_log()
    assert b"Traceback" not in said and b"destroyed" not in said and b"never awaited" not in said, said.decode()


def test_one_key_is_one_turn_and_one_stream(tmp_path: Path) -> None:
    home = home_of(tmp_path, SCRIPT.format(title_s=0.0))
    with server_of(home) as server:
        kibana = Kibana(server)
        streams, ids = [], set[str]()
        for key in ("one", "one", '"one"'):
            streams.append(kibana.ask(key=key, title="Mine"))
            ids.add(kibana.headers["x-conversation-id"])
            ids.add(kibana.headers["x-run-id"])
        assert len(set(streams)) == 1 and len(ids) == 2 and streams[0].endswith(b"data: [DONE]\n\n")
        assert kibana.headers["idempotency-replayed"] == "true"
        lines = [kibana.ask(key="two", path=LINES) for _ in range(2)]
        assert lines[0] == lines[1] and b'"conversationCreate"' in lines[0]
        kibana.ask("another question", key="one")
        assert kibana.status == 422
        (id,) = (
            each["conversation"]["id"] for each in kibana.conversations() if each["conversation"]["title"] == "Mine"
        )
        renamed = kibana.get(f"{INTERNAL}/conversation/{id}").json()
        renamed["conversation"]["title"] = "Renamed"
        kept = ("conversation", "messages", "labels", "numeric_labels", "public", "@timestamp")
        sent = {"conversation": {name: renamed[name] for name in kept}}
        assert kibana.put(f"{INTERNAL}/conversation/{id}", sent).status_code == 200
        assert kibana.ask(key="one", title="Mine") == streams[0]
        assert sorted(each["conversation"]["title"] for each in kibana.conversations()) == [TITLE, "Renamed"]


def test_what_is_not_kept_is_gone_and_its_caller_is_told_by_a_broken_stream(tmp_path: Path) -> None:
    canary = "fix the clock of Saint Canary"
    home = home_of(tmp_path, SCRIPT.format(title_s=0.0))
    with server_of(home, "stream.frame=kill@2") as server:
        kibana = Kibana(server)
        heard = kibana.ask(canary, persist=False)
        assert kibana.status == 200 and "x-conversation-id" not in kibana.headers and b"[DONE]" not in heard
        run = kibana.headers["x-run-id"]
        assert server.wait() == -9
    assert not [path for path in home.glob("dragoman.db*") if canary.encode() in path.read_bytes()]
    with server_of(home) as server:
        kibana = Kibana(server)
        kibana.settled()
        assert kibana.conversations() == []
        assert kibana.get(f"/waits/runs/{run}").status_code == 404
        assert kibana.ask(canary, persist=False).endswith(b"data: [DONE]\n\n")  # the key is free: nothing was kept
        assert kibana.headers["x-run-id"] != run


def test_a_stop_in_order_hands_on_a_run_that_waits_for_its_title(tmp_path: Path) -> None:
    home = home_of(tmp_path, SCRIPT.format(title_s=30))
    with server_of(home, drain_s=0.5) as server:
        kibana = Kibana(server)
        heard: list[bytes] = []
        asking = threading.Thread(target=lambda: heard.append(kibana.ask()))
        asking.start()
        deadline = time.monotonic() + ENDS_S
        reading = Kibana(server)
        while not kibana.headers.get("x-run-id") and time.monotonic() < deadline:
            time.sleep(POLL_S)
        run = kibana.headers["x-run-id"]
        while sum(event["kind"] == "reply_finished" for event in reading.events(run)) < 2:
            assert time.monotonic() < deadline, "the answer waits for its title"
            time.sleep(POLL_S)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        asking.join(ENDS_S)
        assert heard[0].endswith(b"data: [DONE]\n\n") and b'"error"' in heard[0]
        sans_errors(server)
    (home / "script.toml").write_text(SCRIPT.format(title_s=0))
    with server_of(home) as server:
        kibana = Kibana(server)
        kibana.settled()
        (document,) = kibana.conversations()
        check_document(document, answer="It is done now.")
        check_tape(kibana.events(run))
        assert in_one_piece(kibana.ask()) == "Let me see.It is done now."
