"""Workflows in TOML, in the configuration and in files of their own."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.agents import Repeat
from dragoman.core.errors import BadRequest, TooLarge
from dragoman.core.versions import SOURCE_BYTES_MAX
from dragoman.core.workflow_checks import check
from dragoman.core.workflows import Control, ToolKind, Visibility
from dragoman.server.config import BadConfig, Config, load_config
from dragoman.server.config_reading import fields_of
from dragoman.server.workflow_tables import (
    AgentKeys,
    PipelineKeys,
    PromptKeys,
    ToolKeys,
    WorkflowKeys,
    configured_workflows,
    workflow_from_toml,
    workflow_warnings,
)
from tests.checkout import ROOT

WHOLE = """
start = "Front Desk"
greeting = "Hello"

[agents."Front Desk"]
instructions = "Money: [@agent:billing](#mention). New claims: [@pipeline:intake]. [@prompt:tone]"
description = "Speaks with people."
examples = "- refund: [@agent:billing]"
ask = ["workspace.write_file"]
approval = "30s"

[agents.billing]
instructions = "Use [@tool:get_order]."
model = "big"
control = "relinquish_to_start"
visibility = "internal"
calls_max = 2
agents = ["Front Desk"]
tools = ["workspace.*", "refund"]
pipelines = []
sources = ["6650f0c2a1b2c3d4e5f60718"]
found_max = 5
whole_documents = true
history_tokens = 100

[agents.extract]
instructions = "List the facts."

[tools.get_order]
kind = "webhook"
description = "One order."
parameters = { properties = { order = { type = "string", "$comment" = "HO-1" } }, required = ["order"] }
repeat = "idempotent"
timeout = "5s"
[tools.refund]
kind = "mock"
instructions = "It worked."
[tools.ticket]
kind = "mcp"
server = "helpdesk"

[prompts.tone]
text = "Brief."
[prompts.firm]
text = "Acme"
kind = "variable"

[pipelines.intake]
steps = ["extract"]
description = "Facts."
"""
SMALL = '[agents.a]\ninstructions = "Help."\n'


def configured(folder: Path, text: str) -> Config:
    (folder / "dragoman.toml").write_text(text)
    return load_config(folder, cwd=folder, env={})


def config_faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        configured(folder, text)
    return list(caught.value.faults)


def faults(text: str) -> list[str]:
    with pytest.raises(BadRequest) as caught:
        workflow_from_toml(text.encode())
    return [f"{fault.field}: {fault.message}" for fault in caught.value.faults]


def test_every_key_means_something():
    made = workflow_from_toml(WHOLE.encode(), name="Shop")
    found = made.workflow
    desk, billing, extract = found.members
    assert (found.name, found.start, found.greeting) == ("Shop", "Front Desk", "Hello")
    assert (desk.agents, desk.pipelines, desk.control) == (("billing",), ("intake",), Control.RETAIN)
    assert desk.agent.instructions == (
        "Money: [@agent:billing]. New claims: [@pipeline:intake]. [@prompt:tone]\n\n"
        "# Examples\n\n- refund: [@agent:billing]\n\n# Variables\n\nfirm: Acme\n\n# Prompts\n\n## tone\n\nBrief."
    )
    assert (desk.agent.ask, desk.agent.approval_s, desk.agent.tools) == (("workspace.write_file",), 30.0, ())
    assert (billing.agents, billing.tools, billing.pipelines) == (("Front Desk",), ("refund", "get_order"), ())
    assert (billing.agent.tools, billing.agent.model, billing.agent.history_tokens) == (("workspace.*",), "big", 100)
    assert (billing.visibility, billing.control, billing.calls_max) == (Visibility.INTERNAL, Control.TO_START, 2)
    assert (billing.sources, billing.found_max, billing.whole_documents) == (("6650f0c2a1b2c3d4e5f60718",), 5, True)
    assert extract.step and extract.internal
    assert [(tool.spec.name, tool.kind, tool.spec.repeat, tool.spec.timeout_s) for tool in found.tools] == [
        ("get_order", ToolKind.WEBHOOK, Repeat.IDEMPOTENT, 5.0),
        ("refund", ToolKind.MOCK, Repeat.PURE, 60.0),
        ("ticket", ToolKind.MCP, Repeat.ONCE, 60.0),
    ]
    assert found.tools[0].spec.parameters == {
        "type": "object",
        "properties": {"order": {"type": "string", "$comment": "HO-1"}},
        "required": ["order"],
    }
    assert (found.tools[1].instructions, found.tools[2].server) == ("It worked.", "helpdesk")
    assert found.pipelines[0].steps == ("extract",) and found.pipelines[0].description == "Facts."
    assert made.notes == ()


def test_a_small_one_is_enough():
    found = workflow_from_toml(SMALL.encode()).workflow
    assert (found.start, found.name, found.members[0].calls_max) == ("a", "", None)
    assert workflow_from_toml(b'\xef\xbb\xbfname = "Mine"\n' + SMALL.encode()).workflow.name == "Mine"
    assert check(found) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["agents: there is none that can begin: it needs an agent that is enabled, no step"]),
        (SMALL + "[agents.b]\ninstuctions = 'x'", [
            'agents.b.instuctions: is not a key of [agents.b]; did you mean "instructions"?',
            "agents.b.instructions: is missing",
        ]),
        (SMALL + "[agents.'b c']\ninstructions = 5\ncalls_max = -1\nfound_max = 21\nmood = ''", [
            'agents."b c".mood: is not a key of [agents."b c"]; did you mean "model"?',
            'agents."b c".instructions: must be text in quotes, not a number',
            'agents."b c".calls_max: is -1; it must be 0 to 1000',
            'agents."b c".found_max: is 21; it must be 1 to 20',
        ]),
        (SMALL + "control = 'keep'\nvisibility = 'intern'\napproval = '2d'", [
            "agents.a.approval: must be from 1s to 1d",
            'agents.a.control: there is no "keep" for this; known are: retain, relinquish_to_parent,'
            " relinquish_to_start",
            'agents.a.visibility: there is no "intern" for this; did you mean "internal"?',
        ]),
        (SMALL + "agents = ['x', 's']\npipelines = ['y']\n[agents.s]\ninstructions='s'\n"
         "[pipelines.p]\nsteps=['s','z']", [
            'pipelines.p: there is no agent "z" to be a step',
            'agents.a: there is no agent "x" to hand over to',
            'agents.a: cannot hand over to "s", which runs only as a step of a pipeline',
            'agents.a: there is no pipeline "y"',
        ]),
        (SMALL + "[tools.'a b']\nkind = 'webhok'\n[tools.t]\nkind = 'mcp'\nrepeat = 'twice'\ntimeout = '11m'\n"
         "[tools.u]\nkind = 'mock'\nserver = 'x'\nparameters = {type = 'array'}\n[prompts.p]\ntext='x'\nkind='song'", [
            'prompts.p.kind: there is no "song" for this; known are: style, variable',
            'tools."a b".kind: there is no "webhok" for this; did you mean "webhook"?',
            'tools."a b": its name must be 1 to 64 letters, digits, _ or -: models take no other name',
            "tools.t.server: is missing: which MCP server, of the project or of [connections], has it?",
            "tools.t.timeout: must be longer than nothing and 10m at most",
            'tools.t.repeat: there is no "twice" for this; known are: pure, idempotent, once',
            'tools.u.server: is for the kind "mcp"; take it out',
            'tools.u.parameters.type: must be "object": arguments have names',
        ]),
        (SMALL + "[tools]\nrag = 5", ["tools.rag: is a table; write [tools.rag] and its keys below"]),
        ("agents = 5", ["agents: is a table; write [agents.NAME] and its keys below"]),
        (SMALL + "[tool.x]", [
            'tool: is not a key of the file; did you mean "tools"?',
        ]),
    ],
)  # fmt: skip
def test_every_fault_is_named_by_its_key_path(text: str, found: list[str]):
    assert faults(text) == found


@pytest.mark.parametrize(
    ("body", "sentence"),
    [(b"\xff", "not UTF-8"), (b"a = \n", "neither JSON nor TOML: .*line 1"), (b"a = " + b"[" * 5_000, "nested too")],
)
def test_what_is_no_toml_is_said(body: bytes, sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        workflow_from_toml(body)


def test_a_file_has_a_greatest_size():
    body = SMALL.encode() + b"#" * (SOURCE_BYTES_MAX - len(SMALL))
    assert workflow_from_toml(body).workflow.start == "a"
    with pytest.raises(TooLarge):
        workflow_from_toml(body + b"#")


# -- in the configuration ----------------------------------------------------------------------------------------------


def test_those_of_the_configuration_are_found_by_name(tmp_path: Path):
    config = configured(
        tmp_path,
        '[defaults]\nworkflow = "help"\nagent = "help"\n'
        '[workflows.help.agents."The Desk"]\ninstructions = "Help."\n[workflows.other.agents.b]\ninstructions = "x"\n',
    )
    found = configured_workflows(config)
    assert {name: each.start for name, each in found.items()} == {"help": "The Desk", "other": "b"}
    assert found["help"].name == "help"
    assert (config.defaults.workflow, config.defaults.agent) == ("help", "help")
    assert workflow_warnings(config) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[defaults]\nworkflow = "hel"\n[workflows.help.agents.a]\ninstructions = "x"',
         'defaults.workflow: there is no workflow "hel"; did you mean "help"?'),
        ('[agents.help]\n[workflows.help.agents.a]\ninstructions = "x"',
         "workflows.help: an agent has this name too, and callers ask for either by it; rename one"),
        (f'[workflows.{"a" * 24}.agents.a]\ninstructions = "x"',
         f"workflows.{'a' * 24}: looks like the id of a version that was imported; choose another name"),
        ('[workflows]\nhelp = 5', "workflows.help: is a table; write [workflows.help] and its keys below"),
        ('[workflows.help.agents.a]\ninstruction = "x"',
         "workflows.help.agents.a.instruction: is not a key of [workflows.help.agents.a]; did you mean"
         ' "instructions"?'),
        ('[workflows.help]\nname = "x"', "workflows.help.name: is not a key of [workflows.help]; known are: start,"
         " greeting, agents, tools, prompts, pipelines"),
        ('[workflows.help.agents."a b"]\ninstructions = "x"\nmodel = "big"',
         'workflows.help.agents."a b".model: there is no model "big"; known are: offline'),
        ('[workflows.help.agents.a]\ninstructions = "x"\n[workflows.help.pipelines.p]\nsteps = []',
         "workflows.help.pipelines.p: has no step; name the agents that run in it, or take it out"),
        ('[workflows.help.agents.a]\ninstructions = "${SECRET}"',
         "workflows.help.agents.a.instructions: ${SECRET} stands only in secrets (key, headers)"),
    ],
)  # fmt: skip
def test_faults_of_the_configuration(tmp_path: Path, text: str, found: str):
    assert found in config_faults(tmp_path, text)


def test_what_is_most_likely_a_slip_is_a_warning(tmp_path: Path):
    config = configured(
        tmp_path,
        '[workflows.help]\nstart = "z"\n[workflows.help.agents.a]\ninstructions = "[@agent:x]"\n'
        '[workflows.help.agents.b]\ninstructions = "x"\n',
    )
    assert workflow_warnings(config) == (
        'workflows.help.agents.a: mentions the agent "x", which is not there',
        'workflows.help.start: "z" is unknown; "a" begins instead',
        "workflows.help.agents.b: never has the word: no agent that can be reached hands over to it",
    )


def test_a_config_that_was_never_checked_is_refused_too():
    with pytest.raises(BadConfig) as caught:
        configured_workflows(Config(workflows={"help": {"agents": {}}}))
    assert "workflows.help.agents: there is none that can begin" in caught.value.detail


def test_the_example_shows_every_key_and_no_other():
    tree: dict[str, Any] = tomllib.loads((ROOT / "docs" / "config.example.toml").read_text())["workflows"]["support"]

    def keys(shape: Any) -> set[str]:
        return {field.key for field in fields_of(shape)}

    assert tree.keys() == keys(WorkflowKeys)
    for section, shape in (
        ("agents", AgentKeys),
        ("tools", ToolKeys),
        ("prompts", PromptKeys),
        ("pipelines", PipelineKeys),
    ):
        assert set[str]().union(*(table.keys() for table in tree[section].values())) == keys(shape)
