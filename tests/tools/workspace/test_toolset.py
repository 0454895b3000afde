from pathlib import Path

import pytest

from dragoman.core.agents import Repeat
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ProjectId
from dragoman.runtime.tool_ports import CallContext, ToolOutcome
from dragoman.tools.registry import Registry
from dragoman.tools.workspace.toolset import register_workspace
from tests.tools.conftest import Call

NAMES = ["list_files", "find_files", "read_file", "search_files", "write_file", "edit_file"]


def test_the_tools_are_offered_under_their_names_in_order(workspace: Path, registry: Registry):
    assert [spec.name for spec in registry.specs(["workspace.*"])] == NAMES


def test_only_what_changes_nothing_is_run_again_freely(workspace: Path, registry: Registry):
    assert {spec.name: spec.repeat for spec in registry.specs(["*"])} == {
        "list_files": Repeat.PURE,
        "find_files": Repeat.PURE,
        "read_file": Repeat.PURE,
        "search_files": Repeat.PURE,
        "write_file": Repeat.IDEMPOTENT,
        "edit_file": Repeat.ONCE,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_says_enough_to_choose_and_use_the_tool(workspace: Path, registry: Registry, name: str):
    spec = registry.spec(name)
    assert spec is not None
    assert 100 < len(spec.description) < 500
    assert len(spec.examples) >= 5
    assert len(spec.keywords) >= 8
    assert spec.parameters["additionalProperties"] is False
    assert all("description" in one for one in spec.parameters["properties"].values())


def test_the_schema_a_model_sees_stands_by_itself(workspace: Path, registry: Registry):
    spec = registry.spec("list_files")
    assert spec is not None
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "Folder, relative to the workspace. Leave out for the whole workspace.",
                "default": "",
            },
            "recursive": {
                "type": "boolean",
                "description": "Also list what is inside the folders.",
                "default": False,
            },
            "sizes": {"type": "boolean", "description": "Add each file's size in bytes.", "default": False},
        },
        "additionalProperties": False,
    }


async def test_the_root_is_made_and_no_arguments_are_enough_to_list_it(workspace: Path, call: Call):
    assert await call("list_files", "") == ToolOutcome("The workspace is empty.")
    assert await call("list_files", "{}") == ToolOutcome("The workspace is empty.")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("find_files", "pattern"),
        ("read_file", "path"),
        ("search_files", "query"),
        ("write_file", "path"),
        ("edit_file", "path"),
    ],
)
async def test_what_is_required_is_named(workspace: Path, call: Call, name: str, missing: str):
    outcome = await call(name, "{}")
    assert outcome.code == "bad_arguments"
    assert outcome.content.startswith(f'The arguments do not fit: "{missing}" is a required property')


async def test_a_file_is_written_found_searched_edited_and_read(workspace: Path, call: Call):
    assert await call("write_file", path="notes/a.md", content="buy milk\n") == ToolOutcome(
        "Created notes/a.md (9 bytes)."
    )
    assert await call("find_files", pattern="*.md") == ToolOutcome("notes/a.md")
    assert await call("search_files", query="milk") == ToolOutcome("notes/a.md:1: buy milk")
    assert await call("edit_file", path="notes/a.md", old="milk", new="tea") == ToolOutcome(
        "Replaced 1 occurrence in notes/a.md."
    )
    assert await call("read_file", path="notes/a.md") == ToolOutcome("buy tea\n")
    assert await call("list_files") == ToolOutcome("notes/")


async def test_each_project_has_a_workspace_of_its_own(tmp_path: Path) -> None:
    registry = Registry()
    register_workspace(registry, lambda project: tmp_path / project)
    call = ToolCall(CallId("c"), "write_file", '{"path":"a.txt","content":"mine"}')
    await registry.call(call, CallContext(ProjectId("one"), "k"))
    listing = ToolCall(CallId("c"), "list_files", "{}")
    seen = [(await registry.call(listing, CallContext(ProjectId(name), "k"))).content for name in ("one", "two")]
    assert seen == ["a.txt", "The workspace is empty."]
