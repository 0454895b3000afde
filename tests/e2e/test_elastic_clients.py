"""Clients that others wrote, unmodified, against a live server of the Elastic dialect: the reference page's curl, both
clients of kibana-py, the stream parser of OpenAI's SDK, and the calls of the Terraform provider."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.checkout import TESTS
from tests.e2e.elastic_stage import (
    BUILT_IN,
    CHAT,
    CONNECTOR,
    PAGE_REQUEST,
    SCRIPTED,
    Stage,
    calls_in,
    chat_server,
    chunks_in,
    page_curl,
    text_of,
)
from tests.e2e.packages import INSTALL_S, python_env

pytestmark = [pytest.mark.service, pytest.mark.timeout(INSTALL_S + 60)]

RUN_S = 30.0
CLIENTS = TESTS / "clients"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("home")) as stage:
        yield stage
    assert b"Traceback" not in stage.said


def ran(*command: str, package: str = "", stdin: str = "") -> str:
    env = python_env(package) if package else None
    done = subprocess.run(
        command, env=env, input=stdin, capture_output=True, text=True, timeout=RUN_S, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(server: Stage, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The answer's head, and its chunks."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    head, _, answer = ran(*page_curl(server.url, server.credential, body)).replace("\r\n", "\n").partition("\n\n")
    return head.lower(), chunks_in(answer)


def test_elastic_pages_curl_asks_for_the_action_and_answers_from_its_result(server: Stage) -> None:
    head, chunks = curl(server, PAGE_REQUEST)
    assert head.startswith("http/1.1 200") and "content-type: application/octet-stream\n" in f"{head}\n"
    (chunk,) = chunks
    assert list(chunk) == ["model", "choices", "created", "id", "object"]
    (call,) = calls_in(chunks)
    assert call["name"] == "get_cluster_health"
    assert set(json.loads(call["arguments"])) <= {"includeShardStats"}
    shown = {"content": "", "function_call": call}
    assert chunk["choices"] == [{"delta": shown, "finish_reason": None, "index": 0}]

    health = {"cluster_name": "docker-cluster", "status": "green", "number_of_nodes": 3}
    asked = {"role": "assistant", "content": "", "function_call": {**call, "trigger": "assistant"}}
    result = {"role": "user", "name": call["name"], "content": json.dumps(health)}
    turns = [{"@timestamp": "2025-06-25T23:45:01.000Z", "message": each} for each in (asked, result)]
    _, chunks = curl(server, {**PAGE_REQUEST, "messages": [*PAGE_REQUEST["messages"], *turns]})
    assert calls_in(chunks) == []
    assert "green" in text_of(chunks)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_kibana_pys_client_asks_through_a_connector_of_its_own(server: Stage, kind: str) -> None:
    asked: list[dict[str, Any]] = []
    with chat_server(asked) as chat_url:
        command = [sys.executable, str(CLIENTS / "kibana_client.py"), server.url, server.credential, chat_url, kind]
        told = json.loads(ran(*command, package="kibana-py"))
    assert told["status"] == 200
    assert text_of(chunks_in(told["body"])) == "Your cluster is green."
    assert "secrets" not in told and "the-key" not in json.dumps(told)
    (request,) = asked
    assert (request["path"], request["key"]) == ("/somewhere/else/chat", "Bearer the-key")
    assert (request["model"], request["stream"], request["temperature"]) == ("some-model", True, 0.25)
    assert "Answer concisely." in request["messages"][0]["content"]


def sdk(server: Stage, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks as OpenAI's SDK understood them."""
    command = [sys.executable, str(CLIENTS / "openai_reader.py"), server.url, server.credential, CHAT]
    return [json.loads(line) for line in ran(*command, package="openai", stdin=json.dumps(body)).splitlines()]


def question(text: str, **fields: Any) -> dict[str, Any]:
    message = {"@timestamp": "2026-07-03T00:00:00.000Z", "message": {"role": "user", "content": text}}
    return {"connectorId": SCRIPTED, "messages": [message], "persist": False, **fields}


def test_openais_stream_parser_reads_text(server: Stage) -> None:
    chunks = sdk(server, question("tell me a story"))
    assert text_of(chunks) == "Once upon a żółw 🐘."
    assert len({chunk["id"] for chunk in chunks}) == len(chunks) > 1


def test_openais_stream_parser_reads_a_call_of_an_action(server: Stage) -> None:
    chunks = sdk(server, PAGE_REQUEST)
    (call,) = calls_in(chunks)
    assert call["name"] == "get_cluster_health"


def test_openais_stream_parser_raises_the_error_that_a_stream_holds(server: Stage) -> None:
    unknown = question("go on", persist=True, conversationId="0e9b7c8e-0000-4000-8000-000000000000")
    assert sdk(server, unknown) == [{"failed": "Conversation not found"}]


def test_terraforms_calls_keep_a_connector_as_it_is_declared(server: Stage) -> None:
    """Create, read, update, read, delete, read: each under the space, as the provider sends it."""
    space = "/s/default"
    declared = {"apiProvider": "OpenAI", "apiUrl": "https://api.openai.com/v1", "defaultModel": "gpt-4"}
    with server.client as client:
        version = client.get("/api/status").json()["version"]
        assert version["number"].split(".")[0].isdecimal() and version["build_flavor"] == "traditional"
        body = {"name": "openai", "connector_type_id": ".gen-ai", "config": declared, "secrets": {"apiKey": "k"}}
        made = client.post(f"{space}{CONNECTOR}/tf-openai", json=body)
        assert (made.status_code, made.headers["content-type"].partition(";")[0]) == (200, "application/json")
        place = f"{space}{CONNECTOR}/{made.json()['id']}"
        assert client.get(place).json() == made.json()
        assert made.json()["config"] == declared
        moved = {**declared, "defaultModel": "gpt-4o"}
        put = client.put(place, json={"name": "openai", "config": moved, "secrets": {"apiKey": "k"}})
        assert (put.status_code, put.json()["config"]) == (200, moved)
        listed = client.get(f"{space}/api/actions/connectors").json()
        assert [each["config"] for each in listed if each["id"] == "tf-openai"] == [moved]
        assert {each["id"] for each in listed} >= {BUILT_IN, SCRIPTED, "tf-openai"}
        gone = client.delete(place)
        assert (gone.status_code, gone.content) == (204, b"")
        assert client.get(place).status_code == 404
