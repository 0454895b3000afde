"""Test profiles, and simulations: a workflow is talked to by somebody who plays a user, and what it did is judged.

    Suite ── simulations ──┬─ scenario   whom the user plays (or `says`: what it says, word by word)
                           ├─ profile    what is known of that user, and which tools are only played
                           ├─ checks     looked at without a model
                           └─ criteria   told to a model that judges

Source: rowboat spec 6.3. What is ours: `says`, `checks`, and that a simulation may be repeated.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import ClassVar, Literal

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage
from dragoman.core.workflows import TRANSFER, target_of

TURNS = 5
"""What the user says in one simulation, at most, where it does not say otherwise."""


class ProfileDraft(Struct, frozen=True, omit_defaults=True):
    """What a test profile says. `context` is what is known of the user; it goes to the agents as a system message.

    `mock_tools`: the results of all tools of the workflow are invented, by `mock_prompt` if there is one, else by each
    tool's own instructions.
    """

    name: str
    context: str = ""
    mock_tools: bool = False
    mock_prompt: str = ""


class TestProfile(Struct, frozen=True):
    """One that the project keeps. Times are Unix seconds."""

    __test__: ClassVar[bool] = False
    """It is no test of ours, whatever its name begins with."""

    id: str
    """24 hex digits."""
    name: str
    context: str = ""
    mock_tools: bool = False
    mock_prompt: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0


class Scenario(Struct, frozen=True):
    """Whom the user plays, and what that one wants."""

    name: str
    description: str


class Checks(Struct, frozen=True, omit_defaults=True):
    """What can be looked at without a model. Texts are looked for in what the user was told, in any case of letters."""

    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    last_agent: str = ""
    tools_called: tuple[str, ...] = ()
    tools_not_called: tuple[str, ...] = ()
    replies_max: int | None = None
    """Messages to the user."""

    @property
    def any(self) -> bool:
        return self != Checks()


class Simulation(Struct, frozen=True):
    """`profile` is a name in the suite or the id of one that the project keeps, "" = none. It passes if its checks hold
    and the judge says that it meets `pass_criteria` ("" = nobody is asked)."""

    name: str
    scenario: Scenario
    profile: str = ""
    pass_criteria: str = ""
    checks: Checks = Checks()
    says: tuple[str, ...] = ()
    """The user's first messages as they are; those that follow are made up by a model."""
    turns: int = TURNS
    """What the user says, at most."""
    description: str = ""


class Suite(Struct, frozen=True):
    """What a file of simulations holds. `workflow` is the id of a version, a configured name or the path of a file, ""
    = the published one. Models by name, "" = the default one."""

    simulations: tuple[Simulation, ...]
    profiles: tuple[ProfileDraft, ...] = ()
    workflow: str = ""
    project: str = ""
    user_model: str = ""
    judge_model: str = ""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    """It could not be told: something broke, or the judge gave no verdict."""


class Line(Struct, frozen=True, omit_defaults=True):
    """One thing that was said or done. `name` is the agent or the tool.

    `agent` is text for the user, `internal` text for other agents. `tool`: `text` is the result, and `arguments` what
    it was called with. `handed`: `name` handed over to `text`.
    """

    role: Literal["user", "agent", "internal", "tool", "handed"]
    text: str
    name: str = ""
    arguments: str = ""


class SimulationResult(Struct, frozen=True):
    """How one simulation went; `attempt` counts from 1. `details` say why."""

    simulation: str
    attempt: int
    verdict: Verdict
    details: str
    transcript: tuple[Line, ...]
    took_s: float = 0.0
    usage: Usage = Usage()
    """Of the workflow's agents."""


class Status(StrEnum):
    """Of a run of simulations."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    """All were simulated, however they went."""
    CANCELLED = "cancelled"
    FAILED = "failed"
    """Nothing was heard of it for long: its process is gone."""
    ERROR = "error"
    """It could not be begun or gone on with; `SimulationRun.detail` says why."""


class Aggregate(Struct, frozen=True):
    total: int
    passed: int
    failed: int
    errors: int


class SimulationRun(Struct, frozen=True):
    """`planned` is how many results there will be. Times are Unix seconds."""

    id: str
    name: str
    workflow: str
    """Id of the version, or its configured name."""
    status: Status
    planned: int
    started_at: float
    completed_at: float | None = None
    results: tuple[SimulationResult, ...] = ()
    detail: str = ""

    @property
    def aggregate(self) -> Aggregate:
        verdicts = [result.verdict for result in self.results]
        passed, failed, errors = (verdicts.count(each) for each in Verdict)
        return Aggregate(len(verdicts), passed, failed, errors)


# -- reading what was said -----------------------------------------------------------------------------------------


def lines_of(answered: Iterable[Message]) -> tuple[Line, ...]:
    """What was said and done in a turn (`Outcome.answered`), in order. Hand-overs that were refused are left out."""
    lines: list[Line] = []
    calls: dict[str, tuple[ToolCall, str]] = {}
    for message in answered:
        for part in message.parts:
            if isinstance(part, Text) and part.text:
                lines.append(Line("internal" if part.hidden else "agent", part.text, message.name))
            elif isinstance(part, ToolCall):
                calls[part.id] = (part, message.name)
            elif isinstance(part, ToolResult) and part.call_id in calls:
                call, agent = calls[part.call_id]
                if call.name != TRANSFER:
                    lines.append(Line("tool", part.content, call.name, call.arguments))
                elif not part.is_error:
                    lines.append(Line("handed", target_of(part.content) or part.content, agent))
    return tuple(lines)


def echoed(answered: Sequence[Message]) -> tuple[Message, ...]:
    """What a caller of the API has of a turn, and sends back with the next: all but refused hand-overs."""
    refused = {
        part.call_id for message in answered for part in message.parts if isinstance(part, ToolResult) and part.is_error
    } & {call.id for message in answered for call in message.calls if call.name == TRANSFER}
    kept: list[Message] = []
    for message in answered:
        parts = tuple(
            part
            for part in message.parts
            if not (isinstance(part, ToolCall) and part.id in refused)
            and not (isinstance(part, ToolResult) and part.call_id in refused)
        )
        if parts:
            kept.append(replace(message, parts=parts))
    return tuple(kept)


def failed_checks(checks: Checks, lines: Sequence[Line]) -> tuple[str, ...]:
    """What of the checks does not hold, a sentence each."""
    told = [line for line in lines if line.role == "agent"]
    said = "\n".join(line.text for line in told).casefold()
    called = {line.name for line in lines if line.role == "tool"}
    last = told[-1].name if told else ""
    faults = [f'The user was not told "{text}".' for text in checks.contains if text.casefold() not in said]
    faults += [f'The user was told "{text}".' for text in checks.not_contains if text.casefold() in said]
    if checks.last_agent and last != checks.last_agent:
        faults.append(f"The last to speak was {last or 'nobody'} and not {checks.last_agent}.")
    faults += [f"{tool} was not called." for tool in checks.tools_called if tool not in called]
    faults += [f"{tool} was called." for tool in checks.tools_not_called if tool in called]
    if checks.replies_max is not None and len(told) > checks.replies_max:
        faults.append(f"The user got {len(told)} messages, and {checks.replies_max} are allowed.")
    return tuple(faults)


def as_text(lines: Iterable[Line]) -> str:
    """A transcript to be read, one line a thing said or done."""
    return "\n".join(map(_shown, lines))


def _shown(line: Line) -> str:
    if line.role == "user":
        return f"User: {line.text}"
    if line.role == "agent":
        return f"{line.name or 'Assistant'}: {line.text}"
    if line.role == "internal":
        return f"[{line.name}, to other agents: {line.text}]"
    if line.role == "tool":
        return f"[{line.name} {line.arguments} gave: {line.text}]"
    return f"[{line.name} handed over to {line.text}]"
