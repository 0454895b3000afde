"""Who speaks in a turn of a workflow: hand-overs, who is told what, and when the turn is over. Pure.

                 ┌──────────── RETURNED, or STEPPED to the next step ◄────────────┐
                 ▼                                                                │ text of an internal one
    opening ──► speaker ── asks for a transfer ──► allowed? ── yes ──► HandOver ──┴► speaker
     speaker     │                                    │ no: refused, it goes on
                 └── text of a user-facing one ──► the end; its text is the answer

An internal agent with nobody to report to, such as the last step of a pipeline with which a workflow starts, answers
the user itself: what it said is said once more, aloud. So whatever completes ends with a text for the user (rowboat
spec Q6). Every turn ends: forward hand-overs are counted (`SWITCHES_MAX`), ways back are as many as those, and what one
agent may ask of its model before it hands over is the run's budget. Sources: rowboat spec 4.2 to 4.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import msgspec
from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.messages import Message, ToolCall
from dragoman.core.workflows import (
    CALLS_MAX,
    SEARCH,
    TARGET,
    TRANSFER,
    Control,
    Handing,
    Member,
    Pipeline,
    Staging,
    Workflow,
    WorkflowTool,
    target_of,
)
from dragoman.runtime.tool_ports import StagedCall

SWITCHES_MAX = 25
"""Hand-overs in one turn, ways back and steps of pipelines not counted (rowboat spec 4.3)."""
DESCRIPTION_CHARS_MAX = 300
"""Of each agent, where a model is told to whom it may hand over."""

NOT_HANDED_OVER = "not_handed_over"
"""Code of the result of a transfer that was refused. No wire shows such a call (rowboat spec 4.3, call caps)."""
REFUSED = "The conversation was not handed over: {why} Go on yourself, or choose one of those that are offered."

SEARCH_TOOL = ToolSpec(
    SEARCH,
    "Search the documents that belong to you. Ask with the words that an answer would hold.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    repeat=Repeat.PURE,
)


class Errand(Struct, frozen=True):
    """Somebody is to be reported to: `caller`, "" = nobody. `at` is the step of `pipeline` that is at work."""

    caller: str
    pipeline: str = ""
    at: int = 0


class Stage(Struct, frozen=True):
    """Where the word is. `asked` counts hand-overs by who made them and to whom."""

    speaker: str
    errands: tuple[Errand, ...] = ()
    asked: Mapping[tuple[str, str], int] = {}
    switches: int = 0
    given_by: str = ""
    """Who transferred the conversation to the speaker in this turn; "" = nobody."""


class Target(Struct, frozen=True):
    """Where a transfer would lead. `name` is what the model calls it."""

    name: str
    description: str
    to: str
    how: Handing
    pipeline: str = ""


class HandOver(Struct, frozen=True):
    """Give the word to `to`. `call` is the model's that asked for it, None = the server does it of its own accord;
    `refused` are results of its other calls."""

    to: str
    how: Handing
    pipeline: str = ""
    call: ToolCall | None = None
    refused: tuple[ev.ToolReturned, ...] = ()


class Cast:
    """A workflow in one turn. `opening` is who has the word first."""

    def __init__(self, workflow: Workflow, staging: Staging, opening: Stage) -> None:
        self.workflow = workflow
        self.staging = staging
        self._opening = opening
        # What was asked last: each hand-over is looked at by whoever equips the speaker and by the machine.
        self._staged: tuple[tuple[ev.HandedOver, ...], Stage] = ((), opening)
        self._aimed: tuple[Stage, tuple[Target, ...]] | None = None

    @cached_property
    def _members(self) -> dict[str, Member]:
        return {member.name: member for member in self.workflow.members}

    @cached_property
    def _pipelines(self) -> dict[str, Pipeline]:
        return {pipeline.name: pipeline for pipeline in self.workflow.pipelines}

    @cached_property
    def _tools(self) -> dict[str, WorkflowTool]:
        return {tool.spec.name: tool for tool in self.workflow.tools}

    def has(self, name: str) -> bool:
        return name in self._members

    def member(self, name: str) -> Member:
        return self._members[name]

    # -- where the word is -----------------------------------------------------------------------------------------

    def stage(self, handings: Iterable[ev.HandedOver]) -> Stage:
        """After these hand-overs, in order."""
        handings = tuple(handings)
        if handings != self._staged[0]:
            self._staged = (handings, self._after(handings))
        return self._staged[1]

    def _after(self, handings: Sequence[ev.HandedOver]) -> Stage:
        first = self._opening
        speaker, errands, given_by = first.speaker, list(first.errands), first.given_by
        asked, switches = dict(first.asked), first.switches
        for handing in handings:
            how, before, pipeline = handing.how, handing.from_agent, handing.pipeline
            if how in _FORWARD:
                switches += 1
                pair = (before, pipeline or handing.to_agent)
                asked[pair] = asked.get(pair, 0) + 1
            match how:
                case Handing.TRANSFERRED:
                    given_by = before
                case Handing.CALLED | Handing.ENTERED:
                    errands.append(Errand(before, pipeline))
                case Handing.STEPPED:
                    top = errands.pop() if errands else Errand("")
                    errands.append(Errand(top.caller, top.pipeline, top.at + 1))
                case Handing.RETURNED:
                    errands = errands[:-1]
                case Handing.RESTARTED:
                    errands, given_by = ([Errand("", pipeline)] if pipeline else []), ""
            speaker = handing.to_agent
        return Stage(speaker, tuple(errands), asked, switches, given_by)

    def knows(self, handings: Iterable[ev.HandedOver]) -> bool:
        """Whether all that they name is in this workflow. A configured one may have changed since a run began."""
        names = {name for handing in handings for name in (handing.from_agent, handing.to_agent)}
        lines = {handing.pipeline for handing in handings if handing.pipeline}
        return names <= self._members.keys() and lines <= self._pipelines.keys()

    # -- what a speaker may call -----------------------------------------------------------------------------------

    def targets(self, stage: Stage) -> tuple[Target, ...]:
        """To whom the speaker may hand over now."""
        if self._aimed is None or self._aimed[0] is not stage:
            self._aimed = (stage, self._aims(stage))
        return self._aimed[1]

    def _aims(self, stage: Stage) -> tuple[Target, ...]:
        speaker = self.member(stage.speaker)
        if speaker.step or stage.switches >= SWITCHES_MAX:
            return ()
        names = dict.fromkeys(speaker.agents)
        if stage.given_by and not speaker.internal:
            names[stage.given_by] = None  # so that it can give the conversation back (rowboat spec 4.3)
        found: list[Target] = []
        for name in names:
            member = self._members.get(name)
            if member is None or member.step or name == stage.speaker or not _has_room(stage, name, member):
                continue
            how = Handing.CALLED if member.internal else Handing.TRANSFERRED
            found.append(Target(name, member.description, name, how))
        taken = {target.name for target in found}
        for name in speaker.pipelines:
            pipeline = self._pipelines.get(name)
            if pipeline is not None and name not in taken and _has_room(stage, name, self._first(pipeline)):
                found.append(Target(name, pipeline.description, pipeline.steps[0], Handing.ENTERED, name))
        return tuple(found)

    def _first(self, pipeline: Pipeline) -> Member:
        return self.member(pipeline.steps[0])

    def own_tools(self, name: str) -> tuple[ToolSpec, ...]:
        """The tools of the workflow that a member holds."""
        member = self.member(name)
        specs = tuple(self._tools[each].spec for each in member.tools if each in self._tools)
        return (*specs, SEARCH_TOOL) if member.sources else specs

    def staged(self, name: str, speaker: str, spec: ToolSpec | None) -> StagedCall | None:
        """How a call of this tool is run; None = it is the server's own and not mocked. `spec` is that of the server's
        tool of this name, if the speaker holds one."""
        member = self.member(speaker)
        if name in member.tools and name in self._tools:
            return StagedCall(member, self.staging, self._tools[name])
        if name == SEARCH and member.sources:
            return StagedCall(member, self.staging, spec=SEARCH_TOOL)
        if spec is not None and self.mocks(name):
            return StagedCall(member, self.staging, spec=spec)
        return None

    def mocks(self, name: str) -> bool:
        """Whether a model invents the results of this tool in this turn. Searches are mocked only by name."""
        return name in self.staging.mocks or (self.staging.mock_all and name != SEARCH)

    def repeat(self, name: str, speaker: str) -> Repeat | None:
        """What may be done with a call by the speaker that a crash cut off; None = it is of no tool of the workflow."""
        if name == SEARCH or self.mocks(name):
            return Repeat.PURE
        tool = self._tools.get(name) if name in self.member(speaker).tools else None
        return None if tool is None else tool.spec.repeat

    # -- what happens next -----------------------------------------------------------------------------------------

    def transfer(self, stage: Stage, calls: Sequence[ToolCall]) -> HandOver | tuple[ev.ToolReturned, ...]:
        """What comes of the transfers that the speaker asked for: the first that is allowed, or why none is."""
        targets = {target.name: target for target in self.targets(stage)}
        chosen: Target | None = None
        asked_by: ToolCall | None = None
        refused: list[ev.ToolReturned] = []
        for call in calls:
            target = targets.get(wanted := target_of(call.arguments))
            if target is not None and chosen is None:
                chosen, asked_by = target, call
                continue
            why = self._why_not(stage, wanted) if target is None else "one hand-over at a time."
            refused.append(ev.ToolReturned(call.id, REFUSED.format(why=why), is_error=True, code=NOT_HANDED_OVER))
        if chosen is None:
            return tuple(refused)
        return HandOver(chosen.to, chosen.how, chosen.pipeline, asked_by, tuple(refused))

    def _why_not(self, stage: Stage, wanted: str) -> str:
        if stage.switches >= SWITCHES_MAX:
            return f"it has changed hands {stage.switches} times in this turn."
        if wanted == stage.speaker:
            return "you have it already."
        if wanted in self._members or wanted in self._pipelines:
            return f"{wanted} is not to be called (again) by you in this turn."
        return "there is nobody of that name."

    def after_text(self, stage: Stage) -> HandOver | None:
        """Where the word goes once an internal speaker has said its text; None = there is nobody to report to."""
        speaker = self.member(stage.speaker)
        errand = stage.errands[-1] if stage.errands else Errand("")
        if errand.pipeline:
            steps = self._pipelines[errand.pipeline].steps
            if errand.at + 1 < len(steps):
                return HandOver(steps[errand.at + 1], Handing.STEPPED, errand.pipeline)
        elif speaker.control is Control.TO_START:
            start = self._members.get(self.workflow.start)
            if start is not None and not start.internal and stage.switches < SWITCHES_MAX:
                return HandOver(start.name, Handing.RESTARTED)
        return HandOver(errand.caller, Handing.RETURNED) if errand.caller else None


_FORWARD = (Handing.TRANSFERRED, Handing.CALLED, Handing.ENTERED, Handing.RESTARTED)


def open_cast(workflow: Workflow, staging: Staging, said: Iterable[Message]) -> Cast:
    """The workflow for a turn that follows upon these messages."""
    members = {member.name: member for member in workflow.members}
    names = [message.name for message in said if message.role == "assistant" and message.name]
    # One that spoke to others alone was cut off when it did: the word goes to who spoke with the user.
    aloud = [name for name in names if name not in members or not members[name].internal]
    last = staging.last if staging.last is not None else (aloud[-1] if aloud else "")
    speaker = _speaker_after(workflow, members, last, names)
    return Cast(workflow, staging, start_of(workflow) if speaker is None else Stage(speaker.name))


def start_of(workflow: Workflow) -> Stage:
    """Where a workflow begins."""
    members = [member.name for member in workflow.members]
    for pipeline in workflow.pipelines:
        if pipeline.name == workflow.start and workflow.start not in members and pipeline.steps:
            return Stage(pipeline.steps[0], (Errand("", pipeline.name),))
    # One that was kept with faults and never published may have a start that is not there.
    return Stage(workflow.start if workflow.start in members else members[0])


def _speaker_after(workflow: Workflow, members: Mapping[str, Member], last: str, names: Sequence[str]) -> Member | None:
    """Who speaks after a turn that `last` ended (rowboat spec 4.2); None = the workflow's start."""
    member = members.get(last)
    if member is None or member.internal or member.control is Control.TO_START:
        return None
    if member.control is Control.RETAIN:
        return member
    for name in reversed(names):
        before = members.get(name)
        if name != last and before is not None and not before.internal:
            return before
    return None


def transfer_tool(targets: Sequence[Target]) -> ToolSpec:
    """The tool by which a model hands over to one of these."""
    lines = [f"- {target.name}: {target.description[:DESCRIPTION_CHARS_MAX]}".rstrip(": ") for target in targets]
    return ToolSpec(
        TRANSFER,
        "Hand the conversation over to another agent, or have one do a part of the work and report back:\n"
        + "\n".join(lines),
        {
            "type": "object",
            "properties": {TARGET: {"type": "string", "enum": [target.name for target in targets]}},
            "required": [TARGET],
        },
        repeat=Repeat.PURE,
    )


def transfer_text(to: str) -> str:
    """The arguments and the result of a hand-over, spelled as its wire has it (rowboat spec 1.4)."""
    return f'{{"{TARGET}": {msgspec.json.encode(to).decode()}}}'


def transfers(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(call for call in calls if call.name == TRANSFER)


def is_greeting(messages: Sequence[Message]) -> bool:
    """Nobody has said anything: there is nothing to answer (rowboat spec 4.1, Q21)."""
    return all(message.role == "system" for message in messages)


def last_report(messages: Sequence[Message], *, begun: int) -> str:
    """What was last said by one agent to others, among the messages from `begun` on; "" if nothing was."""
    for message in reversed(messages[begun:]):
        if message.role == "assistant" and not message.text.strip() and message.full_text.strip():
            return message.full_text
    return ""


def _has_room(stage: Stage, name: str, member: Member) -> bool:
    most = member.calls_max if member.calls_max is not None else (CALLS_MAX if member.internal else None)
    return most is None or stage.asked.get((stage.speaker, name), 0) < most
