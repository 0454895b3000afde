"""Workflow JSON of both generations, compiled (rowboat spec 6.1).

    G1  many versions per project: `projectId`, `createdAt`, `lastUpdatedAt`     a tool without a flag is a webhook
    G2  two in the project: `lastUpdatedAt` alone, `pipelines`, more tool flags   a tool without a flag is a mock (Q20)

What runs a tool (4.5): `mockTool` before `isMcp` before Composio before Gemini before `isWebhook`. Composio, Gemini and
upstream's library are products of others that are not asked here: their tools are there, and say so when called; where
such a tool has a name that no model takes, it is offered by the nearest one. Any other tool of such a name is refused,
for webhooks and MCP servers are called by it.
"""

from collections.abc import Sequence
from enum import EnumMeta
from typing import Any, TypeVar, cast, get_args

import msgspec
from msgspec import Struct

from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.errors import BadRequest, FieldFault, TooLarge
from dragoman.core.versions import SOURCE_BYTES_MAX
from dragoman.core.workflow_checks import Finding, warning
from dragoman.core.workflow_drafts import (
    Compiled,
    Draft,
    DraftAgent,
    DraftPipeline,
    DraftPrompt,
    DraftTool,
    compiled,
    refuse,
)
from dragoman.core.workflow_tools import name_fault, repeat_of, schema_of, usable_name
from dragoman.core.workflows import ToolKind, Workflow, WorkflowTool
from dragoman.dialects.rowboat.workflow_shapes import (
    Agent,
    AgentType,
    Document,
    Pipeline,
    Prompt,
    RagReturnType,
    Tool,
)
from dragoman.wire.structs import parse

VALUES_MAX = 100_000
"""Values of any kind in one document."""

S = TypeVar("S", bound=Struct)

_BOM = b"\xef\xbb\xbf"
_LATER_FLAGS = frozenset({"isWebhook", "isLibrary", "isComposio", "composioData", "isGeminiImage"})
"""Keys of tools that only the second generation has."""
_AROUND = ("liveWorkflow", "draftWorkflow", "workflowJson", "workflow")
"""Keys of documents that are more than a workflow."""
_WHY = "{what} is a service of others that this server does not ask. Give the tool a webhook or an MCP server instead."


def compile_workflow(source: bytes | dict[str, Any], *, name: str = "") -> Workflow:
    """The workflow that a document describes; `name` instead of its own. Raises BadRequest with every fault."""
    return compile_with_notes(source, name=name).workflow


def compile_with_notes(source: bytes | dict[str, Any], *, name: str = "") -> Compiled:
    """The same, with what of the document is not in the workflow."""
    whole = _document(source)
    faults: list[FieldFault] = []
    document = _read(whole, Document, "", faults)
    if document is None:
        _refuse_wrapped(whole)
        refuse(faults)
        raise BadRequest("The workflow cannot be used.")
    later = _is_second(whole)
    notes: list[Finding] = []
    tools = _each(document.tools, Tool, "tools", faults)
    agents = _each(document.agents, Agent, "agents", faults)
    draft = Draft(
        name or document.name,
        document.start_agent,
        tuple(_agent(agent, place) for agent, place in agents),
        tuple(
            DraftPrompt(prompt.name, prompt.type, prompt.prompt, place)
            for prompt, place in _each(document.prompts, Prompt, "prompts", faults)
        ),
        tuple(_tool(tool, place, later, document.mock_tools, faults, notes) for tool, place in tools),
        tuple(
            DraftPipeline(pipeline.name, pipeline.agents, place, pipeline.description)
            for pipeline, place in _each(document.pipelines, Pipeline, "pipelines", faults)
        ),
    )
    refuse(faults)  # before what refers to each other is looked at: half of it may be missing now
    for agent, place in agents:
        if agent.type is AgentType.POST_PROCESS:
            notes.append(warning(place, "of type post_process: it answers like any other agent, and after no answer"))
    made = compiled(draft)
    named = {each.place: f"{each.place.partition('.')[0]}.{each.name}" for each in (*draft.tools, *draft.pipelines)}
    named |= {agent.place: f"agents.{agent.spec.name}" for agent in draft.agents}
    # Each has a name now, which says more to whoever reads it than the how many-th it is.
    found = (warning(named.get(note.place, note.place), note.message) for note in (*notes, *made.notes))
    return Compiled(made.workflow, tuple(found))


def _document(source: bytes | dict[str, Any]) -> dict[str, Any]:
    if isinstance(source, dict):
        return source
    if len(source) > SOURCE_BYTES_MAX:
        raise TooLarge(
            f"The workflow has {len(source)} bytes; {SOURCE_BYTES_MAX} at most can be.", bytes_max=SOURCE_BYTES_MAX
        )
    text = source.removeprefix(_BOM)
    try:
        value = parse(text, values_max=VALUES_MAX)
    except BadRequest as error:
        raise _unreadable(text, error) from None
    if not isinstance(value, dict):
        raise BadRequest('The workflow must be a JSON object with "agents", "prompts", "tools" and "startAgent".')
    return cast("dict[str, Any]", value)


def _unreadable(text: bytes, error: BadRequest) -> BadRequest:
    """What was said of the body of a request, said of a file."""
    fault = error.faults[0]
    if fault.type == "json_invalid":
        line = text[: int(fault.field)].count(b"\n") + 1
        return BadRequest(f"The workflow is not valid JSON (line {line}).")
    where = f" ({fault.field})" if fault.field else ""
    return BadRequest(error.detail.rstrip(".").replace("The body", "The workflow") + where + ".")


def _refuse_wrapped(whole: dict[str, Any]) -> None:
    """Raises BadRequest if the workflow stands further inside: a whole project, or what was sent to make one."""
    inside = next((key for key in _AROUND if "agents" not in whole and whole.get(key)), None)
    if inside is not None:
        raise BadRequest(f'This is no workflow, but holds one as "{inside}": take that into a file of its own.')


def _is_second(whole: dict[str, Any]) -> bool:
    """Whether a document is of the second generation."""
    if whole.get("pipelines") is not None or whole.get("mockTools") is not None:
        return True
    tools: object = whole.get("tools")
    items = cast("list[object]", tools) if isinstance(tools, list) else []
    if any(isinstance(item, dict) and not _LATER_FLAGS.isdisjoint(cast("dict[str, Any]", item)) for item in items):
        return True
    return "lastUpdatedAt" in whole and not ("projectId" in whole and "createdAt" in whole)


# -- entities --------------------------------------------------------------------------------------------------------


def _agent(agent: Agent, place: str) -> DraftAgent:
    return DraftAgent(
        AgentSpec(agent.name, agent.instructions, tools=(), model=agent.model),
        place,
        agent.examples,
        agent.description,
        agent.type is AgentType.PIPELINE,
        agent.disabled,
        agent.control_type,
        agent.output_visibility,
        agent.max_calls_per_parent_agent,
        sources=agent.rag_data_sources,
        found_max=agent.rag_k,
        whole_documents=agent.rag_return_type is RagReturnType.CONTENT,
    )


def _tool(
    tool: Tool, place: str, later: bool, mocks: dict[str, str], faults: list[FieldFault], notes: list[Finding]
) -> DraftTool:
    mocked = tool.name in mocks
    kind, why = (ToolKind.MOCK, "") if mocked else _kind(tool, later)
    name = tool.name
    if kind is ToolKind.MISSING:
        name = usable_name(name)  # that it cannot be run is told by whoever checks the workflow
        if name != tool.name:
            notes.append(warning(place, f'is offered to models as "{name}": they take no other name'))
    elif fault := name_fault(name):
        faults.append(FieldFault(f"{place}.name", fault))
    spec = ToolSpec(
        name,
        tool.description,
        schema_of(tool.parameters, f"{place}.parameters", faults),
        repeat=tool.repeat or repeat_of(kind),
        toolset="workflow",
    )
    if tool.timeout is not None:
        spec = msgspec.structs.replace(spec, timeout_s=tool.timeout)
    instructions = mocks[tool.name] if mocked else tool.mock_instructions
    server = tool.mcp_server_name if kind is ToolKind.MCP else ""
    return DraftTool(tool.name, WorkflowTool(spec, kind, instructions, server, why), place)


def _kind(tool: Tool, later: bool) -> tuple[ToolKind, str]:
    """What runs it, and if nothing does, why."""
    if tool.mock_tool:
        return ToolKind.MOCK, ""
    if tool.is_mcp:
        if tool.mcp_server_name:
            return ToolKind.MCP, ""
        return ToolKind.MISSING, "It says that an MCP server runs it, and not which one."
    if tool.is_composio:
        return ToolKind.MISSING, _WHY.format(what="Composio")
    if tool.is_gemini_image:
        return ToolKind.MISSING, _WHY.format(what="Gemini's image generator")
    if tool.is_webhook:
        return ToolKind.WEBHOOK, ""
    if tool.is_library:
        return ToolKind.MISSING, _WHY.format(what="Rowboat's tool library")
    return (ToolKind.MOCK if later else ToolKind.WEBHOOK), ""


# -- reading with every fault ----------------------------------------------------------------------------------------


def _each(items: Sequence[object], shape: type[S], section: str, faults: list[FieldFault]) -> list[tuple[S, str]]:
    """Those that could be read, each with its place."""
    places = [f"{section}.{at}" for at in range(len(items))]
    read = [(_read(item, shape, place, faults), place) for item, place in zip(items, places, strict=True)]
    return [(found, place) for found, place in read if found is not None]


def _read(value: object, shape: type[S], place: str, faults: list[FieldFault]) -> S | None:
    """A struct of an object, field by field; None after a fault."""
    if not isinstance(value, dict):
        faults.append(FieldFault(place, "must be an object"))
        return None
    given = cast("dict[str, object]", value)
    fields: dict[str, Any] = {}
    clean = True
    for info in msgspec.structs.fields(shape):
        where = f"{place}.{info.encode_name}" if place else info.encode_name
        item = given.get(info.encode_name)
        if item is None:
            if info.required:
                faults.append(FieldFault(where, "is missing"))
                clean = False
            continue
        try:
            fields[info.name] = msgspec.convert(item, info.type)
        except msgspec.ValidationError as error:
            faults.append(FieldFault(where, _sentence(str(error), info.type)))
            clean = False
    return shape(**fields) if clean else None


def _sentence(text: str, type_: Any) -> str:
    """msgspec says ``Expected `int` >= 1`` and ``Invalid enum value 'x'``, with or without a place inside."""
    choices = next((each for each in (type_, *get_args(type_)) if isinstance(each, EnumMeta)), None)
    if choices is not None:
        return f"must be one of: {', '.join(str(choice.value) for choice in cast('Any', choices))}"
    text, _, inside = text.partition(" - at `$")
    inside = inside.strip("`.")
    return f"{text[:1].lower()}{text[1:]}{f' (at {inside})' if inside else ''}".replace("`", "")
