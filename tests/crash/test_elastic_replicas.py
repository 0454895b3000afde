"""Two real servers over one PostgreSQL, and an Elastic caller that talks to either: what it sets up at one counts with
the next turn at the other, and a run with a connector's model is carried on by the other when its server is killed.

`CRASH_TIER=N` runs those that take longer.
"""

import json
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.crash.forked import ForkedServer
from tests.crash.homes import POSTGRES, execute, why_no_postgres
from tests.crash.test_elastic_kill import (
    CONFIG,
    ENDS_S,
    INTERNAL,
    NIGHTLY,
    POLL_S,
    SCRIPT,
    Kibana,
    home_of,
    in_one_piece,
    said,
)

pytestmark = [pytest.mark.timeout(60), pytest.mark.service]
nightly = pytest.mark.skipif(not NIGHTLY, reason="takes 5 s; CRASH_TIER=N runs it")

GEN_AI = ".gen-ai"
CONNECTOR = "/api/actions/connector"
ROUNDS = 6
WORDS = 20


class Llm:
    """Says `words` with a gap between them, gives titles and scores when it must, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.words = ["Fine."]
        self.gap_s = 0.0
        self.url = ""

    def answer(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        choice = asked.get("tool_choice")
        if not isinstance(choice, dict):
            return [{"content": word} for word in self.words]
        forced = choice["function"]["name"]
        arguments = {"title": "Clocks", "scores": "0,7", "response": "Enough."}
        function = {"name": forced, "arguments": json.dumps(arguments)}
        return [{"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]}]


@contextmanager
def llm_server() -> Generator[Llm]:
    llm = Llm()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            llm.asked.append(asked)
            llm.keys.append(self.headers["authorization"])
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            deltas = llm.answer(asked)
            try:
                for delta in deltas:
                    self._say({"choices": [{"index": 0, "delta": delta}]})
                    time.sleep(llm.gap_s if len(deltas) > 1 else 0)
                self._say({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                pass  # the server that asked is dead

        def _say(self, chunk: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        llm.url = f"http://127.0.0.1:{server.server_port}/chat"
        try:
            yield llm
        finally:
            server.shutdown()
            thread.join(ENDS_S)


@pytest.fixture
async def store() -> AsyncIterator[str]:
    if why := await why_no_postgres():
        pytest.skip(why)
    name = f"elastic_{secrets.token_hex(6)}"
    await execute(POSTGRES, f'create database "{name}"')
    yield urlunsplit(urlsplit(POSTGRES)._replace(path=f"/{name}"))
    await execute(POSTGRES, f'drop database "{name}" with (force)')


@contextmanager
def two_servers(tmp_path: Path, store: str) -> Generator[tuple[ForkedServer, ForkedServer]]:
    """Their homes have the key of credentials in common; the key of secrets comes from the environment."""
    env = {"DRAGOMAN_SECRET_KEY": secrets.token_hex(32)}
    config = CONFIG.format(drain_s=1, store=store)
    home = home_of(tmp_path / "a", SCRIPT.format(title_s=0))
    with ForkedServer(home, config, env=env) as first:
        shutil.copytree(home, tmp_path / "b")
        (tmp_path / "b" / "secret-key").unlink(missing_ok=True)
        with ForkedServer(tmp_path / "b", config, env=env) as second:
            yield first, second


def connector(llm: Llm, key: str) -> dict[str, Any]:
    return {
        "name": "Ours",
        "config": {"apiProvider": "OpenAI", "apiUrl": llm.url, "defaultModel": "m"},
        "secrets": {"apiKey": key},
    }


def made(at: Kibana, llm: Llm, key: str) -> str:
    answer = at.post(CONNECTOR, {"connector_type_id": GEN_AI, **connector(llm, key)})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_what_is_set_up_at_one_server_counts_at_the_other(tmp_path: Path, store: str) -> None:
    with llm_server() as llm, two_servers(tmp_path, store) as (first, second):
        here, there = Kibana(first), Kibana(second)
        id = made(here, llm, "first-key")
        assert in_one_piece(there.ask(connectorId=id, key="")) == "Fine."
        assert set(llm.keys) == {"Bearer first-key"}
        llm.keys.clear()
        assert here.put(f"{CONNECTOR}/{id}", connector(llm, "second-key")).status_code == 200
        assert in_one_piece(there.ask(connectorId=id, key="")) == "Fine."
        assert set(llm.keys) == {"Bearer second-key"}
        entry = {"id": "e", "title": "The clock", "text": "The clock stands in the hall of Canary House."}
        assert here.post(f"{INTERNAL}/kb/entries/save", entry).status_code == 200
        llm.asked.clear()
        assert b'"error"' not in there.ask("fix the clock", connectorId=id, key="")
        last = next(asked for asked in reversed(llm.asked) if asked["messages"][-1]["role"] == "tool")
        assert "Canary House" in last["messages"][-1]["content"]
        assert here.delete(f"{CONNECTOR}/{id}").status_code == 204
        asked = len(llm.asked)
        there.ask(connectorId=id, key="")
        assert there.status == 404 and len(llm.asked) == asked


@nightly
def test_a_run_with_a_connector_is_carried_on_by_the_other_server(tmp_path: Path, store: str) -> None:
    with llm_server() as llm, two_servers(tmp_path, store) as (first, second):
        here, there = Kibana(first), Kibana(second)
        id = made(here, llm, "the-secret")
        llm.words, llm.gap_s = [f"w{number} " for number in range(WORDS)], 0.1
        heard: list[bytes] = []
        asking = threading.Thread(target=lambda: heard.append(here.ask(connectorId=id)))
        asking.start()
        deadline = time.monotonic() + ENDS_S
        while not (run := here.headers.get("x-run-id", "")) or not any(
            event["kind"] == "text_added" for event in there.events(run)
        ):
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
        first.kill()
        asking.join(ENDS_S)
        whole = there.ask(connectorId=id)  # the same key at the other server: the rest of the same turn
        assert whole.endswith(b"data: [DONE]\n\n") and b'"error"' not in whole
        assert in_one_piece(whole) == "".join(llm.words)
        assert whole.startswith(heard[0].rpartition(b"\n\n")[0])
        assert set(llm.keys) == {"Bearer the-secret"}
        kinds = [event["kind"] for event in there.events(run)]
        assert kinds.count("title_given") == kinds.count("run_completed") == 1 and kinds.count("run_claimed") == 2
        (document,) = there.conversations()
        assert document["messages"][-1]["message"]["content"] == "".join(llm.words)


@nightly
def test_a_document_is_put_at_one_server_while_a_turn_goes_on_at_the_other(tmp_path: Path, store: str) -> None:
    """Either the change is refused, or both are kept."""
    with llm_server() as llm, two_servers(tmp_path, store) as (first, second):
        here, there = Kibana(first), Kibana(second)
        id = made(here, llm, "k")
        llm.words, llm.gap_s = ["One ", "two ", "three."], 0.02
        here.ask(connectorId=id, key="")
        conversation = here.headers["x-conversation-id"]
        place = f"{INTERNAL}/conversation/{conversation}"
        statuses: set[int] = set()
        for number in range(ROUNDS):
            document = there.get(place).json()
            asked = [*document["messages"], said(f"question {number}")]
            turn = threading.Thread(
                target=lambda sent=asked: Kibana(first).ask(
                    connectorId=id, key="", conversationId=conversation, messages=sent
                )
            )
            turn.start()
            time.sleep(0.03 * (number % 3))
            fields = ("conversation", "messages", "labels", "numeric_labels", "public", "@timestamp")
            sent = {name: document[name] for name in fields} | {"labels": {"round": str(number)}}
            sent["messages"] = [*document["messages"], said(f"note {number}")]
            answer = there.put(place, {"conversation": sent})
            statuses.add(answer.status_code)
            turn.join(ENDS_S)
            there.settled()
            texts = [told["message"].get("content") for told in there.get(place).json()["messages"]]
            assert answer.status_code in (200, 409), answer.text
            assert f"question {number}" in texts and texts[-1] == "One two three."
            assert (f"note {number}" in texts) == (answer.status_code == 200), (number, texts)
        assert 409 in statuses
