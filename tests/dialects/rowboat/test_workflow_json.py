"""Workflow JSON of both generations (rowboat spec 6.1)."""

import json
from typing import Any

import pytest

from dragoman.core.agents import NO_ARGUMENTS, Repeat
from dragoman.core.errors import BadRequest, TooLarge
from dragoman.core.versions import SOURCE_BYTES_MAX
from dragoman.core.workflow_checks import check
from dragoman.core.workflow_drafts import FOUND_MAX as GIVEN_MAX
from dragoman.core.workflows import Control, ToolKind, Visibility, WorkflowTool
from dragoman.dialects.rowboat.workflow_json import VALUES_MAX, compile_with_notes, compile_workflow
from dragoman.dialects.rowboat.workflow_shapes import FOUND_MAX

HUB: dict[str, Any] = {
    "name": "Shop",
    "agents": [
        {
            "name": "Front Desk",
            "type": "conversation",
            "description": "Finds out what is wanted.",
            "instructions": "Tone: [@prompt:Tone](#mention). Money goes to [@agent:Billing](#mention).",
            "examples": "- I was charged twice: [@agent:Billing](#mention)",
            "model": "gpt-4o",
            "toggleAble": True,
            "ragReturnType": "chunks",
            "ragK": 3,
            "outputVisibility": "user_facing",
            "controlType": "retain",
        },
        {
            "name": "Billing",
            "type": "escalation",
            "description": "Orders and refunds.",
            "instructions": "Use [@tool:get_order](#mention). Else [@agent:Front Desk](#mention).",
            "model": "",
            "ragDataSources": ["6650f0c2a1b2c3d4e5f60718"],
            "ragReturnType": "content",
            "ragK": 4,
            "controlType": "relinquish_to_start",
            "maxCallsPerParentAgent": 2,
            "locked": True,
        },
    ],
    "prompts": [
        {"name": "Tone", "type": "style_prompt", "prompt": "Brief."},
        {"name": "Greeting", "type": "greeting", "prompt": "Welcome to the shop."},
    ],
    "tools": [{"name": "get_order", "description": "One order.", "mockTool": True, "mockInstructions": "Delivered."}],
    "startAgent": "Front Desk",
    "projectId": "3f0f7a52-5c0a-4a7e-9a27-2f6a0d4c9d11",
    "createdAt": "2025-04-11T09:00:00.000Z",
    "lastUpdatedAt": "2025-04-11T09:30:00.000Z",
}

LATER: dict[str, Any] = {
    "agents": [
        {"name": "Desk", "type": "conversation", "instructions": "[@pipeline:Intake](#mention) [@agent:Researcher]"},
        {
            "name": "Researcher",
            "type": "conversation",
            "instructions": "Search.",
            "outputVisibility": "internal",
            "controlType": "relinquish_to_parent",
        },
        {"name": "Extract", "type": "pipeline", "instructions": "List facts.", "outputVisibility": "internal"},
    ],
    "prompts": [{"name": "Firm", "type": "base_prompt", "prompt": "Acme"}],
    "tools": [],
    "pipelines": [{"name": "Intake", "description": "Facts.", "agents": ["Extract"], "order": 1}],
    "startAgent": "Desk",
    "lastUpdatedAt": "2025-08-20T08:00:00.000Z",
}


def with_tool(base: dict[str, Any], **tool: Any) -> dict[str, Any]:
    return {**base, "tools": [{"name": "lookup", "description": "", **tool}]}


def only_tool(document: dict[str, Any]) -> WorkflowTool:
    (tool,) = compile_workflow(document).tools
    return tool


def faults_of(document: dict[str, Any] | bytes) -> list[tuple[str, str]]:
    with pytest.raises(BadRequest) as caught:
        compile_workflow(document)
    return [(fault.field, fault.message) for fault in caught.value.faults]


def test_a_document_of_the_first_generation():
    made = compile_with_notes(json.dumps(HUB).encode())
    desk, billing = made.workflow.members
    assert (made.workflow.name, made.workflow.start, made.workflow.greeting) == (
        "Shop",
        "Front Desk",
        "Welcome to the shop.",
    )
    assert (desk.agents, desk.tools, desk.control) == (("Billing",), (), Control.RETAIN)
    assert (desk.agent.model, desk.agent.tools, desk.description) == ("gpt-4o", (), "Finds out what is wanted.")
    assert desk.agent.instructions.startswith("Tone: [@prompt:Tone]. Money goes to [@agent:Billing].\n\n# Examples")
    assert "(#mention)" not in desk.agent.instructions and "Brief." in desk.agent.instructions
    assert (billing.agents, billing.tools, billing.control) == (("Front Desk",), ("get_order",), Control.TO_START)
    assert (billing.sources, billing.found_max, billing.whole_documents) == (("6650f0c2a1b2c3d4e5f60718",), 4, True)
    assert (billing.calls_max, billing.agent.model, billing.visibility) == (2, "", Visibility.USER_FACING)
    assert made.notes == () and check(made.workflow) == ()


def test_a_document_of_the_second_generation():
    made = compile_workflow(LATER)
    desk, researcher, step = made.members
    assert (desk.agents, desk.pipelines) == (("Researcher",), ("Intake",))
    assert (researcher.visibility, researcher.pipelines, researcher.step) == (Visibility.INTERNAL, ("Intake",), False)
    assert (step.step, step.internal, step.control, step.pipelines) == (True, True, Control.TO_PARENT, ())
    assert made.pipelines[0].steps == ("Extract",) and made.pipelines[0].description == "Facts."
    assert all("Firm: Acme" in member.agent.instructions for member in made.members)
    assert check(made) == ()


def test_null_is_as_good_as_absent_and_unknown_keys_are_passed_over():
    document = json.loads(json.dumps(HUB))
    for agent in document["agents"]:
        agent |= {"ragDataSources": None, "maxCallsPerParentAgent": None, "examples": None, "futureKey": {"a": [1]}}
    document |= {"pipelines": None, "mockTools": None, "name": None, "more": 1}
    made = compile_workflow(document)
    assert [member.calls_max for member in made.members] == [None, None] and made.name == ""


def test_a_name_can_be_given_instead_of_its_own():
    assert compile_workflow(HUB, name="Mine").name == "Mine"


def test_bytes_may_begin_with_a_byte_order_mark():
    assert compile_workflow(b"\xef\xbb\xbf" + json.dumps(HUB).encode()) == compile_workflow(HUB)


# -- tools -----------------------------------------------------------------------------------------------------------

FIRST_AND_LATER = [
    pytest.param(HUB, ToolKind.WEBHOOK, id="first"),
    pytest.param(LATER, ToolKind.MOCK, id="second"),
    pytest.param({**HUB, "pipelines": []}, ToolKind.MOCK, id="pipelines"),
    pytest.param(
        {key: value for key, value in HUB.items() if key not in ("projectId", "createdAt")}, ToolKind.MOCK, id="dates"
    ),
    pytest.param(
        {key: value for key, value in HUB.items() if key != "lastUpdatedAt"}, ToolKind.WEBHOOK, id="no date at all"
    ),
]


@pytest.mark.parametrize(("document", "kind"), FIRST_AND_LATER)
def test_what_a_tool_without_a_flag_is_depends_on_the_generation(document: dict[str, Any], kind: ToolKind):
    assert only_tool(with_tool(document)).kind is kind


def test_a_flag_of_the_second_generation_on_one_tool_tells_it_for_all():
    document = {**HUB, "tools": [{"name": "a"}, {"name": "b", "isWebhook": False}]}
    assert [tool.kind for tool in compile_workflow(document).tools] == [ToolKind.MOCK, ToolKind.MOCK]


@pytest.mark.parametrize(
    ("flags", "kind", "repeat"),
    [
        ({"mockTool": True, "isMcp": True, "mcpServerName": "m", "isWebhook": True}, ToolKind.MOCK, Repeat.PURE),
        ({"isMcp": True, "mcpServerName": "m", "isComposio": True}, ToolKind.MCP, Repeat.ONCE),
        ({"isComposio": True, "isWebhook": True}, ToolKind.MISSING, Repeat.PURE),
        ({"isGeminiImage": True, "isWebhook": True}, ToolKind.MISSING, Repeat.PURE),
        ({"isWebhook": True, "isLibrary": True}, ToolKind.WEBHOOK, Repeat.ONCE),
        ({"isLibrary": True}, ToolKind.MISSING, Repeat.PURE),
        ({"isMcp": True}, ToolKind.MISSING, Repeat.PURE),
        ({"isWebhook": True, "repeat": "idempotent"}, ToolKind.WEBHOOK, Repeat.IDEMPOTENT),
    ],
)
def test_what_runs_a_tool(flags: dict[str, Any], kind: ToolKind, repeat: Repeat):
    made = only_tool(with_tool(HUB, **flags))
    assert (made.kind, made.spec.repeat) == (kind, repeat)
    assert made.server == ("m" if kind is ToolKind.MCP else "")
    assert bool(made.why) == (kind is ToolKind.MISSING)


def test_a_tool_that_cannot_be_run_is_there_and_says_why():
    document = with_tool(HUB, name="Find event!", isComposio=True, composioData={"slug": "FIND"})
    document["agents"] = [{"name": "A", "instructions": "Use [@tool:Find event!](#mention)."}]
    made = compile_with_notes(document)
    assert made.workflow.tools[0].spec.name == "Find_event_"
    assert made.workflow.members[0].tools == ("Find_event_",)
    assert "Composio" in made.workflow.tools[0].why
    assert [str(note) for note in made.notes][:1] == [
        'tools.Find event!: is offered to models as "Find_event_": they take no other name'
    ]
    assert [note.place for note in made.notes] == ["tools.Find event!", "startAgent"]


def test_what_the_document_mocks_is_mocked_whatever_it_is():
    document = {**with_tool(HUB, isMcp=True, mcpServerName="m"), "mockTools": {"lookup": "Say 7."}}
    made = only_tool(document)
    assert (made.kind, made.instructions, made.server) == (ToolKind.MOCK, "Say 7.", "")


def test_parameters_become_the_schema_of_an_object():
    assert only_tool(with_tool(HUB)).spec.parameters == NO_ARGUMENTS
    given = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}, "required": ["a"]}
    assert only_tool(with_tool(HUB, parameters=given)).spec.parameters == given
    assert only_tool(with_tool(HUB, timeout=2.5)).spec.timeout_s == 2.5


# -- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_is_named_by_its_place_all_at_once():
    document = {
        "agents": [
            {"name": "A", "instructions": "x", "controlType": "keep", "ragK": 0},
            "B",
            {"name": "C", "type": "robot", "maxCallsPerParentAgent": -1, "ragDataSources": ["a", 5]},
        ],
        "prompts": [{"name": "P", "type": "song", "prompt": "la"}, {"type": "greeting"}],
        "tools": [{"name": "get order"}, {"name": "t", "parameters": {"type": "array"}, "repeat": "twice"}],
        "pipelines": [{"name": "p"}],
        "startAgent": "A",
    }
    found = dict(faults_of(document))
    assert found == {
        "agents.0.ragK": "expected int >= 1",
        "agents.0.controlType": "must be one of: retain, relinquish_to_parent, relinquish_to_start",
        "agents.1": "must be an object",
        "agents.2.instructions": "is missing",
        "agents.2.type": "must be one of: conversation, post_process, escalation, pipeline",
        "agents.2.ragDataSources": "expected str, got int (at [1])",
        "agents.2.maxCallsPerParentAgent": "expected int >= 0",
        "prompts.0.type": "must be one of: base_prompt, style_prompt, greeting",
        "prompts.1.name": "is missing",
        "prompts.1.prompt": "is missing",
        "tools.1.repeat": "must be one of: pure, idempotent, once",
        "tools.0.name": "must be 1 to 64 letters, digits, _ or -: models take no other name",
        "pipelines.0.agents": "is missing",
    }


def test_what_refers_to_nothing_is_named_once_all_can_be_read():
    document = {**LATER, "pipelines": [{"name": "Intake", "agents": ["Extract", "Nobody", "Desk"]}]}
    assert faults_of(document) == [
        ("pipelines.0", 'there is no agent "Nobody" to be a step'),
        ("pipelines.0", 'its step "Desk" is no agent of type pipeline'),
    ]
    assert faults_of(with_tool(HUB, name="rag_search", isWebhook=True))[0][0] == "tools.0"


@pytest.mark.parametrize("document", [{}, {"agents": 5}, {**HUB, "tools": {"a": 1}}])
def test_a_document_of_another_shape(document: dict[str, Any]):
    assert faults_of(document)


def test_a_blank_project_is_told_what_it_needs():
    ((place, message),) = faults_of({**LATER, "agents": [], "pipelines": [], "startAgent": ""})
    assert place == "agents" and "needs an agent" in message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"agents": "\\ud800"}'])
def test_bytes_that_are_no_document(body: bytes):
    with pytest.raises(BadRequest):
        compile_workflow(body)


def test_a_document_has_a_greatest_size():
    filler = json.dumps({**HUB, "filler": ""}).encode()
    body = json.dumps({**HUB, "filler": "x" * (SOURCE_BYTES_MAX - len(filler))}).encode()
    assert len(body) == SOURCE_BYTES_MAX and compile_workflow(body).start == "Front Desk"
    with pytest.raises(TooLarge):
        compile_workflow(body + b" ")
    with pytest.raises(BadRequest, match=f"more than {VALUES_MAX} values"):
        compile_workflow(json.dumps({**HUB, "filler": [0] * VALUES_MAX}).encode())


def test_a_search_gives_so_much_at_most():
    document = json.loads(json.dumps(HUB))
    document["agents"][1]["ragK"] = GIVEN_MAX
    assert compile_workflow(document).members[1].found_max == GIVEN_MAX
    document["agents"][1]["ragK"] = FOUND_MAX
    made = compile_with_notes(document)
    assert made.workflow.members[1].found_max == GIVEN_MAX
    name = document["agents"][1]["name"]
    assert [str(note) for note in made.notes] == [
        f"agents.{name}: wants {FOUND_MAX} results of a search, which gives {GIVEN_MAX} at most"
    ]
    document["agents"][1]["ragK"] += 1
    assert faults_of(document) == [("agents.1.ragK", f"expected int <= {FOUND_MAX}")]


def test_an_agent_that_was_to_speak_after_the_answer_is_an_agent_like_others():
    document = {**HUB, "agents": [*HUB["agents"], {"name": "Guard", "type": "post_process", "instructions": "Check."}]}
    made = compile_with_notes(document)
    assert made.workflow.members[2].name == "Guard"
    assert [note.place for note in made.notes] == ["agents.Guard"]
