"""From what people wrote to a workflow: edges, texts, who begins, what is left out."""

from typing import Any

import pytest

from dragoman.core import workflow_drafts
from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, ToolSpec
from dragoman.core.errors import BadRequest
from dragoman.core.workflow_checks import check
from dragoman.core.workflow_drafts import (
    AGENTS_MAX,
    INSTRUCTIONS_CHARS_MAX,
    STEPS_MAX,
    Draft,
    DraftAgent,
    DraftPipeline,
    DraftPrompt,
    DraftTool,
    PromptKind,
    compiled,
)
from dragoman.core.workflows import GREETING, Control, Member, ToolKind, Visibility, Workflow, WorkflowTool


def agent(name: str, instructions: str = "Help.", **how: Any) -> DraftAgent:
    tools = how.pop("patterns", ())
    return DraftAgent(AgentSpec(name, instructions, tools=tools), f"agents.{name}", **how)


def tool(name: str) -> DraftTool:
    return DraftTool(name, WorkflowTool(ToolSpec(name, "", NO_ARGUMENTS), ToolKind.MOCK), f"tools.{name}")


def prompt(name: str, text: str, kind: PromptKind = PromptKind.STYLE) -> DraftPrompt:
    return DraftPrompt(name, kind, text, f"prompts.{name}")


def pipeline(name: str, *steps: str) -> DraftPipeline:
    return DraftPipeline(name, steps, f"pipelines.{name}")


def workflow(*agents: DraftAgent, start: str = "a", **rest: Any) -> Workflow:
    return compiled(Draft("w", start, agents, **rest)).workflow


def member(*agents: DraftAgent, **rest: Any) -> Member:
    return workflow(*agents, **rest).members[0]


def notes(*agents: DraftAgent, **rest: Any) -> list[str]:
    return [str(note) for note in compiled(Draft("w", rest.pop("start", "a"), agents, **rest)).notes]


def faults(*agents: DraftAgent, **rest: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadRequest) as caught:
        compiled(Draft("w", rest.pop("start", "a"), agents, **rest))
    return [(fault.field, fault.message) for fault in caught.value.faults]


# -- edges -----------------------------------------------------------------------------------------------------------


def test_mentions_in_instructions_and_examples_are_the_edges():
    made = member(
        agent("a", "Ask [@agent:b](#mention) or use [@tool:t].", examples="[@agent:c](#mention) [@agent:b](#mention)"),
        agent("b"),
        agent("c"),
        tools=(tool("t"), tool("unused")),
    )
    assert (made.agents, made.tools, made.pipelines) == (("b", "c"), ("t",), ())


def test_what_is_named_besides_comes_first_and_counts_once():
    made = member(agent("a", "[@agent:b] [@tool:t]", agents=("c", "b"), tools=("u",)), agent("b"), agent("c"),
                  tools=(tool("t"), tool("u")))  # fmt: skip
    assert (made.agents, made.tools) == (("c", "b"), ("u", "t"))


def test_mentions_that_lead_nowhere_are_left_out_and_told():
    agents = (
        agent("a", "[@agent:a] [@agent:x] [@agent:off] [@agent:s] [@tool:x] [@prompt:x] [@pipeline:x]"),
        agent("off", disabled=True),
        agent("s", step=True),
    )
    made = workflow(*agents, pipelines=(pipeline("p", "s"),))
    assert [each.name for each in made.members] == ["a", "s"]
    assert (made.members[0].agents, made.members[0].tools) == ((), ())
    assert check(made) == ()
    assert notes(*agents, pipelines=(pipeline("p", "s"),)) == [
        'agents.a: mentions the prompt "x", which is not there',
        'agents.a: mentions the pipeline "x", which is not there',
        "agents.a: mentions itself, which means nothing",
        'agents.a: mentions the agent "x", which is not there',
        'agents.a: mentions the agent "off", which is disabled',
        'agents.a: mentions "s", which runs only as a step of a pipeline',
        'agents.a: mentions the tool "x", which is not there',
    ]


def test_a_tool_that_is_not_there_may_be_one_of_the_servers():
    assert notes(agent("a", "[@tool:list_files]", patterns=("workspace.*",))) == []


def test_names_given_outside_the_text_must_be_there():
    assert faults(
        agent("a", agents=("x", "s"), pipelines=("y",)), agent("s", step=True), pipelines=(pipeline("p", "s"),)
    ) == [
        ("agents.a", 'there is no agent "x" to hand over to'),
        ("agents.a", 'cannot hand over to "s", which runs only as a step of a pipeline'),
        ("agents.a", 'there is no pipeline "y"'),
    ]


# -- pipelines -------------------------------------------------------------------------------------------------------


def test_every_agent_but_steps_may_call_every_pipeline_that_has_a_step():
    made = workflow(
        agent("a"),
        agent("b", pipelines=("q",)),
        agent("c", "[@pipeline:p]", pipelines=()),
        agent("s", step=True),
        pipelines=(pipeline("p", "s", "s"), pipeline("q", "s"), pipeline("empty")),
    )
    assert [each.pipelines for each in made.members] == [("p", "q"), ("q",), ("p",), ()]
    assert [each.steps for each in made.pipelines] == [("s", "s"), ("s",), ()]


def test_a_step_speaks_to_agents_only_and_hands_over_to_nobody():
    written = agent("s", "[@agent:a] [@tool:t]", step=True, control=Control.RETAIN)
    made = workflow(agent("a"), written, pipelines=(pipeline("p", "s"),), tools=(tool("t"),)).members[1]
    assert (made.step, made.visibility, made.control) == (True, Visibility.INTERNAL, Control.TO_PARENT)
    assert (made.agents, made.pipelines, made.tools) == ((), (), ("t",))
    (note,) = notes(agent("a"), written, pipelines=(pipeline("p", "s"),), tools=(tool("t"),))
    assert note.startswith("agents.s: is a step of a pipeline")


def test_steps_that_are_disabled_are_left_out_and_others_must_be_there():
    made = workflow(
        agent("a"), agent("s", step=True, disabled=True), agent("u", step=True), pipelines=(pipeline("p", "s", "u"),)
    )
    assert made.pipelines[0].steps == ("u",)
    assert faults(agent("a"), pipelines=(pipeline("p", "x", "a"),)) == [
        ("pipelines.p", 'there is no agent "x" to be a step'),
        ("pipelines.p", 'its step "a" is no agent of type pipeline'),
    ]


# -- who begins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "begins", "why"),
    [
        ("b", "b", ""),
        ("p", "p", ""),
        ("", "a", ""),
        ("off", "a", 'startAgent: "off" is disabled; "a" begins instead'),
        ("s", "a", 'startAgent: "s" is a step of a pipeline; "a" begins instead'),
        ("x", "a", 'startAgent: "x" is unknown; "a" begins instead'),
    ],
)
def test_who_begins(start: str, begins: str, why: str):
    agents = (agent("off", disabled=True), agent("s", step=True), agent("a"), agent("b"))
    assert workflow(*agents, start=start, pipelines=(pipeline("p", "s"),)).start == begins
    assert notes(*agents, start=start, pipelines=(pipeline("p", "s"),)) == ([why] if why else [])


@pytest.mark.parametrize("agents", [(), (agent("a", disabled=True),), (agent("s", step=True),)])
def test_somebody_must_be_able_to_begin(agents: tuple[DraftAgent, ...]):
    ((place, message),) = faults(*agents)
    assert place == "agents" and "needs an agent that is enabled" in message


# -- what an agent is told ---------------------------------------------------------------------------------------------


def test_an_agent_is_told_its_instructions_examples_all_variables_and_the_prompts_it_mentions():
    made = member(
        agent(
            "a", "Be [@prompt:Tone](#mention) for [@variable:Firm](#mention).", examples="- Hi [@prompt:Tone](#mention)"
        ),
        prompts=(
            prompt("Tone", "Brief. See [@prompt:More](#mention)."),
            prompt("Firm", "Acme", PromptKind.VARIABLE),
            prompt("Year", "2026", PromptKind.VARIABLE),
            prompt("More", "No jargon, [@prompt:Tone]."),
            prompt("Unused", "Never told."),
        ),
    )
    assert made.agent.instructions == (
        "Be [@prompt:Tone] for [@variable:Firm].\n\n"
        "# Examples\n\n- Hi [@prompt:Tone]\n\n"
        "# Variables\n\nFirm: Acme\nYear: 2026\n\n"
        "# Prompts\n\n## Tone\n\nBrief. See [@prompt:More].\n\n## More\n\nNo jargon, [@prompt:Tone]."
    )


def test_an_agent_without_more_is_told_its_instructions_alone():
    assert member(agent("a", "Help.", examples=" \n")).agent.instructions == "Help."


def test_the_greeting_is_a_prompt_of_that_kind():
    assert workflow(agent("a")).greeting == GREETING
    greeting = prompt("Greeting", "Hi from [@variable:Firm](#mention)", PromptKind.GREETING)
    assert workflow(agent("a"), prompts=(greeting,)).greeting == "Hi from [@variable:Firm]"
    assert workflow(agent("a"), prompts=(greeting,), greeting="Hello").greeting == "Hello"
    assert workflow(agent("a"), prompts=(prompt("G", " ", PromptKind.GREETING),)).greeting == GREETING


@pytest.mark.parametrize(
    ("visibility", "control", "made"),
    [
        (Visibility.USER_FACING, None, Control.RETAIN),
        (Visibility.INTERNAL, None, Control.TO_PARENT),
        (Visibility.INTERNAL, Control.RETAIN, Control.RETAIN),
        (Visibility.USER_FACING, Control.TO_PARENT, Control.TO_PARENT),
    ],
)
def test_control_is_as_it_was_written_or_as_befits_the_visibility(
    visibility: Visibility, control: Control | None, made: Control
):
    assert member(agent("a", visibility=visibility, control=control)).control is made


# -- limits and faults -------------------------------------------------------------------------------------------------


def test_what_one_agent_is_told_has_a_limit():
    variable = prompt("v", "x" * 1_000, PromptKind.VARIABLE)
    room = INSTRUCTIONS_CHARS_MAX - 1_000 - len("\n\n# Variables\n\nv: ")
    assert len(member(agent("a", "i" * room), prompts=(variable,)).agent.instructions) == INSTRUCTIONS_CHARS_MAX
    ((place, message),) = faults(agent("a", "i" * (room + 1)), prompts=(variable,))
    assert place == "agents.a" and f"{INSTRUCTIONS_CHARS_MAX} at most" in message


def test_how_many_there_may_be_has_limits(monkeypatch: pytest.MonkeyPatch):
    assert len(workflow(*(agent(f"a{at}") for at in range(AGENTS_MAX))).members) == AGENTS_MAX
    (fault,) = faults(*(agent(f"a{at}") for at in range(AGENTS_MAX + 1)))
    assert fault == ("agents", f"there are {AGENTS_MAX + 1}, and {AGENTS_MAX} at most can be")
    many = ("s",) * STEPS_MAX
    both = (agent("a"), agent("s", step=True))
    assert workflow(*both, pipelines=(pipeline("p", *many),)).pipelines[0].steps == many
    assert faults(*both, pipelines=(pipeline("p", *many, "s"),))[0][0] == "pipelines.p"
    for limit in ("PROMPTS_MAX", "TOOLS_MAX", "PIPELINES_MAX"):
        monkeypatch.setattr(workflow_drafts, limit, 1)
    full: dict[str, Any] = {"prompts": (prompt("a", ""),), "tools": (tool("a"),), "pipelines": (pipeline("p", "s"),)}
    assert workflow(*both, **full).tools
    over: dict[str, Any] = {
        "prompts": (*full["prompts"], prompt("b", "")),
        "tools": (*full["tools"], tool("b")),
        "pipelines": (*full["pipelines"], pipeline("q", "s")),
    }
    assert [place for place, _ in faults(*both, **over)] == ["prompts", "tools", "pipelines"]


def test_names_must_be_usable_and_be_there_once():
    assert faults(agent("a"), agent("a]"), agent("a"), tools=(tool("rag_search"), tool("transfer_to_agent"))) == [
        ("agents.a]", "its name must have 1 to 100 printable characters, and neither [ nor ]"),
        ("agents.a", 'has the name "a", which agents.a has too'),
        ("tools.rag_search", "agents are offered a tool of the server's as rag_search; rename yours"),
        ("tools.transfer_to_agent", "agents are offered a tool of the server's as transfer_to_agent; rename yours"),
    ]


def test_a_sentence_shows_the_first_faults_and_says_how_many_more_there_are():
    with pytest.raises(BadRequest) as caught:
        compiled(Draft("w", "a", (agent("a", agents=tuple(f"x{at}" for at in range(25))),)))
    assert len(caught.value.faults) == 25
    assert caught.value.detail.endswith('"x19" to hand over to; and 5 more.')
