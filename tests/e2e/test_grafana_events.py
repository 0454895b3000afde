"""Readers of the documented event stream, unmodified, against a live server: cut off every few events, over a ticket,
through a kill -9 of the server; and the reference page's own examples.

A reader sees each id once, and ends with the text that the chat then holds.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import TESTS
from tests.e2e.between import Between
from tests.e2e.grafana_client import Cli
from tests.e2e.grafana_stage import EVENTS, PAGE_HOST, STORY_TEXT, WAIT_S, Stage
from tests.e2e.packages import INSTALL_S, binary, node, node_modules, python_env

pytestmark = [pytest.mark.service, pytest.mark.timeout(INSTALL_S + 60)]

CLIENTS = TESTS / "clients"
READ_S = 30.0
CUT_AFTER = 5
KILLED_AFTER = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("home")) as stage:
        yield stage
    assert b"Traceback" not in stage.said


def sse_reader(server: Stage, chat: str, *, cut: int) -> list[str]:
    url = f"{server.url}{EVENTS}/chats/{chat}"
    return [sys.executable, str(CLIENTS / "sse_reader.py"), url, server.glsa, str(cut)]


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def order(event_id: str) -> tuple[int, float]:
    """`12.1` comes before `12.2`, and both before `12`."""
    seq, _, number = event_id.partition(".")
    return int(seq), float(number or "inf")


def check_whole_story(server: Stage, chat: str, seen: list[dict[str, Any]]) -> None:
    ids = [each["id"] for each in seen]
    assert len(set(ids)) == len(ids) and ids == sorted(ids, key=order)
    assert {each["event"] for each in seen} == {"message"}
    types = [each["type"] for each in seen]
    assert types[-1] == "AGENT_EXECUTION_COMPLETED"
    assert {kind: types.count(kind) for kind in set(types) - {"MESSAGE_UPDATED"}} == {
        "MESSAGE_CREATED": 2,
        "AGENT_EXECUTION_STARTED": 1,
        "AGENT_EXECUTION_COMPLETED": 1,
    }
    shown = {each["data"]["id"]: each["data"] for each in seen if each["type"].startswith("MESSAGE_")}
    stored = {each["id"]: each for each in server.chat(chat)["messages"]}
    assert {name: each["content"] for name, each in shown.items()} == {
        name: each["content"] for name, each in stored.items()
    }
    assert server.texts(chat) == [("user", "tell me a story"), ("assistant", STORY_TEXT)]


# -- packages ----------------------------------------------------------------------------------------------------------


def test_httpx_sse_reads_it_all_though_cut_off_every_five_events(server: Stage) -> None:
    env = python_env("httpx-sse")
    chat = server.ask("tell me a story")
    reader = sse_reader(server, chat, cut=CUT_AFTER)
    done = subprocess.run(reader, env=env, capture_output=True, text=True, timeout=READ_S, check=False)
    seen = lines_of(done)
    assert len(seen) > CUT_AFTER
    check_whole_story(server, chat, seen)


def test_httpx_sse_is_told_what_went_before_when_it_comes_late(server: Stage) -> None:
    env = python_env("httpx-sse")
    chat = server.ask("tell me a story")
    server.until_done(chat)
    reader = sse_reader(server, chat, cut=0)
    done = subprocess.run(reader, env=env, capture_output=True, text=True, timeout=READ_S, check=False)
    check_whole_story(server, chat, lines_of(done))


def test_eventsource_reads_it_all_over_a_ticket_though_cut_off_every_five_events(server: Stage) -> None:
    module = (node_modules() / "eventsource" / "dist" / "index.js").as_uri()
    chat = server.ask("tell me a story")
    with Between(server.port, cut_after=CUT_AFTER) as between:
        url = f"{between.url}{EVENTS}/chats/{chat}?ticket={server.ticket(chat)}"
        reader = [node(), str(CLIENTS / "eventsource_reader.mjs"), module, url]
        done = subprocess.run(reader, capture_output=True, text=True, timeout=READ_S, check=False)
        seen = lines_of(done)
        heads = [head.lower() for head in between.heads]
    check_whole_story(server, chat, seen)
    assert between.cuts >= 1 and not any(b"\nauthorization:" in head for head in heads)
    assert [b"\nlast-event-id:" in head for head in heads] == [False] + [True] * (len(heads) - 1)


# -- the reference page's examples -------------------------------------------------------------------------------------

PAGE_START = """
curl -X POST "https://your-stack.grafana.net/api/plugins/grafana-assistant-app/resources/api/v1/assistant/chats" \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -d '{
    "prompt": "How many datasources do I have?"
  }'
"""
PAGE_CHAT = "18289896-b393-4136-9014-c2630a62f67f"
PAGE_FETCH = """
curl -X GET "https://your-stack.grafana.net/api/plugins/grafana-assistant-app/resources/api/v1/chats/18289896-b393-4136-9014-c2630a62f67f" \\
  -H "Authorization: Bearer YOUR_TOKEN"
"""  # noqa: E501 - as it stands on the page
PAGE_EVENTS = """
const eventSource = new EventSource(
  'https://your-stack.grafana.net/api/plugins/grafana-assistant-app/resources/api/events/chats/18289896-b393-4136-9014-c2630a62f67f'
);

eventSource.addEventListener('message', (event) => {
  const data = JSON.parse(event.data);
  console.log('Event:', data.type, data.data);
});

eventSource.addEventListener('error', (error) => {
  console.error('SSE Error:', error);
  eventSource.close();
});
"""


def shell(command: str, server: Stage) -> Any:
    """A command of the page, with this host and credential; what it printed."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = command.replace(PAGE_HOST, server.url).replace("YOUR_TOKEN", server.glsa)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=READ_S, check=True)
    return json.loads(done.stdout)


def test_the_pages_curl_commands_do_what_the_page_says(server: Stage) -> None:
    started = shell(PAGE_START, server)
    chat = started["data"]["chatId"]
    assert started == {"status": "success", "data": {"chatId": chat}}
    server.until_done(chat)
    fetched = shell(PAGE_FETCH.replace(PAGE_CHAT, chat), server)
    data = fetched["data"]
    assert (fetched["status"], data["id"], data["category"]) == ("success", chat, "assistant")
    assert {"name", "created", "modified", "userId"} <= set(data)
    assert [(each["role"], each["content"]) for each in data["messages"]] == [
        ("user", [{"type": "text", "text": "How many datasources do I have?"}]),
        ("assistant", [{"type": "text", "text": "You have 5 datasources configured."}]),
    ]


def test_the_pages_javascript_runs_as_it_is_written(server: Stage, tmp_path: Path) -> None:
    module = (node_modules() / "eventsource" / "dist" / "index.js").as_uri()
    chat = server.ask("How many datasources do I have?")
    program = PAGE_EVENTS.replace(PAGE_HOST, server.url).replace(PAGE_CHAT, f"{chat}?ticket={server.ticket(chat)}")
    (tmp_path / "page.mjs").write_text(program)
    (tmp_path / "browser.mjs").write_text(
        f"import {{ EventSource }} from '{module}';\nObject.assign(globalThis, {{ EventSource }});\n"
    )
    command = [node(), "--import", (tmp_path / "browser.mjs").as_uri(), str(tmp_path / "page.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=READ_S, check=True)
    types = re.findall(r"^Event: (\S+)", done.stdout, re.MULTILINE)
    assert (types[0], types[-1]) == ("MESSAGE_CREATED", "AGENT_EXECUTION_COMPLETED")
    assert "AGENT_EXECUTION_STARTED" in types


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def test_who_listens_through_a_kill_of_the_server_misses_nothing(tmp_path: Path) -> None:
    env = python_env("httpx-sse")
    program = binary("grafana-assistant")
    (tmp_path / "client").mkdir()
    with Stage(tmp_path / "home", pause_s=0.5) as first:  # it would take 15 s to tell it all
        cli = Cli(program, tmp_path / "client", {"GRAFANA_URL": first.url, "GRAFANA_SA_TOKEN": first.glsa})
        with cli.start("prompt", "tell me a story", "--json") as asking:
            assert asking.stdout is not None
            chat = json.loads(asking.stdout.readline())["contextId"]
            reader = sse_reader(first, chat, cut=0)
            with subprocess.Popen(reader, env=env, stdout=subprocess.PIPE, text=True) as reading:
                try:
                    assert reading.stdout is not None
                    seen = [json.loads(reading.stdout.readline()) for _ in range(KILLED_AFTER)]
                    first.kill()
                    assert seen[-1]["type"] == "MESSAGE_UPDATED"
                    assert asking.wait(WAIT_S) == 1  # no whole message had come
                    with Stage(tmp_path / "home", listen=f"127.0.0.1:{first.port}") as second:
                        seen += [json.loads(line) for line in reading.stdout]
                        assert reading.wait(WAIT_S) == 0
                        check_whole_story(second, chat, seen)
                        done = cli.run("prompt", "and now?", "--context", chat, "--json", "--no-stream")
                        assert (done.returncode, json.loads(done.stdout)["response"]) == (0, "Still good.")
                finally:
                    reading.kill()
