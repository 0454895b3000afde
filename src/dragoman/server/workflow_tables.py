"""Workflows in TOML: tables `[workflows.NAME]` of the config, or a file of one workflow.

    start = "desk"                                  [tools.get_order]       kind = "webhook" | "mock" | "mcp"
    greeting = "Hello!"                             [prompts.tone]          text = "…", kind = "style" | "variable"
    [agents.desk]                                   [pipelines.intake]      steps = ["extract", "register"]
    instructions = "… [@agent:billing] …"

Mentions mean what they mean in Rowboat's JSON (`core.workflow_drafts`). An agent that stands in `steps` runs as a step
and no otherwise. Every fault is named by its key path, all at once; a fault in one table hides those that only show
once it can be read.
"""

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Struct, field

from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.errors import BadRequest, FieldFault, TooLarge
from dragoman.core.versions import SOURCE_BYTES_MAX, is_version_id
from dragoman.core.workflow_checks import check, errors
from dragoman.core.workflow_drafts import (
    FOUND_MAX,
    Compiled,
    Draft,
    DraftAgent,
    DraftPipeline,
    DraftPrompt,
    DraftTool,
    PromptKind,
    compiled,
    refuse,
)
from dragoman.core.workflow_tools import name_fault, repeat_of, schema_of
from dragoman.core.workflows import Control, ToolKind, Visibility, Workflow, WorkflowTool
from dragoman.server.config_reading import Faults, Reader, nearest
from dragoman.server.config_shapes import Config, Seconds
from dragoman.server.config_sources import BadConfig

ALL = "*"
"""In an agent's `pipelines`: every one there is."""
APPROVAL_MAX_S = 86_400
TIMEOUT_MAX_S = 600
KINDS = (ToolKind.WEBHOOK, ToolKind.MOCK, ToolKind.MCP)
PROMPT_KINDS: Mapping[str, PromptKind] = {"style": PromptKind.STYLE, "variable": PromptKind.VARIABLE}

_UNSAID = -1
_BARE = re.compile(r"[A-Za-z0-9_-]+")

T = TypeVar("T", bound=Struct)
E = TypeVar("E", bound=StrEnum)


class WorkflowKeys(Struct, frozen=True):
    start: str = ""
    """An agent or a pipeline; "" = the first agent that is no step."""
    greeting: str = ""
    agents: object = None
    tools: object = None
    prompts: object = None
    pipelines: object = None


class FileKeys(WorkflowKeys, frozen=True):
    """Of a file of its own, which can say what it is called."""

    name: str = ""


class AgentKeys(Struct, frozen=True):
    """Lists name what may be used besides what is mentioned."""

    instructions: str
    description: str = ""
    examples: str = ""
    model: str = ""
    control: str = ""
    visibility: str = Visibility.USER_FACING.value
    calls_max: Annotated[int, Meta(ge=0, le=1_000)] = _UNSAID
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    """The workflow's, by name; anything else is a pattern over the server's own."""
    pipelines: tuple[str, ...] = (ALL,)
    sources: tuple[str, ...] = ()
    found_max: Annotated[int, Meta(ge=1, le=FOUND_MAX)] = 3
    whole_documents: bool = False
    history_tokens: Annotated[int, Meta(ge=0, le=2_000_000)] = 24_000
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    approval_s: Seconds = field(default=Seconds(120), name="approval")


class ToolKeys(Struct, frozen=True):
    kind: str
    description: str = ""
    parameters: dict[str, object] = field(default_factory=dict[str, object])
    instructions: str = ""
    """What whoever invents its results goes by."""
    server: str = ""
    repeat: str = ""
    timeout_s: Seconds = field(default=Seconds(60), name="timeout")


class PromptKeys(Struct, frozen=True):
    text: str
    kind: str = "style"


class PipelineKeys(Struct, frozen=True):
    steps: tuple[str, ...]
    description: str = ""


def configured_workflows(config: Config) -> dict[str, Workflow]:
    """Those of a config, by name. Raises BadConfig with every fault."""
    faults = Faults()
    made = read_workflows(config, faults)
    if faults:
        raise BadConfig("The workflows of the configuration cannot be used:", faults=tuple(faults))
    return {name: each.workflow for name, each in made.items()}


def read_workflows(config: Config, faults: Faults) -> dict[str, Compiled]:
    """Those that can be used, by name; notes every fault of the others."""
    made: dict[str, Compiled] = {}
    for name, table in config.workflows.items():
        path = f"workflows.{name}"
        if is_version_id(name):
            faults.add(path, "looks like the id of a version that was imported; choose another name")
        try:
            each = _compiled(table, WorkflowKeys, path, name)
        except BadRequest as error:
            faults.extend(_line(fault.field, fault.message) for fault in error.faults)
            continue
        found = errors(check(each.workflow))
        faults.extend(_line(f"{path}.{finding.place}" if finding.place else path, finding.message) for finding in found)
        for member in each.workflow.members:
            if member.agent.model and member.agent.model not in config.models:
                what = f'there is no model "{member.agent.model}"; {nearest(member.agent.model, config.models)}'
                faults.add(f"{path}.agents.{_key(member.name)}.model", what)
        made[name] = each
    return made


def workflow_warnings(config: Config) -> tuple[str, ...]:
    """What is allowed in the workflows of a config that was checked, and most likely a slip."""
    sentences: list[str] = []
    for name, made in read_workflows(config, Faults()).items():
        path = f"workflows.{name}"
        sentences.extend(_line(note.place, note.message) for note in made.notes)
        for finding in check(made.workflow):
            sentences.append(_line(f"{path}.{finding.place}" if finding.place else path, finding.message))
    return tuple(sentences)


def workflow_from_toml(source: bytes, *, name: str = "") -> Compiled:
    """A file of one workflow; `name` instead of its own. Raises BadRequest with every fault."""
    if len(source) > SOURCE_BYTES_MAX:
        raise TooLarge(
            f"The workflow has {len(source)} bytes; {SOURCE_BYTES_MAX} at most can be.", bytes_max=SOURCE_BYTES_MAX
        )
    try:
        table = tomllib.loads(source.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRequest(f"The workflow is not UTF-8 text (byte {error.start}); save it in that encoding.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"The workflow is neither JSON nor TOML: {error}.") from None
    except RecursionError:
        raise BadRequest("The workflow is nested too deeply.") from None
    return _compiled(table, FileKeys, "", name)


def _compiled(table: object, shape: type[WorkflowKeys], path: str, name: str) -> Compiled:
    """Raises BadRequest."""
    reading = _Reading(path)
    keys = reading.read(table, shape, path)
    if keys is None:
        reading.refuse()
        raise BadRequest("The workflow cannot be used.")
    pipelines = reading.section(keys.pipelines, "pipelines", PipelineKeys)
    tools = reading.section(keys.tools, "tools", ToolKeys)
    agents = reading.section(keys.agents, "agents", AgentKeys)
    prompts = reading.section(keys.prompts, "prompts", PromptKeys)
    steps = {step for _, pipeline, _ in pipelines for step in pipeline.steps}
    draft = Draft(
        name or (keys.name if isinstance(keys, FileKeys) else ""),
        keys.start,
        tuple(_agent(reading, *each, steps=steps, tools={name for name, _, _ in tools}) for each in agents),
        tuple(
            DraftPrompt(name, reading.one_of(prompt.kind, PROMPT_KINDS, f"{place}.kind"), prompt.text, place)
            for name, prompt, place in prompts
        ),
        tuple(_tool(reading, *each) for each in tools),
        tuple(DraftPipeline(name, each.steps, place, each.description) for name, each, place in pipelines),
        keys.greeting,
        reading.place("start"),
        reading.place("agents"),
    )
    reading.refuse()
    return compiled(draft)


def _agent(
    reading: "_Reading", name: str, keys: AgentKeys, place: str, *, steps: set[str], tools: set[str]
) -> DraftAgent:
    if not 1 <= keys.approval_s <= APPROVAL_MAX_S:
        reading.fault(f"{place}.approval", "must be from 1s to 1d")
    controls = {each.value: each for each in Control}
    return DraftAgent(
        AgentSpec(
            name,
            keys.instructions,
            tuple(tool for tool in keys.tools if tool not in tools),
            keys.model,
            keys.history_tokens,
            ask=keys.ask,
            deny=keys.deny,
            approval_s=float(keys.approval_s),
        ),
        place,
        keys.examples,
        keys.description,
        name in steps,
        control=reading.one_of(keys.control, controls, f"{place}.control") if keys.control else None,
        visibility=reading.one_of(keys.visibility, {each.value: each for each in Visibility}, f"{place}.visibility"),
        calls_max=None if keys.calls_max == _UNSAID else keys.calls_max,
        agents=keys.agents,
        tools=tuple(tool for tool in keys.tools if tool in tools),
        pipelines=None if ALL in keys.pipelines else keys.pipelines,
        sources=keys.sources,
        found_max=keys.found_max,
        whole_documents=keys.whole_documents,
    )


def _tool(reading: "_Reading", name: str, keys: ToolKeys, place: str) -> DraftTool:
    kind = reading.one_of(keys.kind, {each.value: each for each in KINDS}, f"{place}.kind")
    if fault := name_fault(name):
        reading.fault(place, f"its name {fault}")
    if kind is ToolKind.MCP and not keys.server:
        reading.fault(f"{place}.server", "is missing: which MCP server, of the project or of [connections], has it?")
    if kind is not ToolKind.MCP and keys.server:
        reading.fault(f"{place}.server", 'is for the kind "mcp"; take it out')
    if not 0 < keys.timeout_s <= TIMEOUT_MAX_S:
        reading.fault(f"{place}.timeout", "must be longer than nothing and 10m at most")
    repeats = {each.value: each for each in Repeat}
    spec = ToolSpec(
        name,
        keys.description,
        schema_of(keys.parameters, f"{place}.parameters", reading.schema_faults),
        repeat=reading.one_of(keys.repeat, repeats, f"{place}.repeat") if keys.repeat else repeat_of(kind),
        toolset="workflow",
        timeout_s=float(keys.timeout_s),
    )
    return DraftTool(name, WorkflowTool(spec, kind, keys.instructions, keys.server), place)


class _Reading:
    """Reads the tables of one workflow and gathers what is wrong with them. `path` is where it stands, "" = a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader = Reader({}, resolve_secrets=False, refused_kinds={})
        self.schema_faults: list[FieldFault] = []

    def place(self, *keys: str) -> str:
        return ".".join((*([self._path] if self._path else []), keys[0], *map(_key, keys[1:])))

    def fault(self, place: str, sentence: str) -> None:
        self._reader.faults.add(place, sentence)

    def read(self, value: object, shape: type[T], place: str) -> T | None:
        read: T | None = self._reader.read(value, shape, place)
        return read

    def section(self, value: object, key: str, shape: type[T]) -> list[tuple[str, T, str]]:
        """Name, keys and place of each table below one."""
        if value is None:
            return []
        if not isinstance(value, dict):
            self.fault(self.place(key), f"is a table; write [{self.place(key)}.NAME] and its keys below")
            return []
        found: list[tuple[str, T, str]] = []
        for name, table in cast("dict[str, Any]", value).items():
            place = self.place(key, name)
            if (read := self.read(table, shape, place)) is not None:
                found.append((name, read, place))
        return found

    def one_of(self, text: str, choices: Mapping[str, E], place: str) -> E:
        """What the text stands for; after a fault any of them."""
        if text not in choices:
            self.fault(place, f'there is no "{text}" for this; {nearest(text, choices)}')
        return choices.get(text, next(iter(choices.values())))

    def refuse(self) -> None:
        """Raises BadRequest if there was a fault."""
        split = (fault.partition(": ") for fault in self._reader.faults)
        refuse((*(FieldFault(place, message) for place, _, message in split), *self.schema_faults))


def _key(name: str) -> str:
    """As it is written in a key path of TOML."""
    return name if _BARE.fullmatch(name) else msgspec.json.encode(name).decode()


def _line(place: str, message: str) -> str:
    return f"{place}: {message}" if place else message
