"""Workflows for tests of the runtime, a model that says what its script tells it reply by reply, and their tools."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.messages import Message, ToolCall, said
from dragoman.core.names import CallId, ProjectId
from dragoman.core.workflows import (
    TRANSFER,
    Control,
    Member,
    Pipeline,
    Staging,
    ToolKind,
    Visibility,
    Workflow,
    WorkflowTool,
)
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece
from dragoman.runtime.tool_ports import CallContext, StagedCall, ToolOutcome
from tests.parts import USAGE

LOOK_UP = ToolSpec("look_up", "Looks an order up.", {"type": "object"}, repeat=Repeat.PURE)


def member(name: str, **fields: Any) -> Member:
    spec = AgentSpec(name, f"You are {name}.", tools=(), model=fields.pop("model", ""))
    return Member(spec, fields.pop("description", f"Does what {name} does."), **fields)


def internal(name: str, **fields: Any) -> Member:
    return member(name, visibility=Visibility.INTERNAL, **{"control": Control.TO_PARENT, **fields})


def step(name: str, **fields: Any) -> Member:
    return internal(name, step=True, **fields)


def desk(**fields: Any) -> Workflow:
    """Front hands to Billing and Tech, asks Researcher, and has a pipeline of three steps."""
    members = (
        member("Front", agents=("Billing", "Tech", "Researcher", "Front"), pipelines=("Intake",)),
        member("Billing", agents=("Front",), tools=("look_up",)),
        member("Tech", control=Control.TO_START),
        internal("Researcher", calls_max=2),
        step("One"),
        step("Two"),
        step("Three"),
    )
    parts: dict[str, Any] = {
        "name": "desk",
        "start": "Front",
        "members": members,
        "tools": (WorkflowTool(LOOK_UP, ToolKind.WEBHOOK),),
        "pipelines": (Pipeline("Intake", ("One", "Two", "Three"), "Takes a claim in."),),
    }
    return Workflow(**{**parts, **fields})


def hand(to: str, *, id: str = "t1", text: str = "") -> ReplyDone:
    call = ToolCall(CallId(id), TRANSFER, f'{{"assistant": "{to}"}}')
    return ReplyDone(text, (call,), USAGE, "tool_calls")


def calls(*names: str, text: str = "") -> ReplyDone:
    """Calls of tools; a name with a colon is a transfer."""
    made = [
        ToolCall(CallId(f"c{n}"), TRANSFER, f'{{"assistant": "{name[1:]}"}}')
        if name.startswith(":")
        else ToolCall(CallId(f"c{n}"), name, "{}")
        for n, name in enumerate(names, start=1)
    ]
    return ReplyDone(text, tuple(made), USAGE, "tool_calls")


def say(text: str) -> ReplyDone:
    return ReplyDone(text, usage=USAGE)


class InTurn:
    """Gives the nth reply of a run from the nth place of its script; the last one for ever."""

    def __init__(self, *script: ReplyDone) -> None:
        self._script = script
        self.prompts: list[Prompt] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        number = int(prompt.key.rpartition(":")[2])
        done = self._script[min(number, len(self._script)) - 1]
        if stream and done.text:
            yield TextPiece(done.text)
        yield done

    async def close(self) -> None:
        pass

    def told(self, at: int) -> list[tuple[str, str]]:
        """The prompt of the nth reply: who said what; calls as `call name(arguments)`."""
        told: list[tuple[str, str]] = []
        for message in self.prompts[at - 1].messages:
            text = message.full_text
            if message.role == "tool":
                text = " | ".join(getattr(part, "content", "") for part in message.parts)
            for call in message.calls:
                text += f"call {call.name}({call.arguments})"
            told.append((message.role, text))
        return told

    def offered(self, at: int) -> list[str]:
        return [tool.name for tool in self.prompts[at - 1].tools]

    def targets(self, at: int) -> list[str]:
        """To whom the nth prompt's agent might hand over."""
        tool = next((tool for tool in self.prompts[at - 1].tools if tool.name == TRANSFER), None)
        return [] if tool is None else tool.parameters["properties"]["assistant"]["enum"]


class KeptVersions:
    """The workflows of a project by their ids."""

    def __init__(self, found: Mapping[str, Workflow], live: str = "") -> None:
        self._found = found
        self._live = live

    async def workflow(self, project: ProjectId, name: str) -> Workflow | None:
        return self._found.get(name)

    async def live(self, project: ProjectId) -> str:
        return self._live


class Answering:
    """Workflow tools that answer with their name, and remember what they were asked."""

    def __init__(self) -> None:
        self.called: list[tuple[str, StagedCall]] = []

    async def call(self, call: ToolCall, staged: StagedCall, context: CallContext) -> ToolOutcome:
        self.called.append((call.name, staged))
        return ToolOutcome(f"{call.name} of {staged.member.name}")


def staged(*texts: str, workflow: str = "w1", messages: Sequence[Message] = (), **fields: Any) -> ev.TurnReceived:
    """A turn that the workflow `w1` answers."""
    asked = tuple(messages) or tuple(said("user", text) for text in texts)
    deltas = fields.pop("deltas", False)
    instructions = fields.pop("instructions", ())
    return ev.TurnReceived(asked, deltas=deltas, instructions=instructions, staging=Staging(workflow, **fields))
