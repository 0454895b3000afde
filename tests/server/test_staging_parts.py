"""What a house has for workflows."""

import re
from pathlib import Path

from dragoman.core.agents import AgentSpec
from dragoman.core.workflows import Member, Workflow
from dragoman.server.assemble import open_house
from dragoman.server.config import load_config
from dragoman.server.staging_parts import agents_of, new_object_id

CONFIG = """
[defaults]
agent = "desk"
workflow = "desk"
[workflows.desk]
start = "Front"
[workflows.desk.agents.Front]
instructions = "Greet."
tools = ["workspace.*"]
"""


async def test_a_configured_workflow_can_be_asked_for_and_is_published_where_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "dragoman.toml").write_text(CONFIG)
    config = load_config(tmp_path, cwd=tmp_path, env={})
    async with open_house(config, tmp_path) as house:
        assert await house.workflows.live(house.project) == "desk"
        found = await house.workflows.workflow(house.project, "desk")
        assert found is not None and [member.name for member in found.members] == ["Front"]
        settings = await house.settings.of(house.project)
        assert re.fullmatch(r"[0-9a-f]{64}", settings.secret)
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", settings.client_id)
        assert await house.settings.project_of_client(settings.client_id) == house.project


def test_a_workflow_holds_what_its_agents_hold_and_says_nothing_itself(tmp_path: Path) -> None:
    config = load_config(tmp_path, cwd=tmp_path, env={})
    members = tuple(Member(AgentSpec(name, "x", tools=tools)) for name, tools in (("A", ("a.*",)), ("B", ("a.*", "b"))))
    agents = agents_of(config, {"desk": Workflow("desk", "A", members)})
    assert agents["desk"] == AgentSpec("desk", "", tools=("a.*", "b"))
    assert set(agents) == {"assistant", "desk"}


def test_ids_are_those_of_the_wire_and_not_the_same_twice() -> None:
    assert re.fullmatch(r"[0-9a-f]{24}", new_object_id())
    assert new_object_id() != new_object_id()
