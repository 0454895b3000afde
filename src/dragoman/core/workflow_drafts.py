"""From what people wrote to a workflow: mentions become edges, prompts become text. Pure.

    Rowboat's JSON ─┐                      ┌─ members: all that a model is told, and to whom it may hand over
                    ├─► Draft ── compiled ─┤  pipelines, tools
    our TOML ───────┘                      └─ notes: what was left out, and why

Every entity has a `place`, by which faults and notes name it. Sources: rowboat spec 4.1, 4.4 and 6.1, "superset
decisions" (bodies of prompts reach the model).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.agents import AgentSpec
from dragoman.core.errors import BadRequest, FieldFault
from dragoman.core.mentions import Kind, can_be_named, mentions, spoken
from dragoman.core.workflow_checks import RESERVED, Finding, warning
from dragoman.core.workflows import GREETING, Control, Member, Pipeline, Visibility, Workflow, WorkflowTool

AGENTS_MAX = 100
PROMPTS_MAX = 200
TOOLS_MAX = 200
PIPELINES_MAX = 50
STEPS_MAX = 50
"""Of one pipeline."""
INSTRUCTIONS_CHARS_MAX = 200_000
"""All that one agent is told, prompts and examples included."""
FOUND_MAX = 20
"""Passages or documents that one search gives."""
FAULTS_SHOWN_MAX = 20
"""In one sentence; the error's `faults` hold all of them."""


class PromptKind(StrEnum):
    """What a prompt is for."""

    VARIABLE = "base_prompt"
    """A value that every agent knows."""
    STYLE = "style_prompt"
    """A text for the agents that mention it."""
    GREETING = "greeting"
    """What is said to who comes without a question."""


class DraftPrompt(Struct, frozen=True):
    name: str
    kind: PromptKind
    text: str
    place: str


class DraftAgent(Struct, frozen=True):
    """An agent as it was written. `spec.instructions` still has its mentions. `agents` and `tools` were named besides
    mentions; `pipelines` None = all there are, which is how a mention is no more than a hint."""

    spec: AgentSpec
    place: str
    examples: str = ""
    description: str = ""
    step: bool = False
    disabled: bool = False
    control: Control | None = None
    """None = as befits its visibility."""
    visibility: Visibility = Visibility.USER_FACING
    calls_max: int | None = None
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    pipelines: tuple[str, ...] | None = None
    sources: tuple[str, ...] = ()
    found_max: int = 3
    whole_documents: bool = False


class DraftTool(Struct, frozen=True):
    """`name` is what mentions call it, `tool.spec.name` what a model does."""

    name: str
    tool: WorkflowTool
    place: str


class DraftPipeline(Struct, frozen=True):
    name: str
    steps: tuple[str, ...]
    place: str
    description: str = ""


class Draft(Struct, frozen=True):
    """`start_place` is where it says who begins."""

    name: str
    start: str
    agents: tuple[DraftAgent, ...]
    prompts: tuple[DraftPrompt, ...] = ()
    tools: tuple[DraftTool, ...] = ()
    pipelines: tuple[DraftPipeline, ...] = ()
    greeting: str = ""
    start_place: str = "startAgent"
    agents_place: str = "agents"


class Compiled(Struct, frozen=True):
    workflow: Workflow
    notes: tuple[Finding, ...] = ()
    """What of the source is not in the workflow."""


def compiled(draft: Draft, faults: Sequence[FieldFault] = ()) -> Compiled:
    """`faults` were found before. Raises BadRequest with all there are."""
    return _Compiling(draft, faults).compiled()


def refuse(faults: Sequence[FieldFault]) -> None:
    """Raises BadRequest if there are any."""
    if not faults:
        return
    shown = [f"{fault.field}: {fault.message}" if fault.field else fault.message for fault in faults[:FAULTS_SHOWN_MAX]]
    more = f"; and {len(faults) - FAULTS_SHOWN_MAX} more" if len(faults) > FAULTS_SHOWN_MAX else ""
    raise BadRequest(f"The workflow cannot be used: {'; '.join(shown)}{more}.", faults=faults)


class _Compiling:
    def __init__(self, draft: Draft, faults: Sequence[FieldFault]) -> None:
        self._draft = draft
        self._faults = list(faults)
        self._notes: list[Finding] = []
        self._agents = {agent.spec.name: agent for agent in draft.agents if not agent.disabled}
        self._disabled = {agent.spec.name for agent in draft.agents} - self._agents.keys()
        self._prompts = {prompt.name: prompt for prompt in draft.prompts}
        self._tools = {tool.name: tool for tool in draft.tools}
        self._pipelines = {pipeline.name: pipeline for pipeline in draft.pipelines}

    def compiled(self) -> Compiled:
        draft = self._draft
        self._check_names()
        pipelines = tuple(map(self._pipeline, draft.pipelines))
        runnable = tuple(pipeline.name for pipeline in pipelines if pipeline.steps)
        members = tuple(self._member(agent, runnable) for agent in draft.agents if not agent.disabled)
        start = self._start()
        refuse(self._faults)
        workflow = Workflow(
            draft.name,
            start,
            members,
            tuple(tool.tool for tool in draft.tools),
            pipelines,
            self._greeting(),
        )
        return Compiled(workflow, tuple(dict.fromkeys(self._notes)))

    def _fault(self, place: str, message: str) -> None:
        self._faults.append(FieldFault(place, message))

    def _note(self, place: str, message: str) -> None:
        self._notes.append(warning(place, message))

    # -- what stands in it -----------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        draft = self._draft
        sections: tuple[tuple[str, int, Iterable[tuple[str, str]]], ...] = (
            ("agents", AGENTS_MAX, [(agent.spec.name, agent.place) for agent in draft.agents]),
            ("prompts", PROMPTS_MAX, [(prompt.name, prompt.place) for prompt in draft.prompts]),
            ("tools", TOOLS_MAX, [(tool.name, tool.place) for tool in draft.tools]),
            ("pipelines", PIPELINES_MAX, [(pipeline.name, pipeline.place) for pipeline in draft.pipelines]),
        )
        for section, most, named in sections:
            named = list(named)
            if len(named) > most:
                self._fault(section, f"there are {len(named)}, and {most} at most can be")
            seen: dict[str, str] = {}
            for name, place in named:
                if not can_be_named(name):
                    self._fault(place, "its name must have 1 to 100 printable characters, and neither [ nor ]")
                elif name in seen:
                    self._fault(place, f'has the name "{name}", which {seen[name]} has too')
                seen.setdefault(name, place)
        for tool in draft.tools:
            if tool.tool.spec.name in RESERVED:
                self._fault(
                    tool.place, f"agents are offered a tool of the server's as {tool.tool.spec.name}; rename yours"
                )

    def _pipeline(self, pipeline: DraftPipeline) -> Pipeline:
        if len(pipeline.steps) > STEPS_MAX:
            self._fault(pipeline.place, f"has {len(pipeline.steps)} steps; {STEPS_MAX} at most can be")
        steps: list[str] = []
        for name in pipeline.steps:
            agent = self._agents.get(name)
            if name in self._disabled:
                self._note(pipeline.place, f'its step "{name}" is disabled and left out')
            elif agent is None:
                self._fault(pipeline.place, f'there is no agent "{name}" to be a step')
            elif not agent.step:
                self._fault(pipeline.place, f'its step "{name}" is no agent of type pipeline')
            else:
                steps.append(name)
        return Pipeline(pipeline.name, tuple(steps), pipeline.description)

    def _start(self) -> str:
        draft = self._draft
        agent = self._agents.get(draft.start)
        if agent is not None and not agent.step:
            return draft.start
        if agent is None and draft.start in self._pipelines:
            return draft.start
        first = next((name for name, other in self._agents.items() if not other.step), "")
        if not first:
            self._fault(draft.agents_place, "there is none that can begin: it needs an agent that is enabled, no step")
        elif draft.start:
            why = (
                "is disabled" if draft.start in self._disabled else "is a step of a pipeline" if agent else "is unknown"
            )
            self._note(draft.start_place, f'"{draft.start}" {why}; "{first}" begins instead')
        return first

    def _greeting(self) -> str:
        prompts = (prompt.text for prompt in self._draft.prompts if prompt.kind is PromptKind.GREETING)
        return self._draft.greeting or next((spoken(text) for text in prompts if text.strip()), GREETING)

    # -- one agent -------------------------------------------------------------------------------------------------

    def _member(self, agent: DraftAgent, runnable: tuple[str, ...]) -> Member:
        spec, place = agent.spec, agent.place
        found = mentions(f"{spec.instructions}\n{agent.examples}")
        named = {kind: [mention.name for mention in found if mention.kind is kind] for kind in Kind}
        instructions = self._instructions(agent, named[Kind.PROMPT])
        if (chars := len(instructions)) > INSTRUCTIONS_CHARS_MAX:
            most = f"{INSTRUCTIONS_CHARS_MAX} at most"
            self._fault(place, f"is told {chars} characters, prompts and examples included; {most}")
        for name in agent.agents:
            other = self._agents.get(name)
            if other is None and name not in self._disabled:
                self._fault(place, f'there is no agent "{name}" to hand over to')
            elif other is not None and other.step:
                self._fault(place, f'cannot hand over to "{name}", which runs only as a step of a pipeline')
        for name in agent.pipelines or ():
            if name not in self._pipelines:
                self._fault(place, f'there is no pipeline "{name}"')
        for name in named[Kind.PIPELINE]:
            if name not in self._pipelines:
                self._note(place, f'mentions the pipeline "{name}", which is not there')
        if agent.found_max > FOUND_MAX:
            self._note(place, f"wants {agent.found_max} results of a search, which gives {FOUND_MAX} at most")
        called = runnable if agent.pipelines is None else (*agent.pipelines, *named[Kind.PIPELINE])
        internal = agent.step or agent.visibility is Visibility.INTERNAL
        member = Member(
            replace(spec, instructions=instructions),
            agent.description,
            agent.control or (Control.TO_PARENT if internal else Control.RETAIN),
            agent.visibility,
            calls_max=agent.calls_max,
            agents=self._targets(agent, (*agent.agents, *named[Kind.AGENT])),
            pipelines=tuple(name for name in dict.fromkeys(called) if name in runnable),
            tools=self._used(agent, named[Kind.TOOL]),
            sources=agent.sources,
            found_max=min(agent.found_max, FOUND_MAX),
            whole_documents=agent.whole_documents,
        )
        if not agent.step:
            return member
        if agent.agents or named[Kind.AGENT] or named[Kind.PIPELINE]:
            self._note(
                place, "is a step of a pipeline, and those hand over to nobody: what it says of that is left out"
            )
        return replace(
            member, step=True, visibility=Visibility.INTERNAL, control=Control.TO_PARENT, agents=(), pipelines=()
        )

    def _targets(self, agent: DraftAgent, names: Iterable[str]) -> tuple[str, ...]:
        """To whom it may hand over: agents that are there, no steps, not itself."""
        targets: list[str] = []
        for name in dict.fromkeys(names):
            other = self._agents.get(name)
            if other is not None and not other.step and name != agent.spec.name:
                targets.append(name)
            elif agent.step:
                continue  # it is told once that it hands over to nobody
            elif name == agent.spec.name:
                self._note(agent.place, "mentions itself, which means nothing")
            elif other is not None:
                self._note(agent.place, f'mentions "{name}", which runs only as a step of a pipeline')
            else:
                why = "is disabled" if name in self._disabled else "is not there"
                self._note(agent.place, f'mentions the agent "{name}", which {why}')
        return tuple(targets)

    def _used(self, agent: DraftAgent, mentioned: Sequence[str]) -> tuple[str, ...]:
        for name in mentioned:
            if name not in self._tools and not agent.spec.tools:  # else it may be one of the server's
                self._note(agent.place, f'mentions the tool "{name}", which is not there')
        known = (name for name in dict.fromkeys((*agent.tools, *mentioned)) if name in self._tools)
        return tuple(dict.fromkeys(self._tools[name].tool.spec.name for name in known))

    def _instructions(self, agent: DraftAgent, mentioned: Sequence[str]) -> str:
        """All that its model is told: what it was written, examples, variables, prompts."""
        for name in mentioned:
            if name not in self._prompts:
                self._note(agent.place, f'mentions the prompt "{name}", which is not there')
        parts = [spoken(agent.spec.instructions)]
        if agent.examples.strip():
            parts.append(f"# Examples\n\n{spoken(agent.examples)}")
        variables = [prompt for prompt in self._prompts.values() if prompt.kind is PromptKind.VARIABLE]
        if variables:
            parts.append("# Variables\n\n" + "\n".join(f"{each.name}: {spoken(each.text)}" for each in variables))
        prompts = _with_those_inside(mentioned, self._prompts)
        texts = [f"## {each.name}\n\n{spoken(each.text)}" for each in prompts if each.kind is not PromptKind.VARIABLE]
        if texts:
            parts.append("\n\n".join(("# Prompts", *texts)))
        return "\n\n".join(part for part in parts if part.strip())


def _with_those_inside(names: Sequence[str], prompts: Mapping[str, DraftPrompt]) -> list[DraftPrompt]:
    """The prompts of these names, and those that they mention themselves; each once, in the order of mention."""
    found: dict[str, DraftPrompt] = {}
    left = list(names)
    while left:
        prompt = prompts.get(left.pop(0))
        if prompt is not None and prompt.name not in found:
            found[prompt.name] = prompt
            left.extend(mention.name for mention in mentions(prompt.text) if mention.kind is Kind.PROMPT)
    return list(found.values())
