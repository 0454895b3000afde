"""The demo's workflow: that it is sound, and that the page's requests show what it is there to show."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.access.ports import Project
from dragoman.core.names import ProjectId
from dragoman.core.workflow_checks import check
from dragoman.core.workflows import Workflow
from dragoman.dialects.rowboat.examples import FIRST, PATH, SUBSEQUENT
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from dragoman.server.assemble import open_house
from dragoman.server.config import BadConfig, load_config
from dragoman.server.demo import seed
from dragoman.server.demo_workflow import WORKFLOW, publish
from tests.parts import ADMIN
from tests.streaming_client import Client

PROJECT = ProjectId("default")


def workflow() -> Workflow:
    return compile_workflow(json.dumps(WORKFLOW).encode())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    seed(tmp_path / "home")
    return tmp_path / "home"


async def asked(home: Path, body: dict[str, Any]) -> Any:
    config = load_config(home, file=home / "dragoman.toml", env={})
    async with open_house(config, home) as house:
        if await house.access.project(PROJECT) is None:  # as a server's first start has it
            await house.access.put_project(Project(PROJECT, "default", 0.0))
        minted = await house.mint.create("tester", PROJECT, scopes=tuple(ADMIN.scopes))
        headers = {"authorization": f"Bearer {minted.text}", "content-type": "application/json"}
        answer = await Client(house.app, headers=headers).request("POST", PATH, body=json.dumps(body).encode())
        return answer.status, json.loads(answer.body)


def test_there_is_nothing_to_say_against_it() -> None:
    assert check(workflow()) == ()


def test_the_pages_two_requests_run_tools_and_hand_over_and_end_with_an_answer(home: Path) -> None:
    version = publish(home)
    assert (version.name, version.published) == ("Harbour help desk", True)

    status, first = asyncio.run(asked(home, FIRST))
    assert status == 200
    assert [each["tool_name"] for each in first["messages"] if each["role"] == "tool"] == ["introduce"]
    assert first["messages"][-1]["content"].startswith("Hello! ")

    status, second = asyncio.run(asked(home, SUBSEQUENT))
    assert status == 200
    tools = [each["tool_name"] for each in second["messages"] if each["role"] == "tool"]
    assert tools == ["transfer_to_agent", "list_services", "transfer_to_agent"]
    last = second["messages"][-1]
    assert last["content"].startswith("You have 3 services: berth")
    assert (last["agenticSender"], last["agenticResponseType"]) == ("MainAgent", "external")


def test_without_it_the_page_gets_the_error_that_it_names(home: Path) -> None:
    status, answer = asyncio.run(asked(home, FIRST))
    assert status == 404
    assert answer == {"error": "No workflow id provided in request or project has no published workflow"}


def test_who_comes_without_a_question_is_greeted(home: Path) -> None:
    publish(home)
    status, answer = asyncio.run(asked(home, {"messages": [], "state": None}))
    assert (status, answer["messages"][-1]["content"]) == (200, "Ahoy! What can I do for you?")


def test_a_config_that_cannot_be_read_is_said(home: Path) -> None:
    (home / "dragoman.toml").write_text("[sever]\n")
    with pytest.raises(BadConfig, match="sever"):
        publish(home)
