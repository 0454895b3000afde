"""Random workflows answered by random models, through the real driver: every turn ends, what completes ends with a text
for the user, and a crash at any place changes none of that."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.errors import ToolFailed
from dragoman.core.events import Event
from dragoman.core.messages import Message, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId, ProjectId, RunId
from dragoman.core.transcript import Transcript
from dragoman.core.workflows import (
    SEARCH,
    TARGET,
    TRANSFER,
    Control,
    Handing,
    Member,
    Pipeline,
    Staging,
    ToolKind,
    Visibility,
    Workflow,
    WorkflowTool,
)
from dragoman.runtime.budgets import Budget
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece
from dragoman.runtime.tool_ports import CallContext, StagedCall, ToolOutcome
from dragoman.runtime.workflow import NOT_HANDED_OVER, SWITCHES_MAX, transfer_text
from dragoman.stores.memory import MemoryStore
from tests.parts import LedgerTools
from tests.runtime.scene import Scene, scene_of
from tests.support import FixedClock

AGENTS = ("Ann", "Bob", "Cid", "Dot")
LINES = ("Line", "Loop")
STEPS_MAX = 3
"""Of a pipeline."""
BUDGET = Budget(steps=4)
"""Small: a model that never ends must come to its end soon."""
PATIENT = Budget(steps=100, same_call=0)
REPLIES_MAX = (2 * SWITCHES_MAX + 1) * STEPS_MAX * (BUDGET.steps + 1)
"""Each hand-over forward brings one way back at most, or the steps of a pipeline and a way back; whoever has the word
asks its model so many times, and may be given one word more by the server."""

# -- a model -----------------------------------------------------------------------------------------------------------


class Act(Struct, frozen=True):
    """One reply: its text, and its calls by name, arguments and id."""

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()


class Actor:
    """Gives the acts one after the other; then its last word, again and again."""

    def __init__(self, acts: Sequence[Act], last: Act) -> None:
        self._acts = iter(acts)
        self._last = last
        self.prompts: list[Prompt] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        act = next(self._acts, self._last)
        if act.text and stream:
            yield TextPiece(act.text)
        calls = tuple(ToolCall(CallId(call_id), name, arguments) for name, arguments, call_id in act.calls)
        yield ReplyDone(act.text, calls, Usage(1, 1))

    async def close(self) -> None:
        pass


class Played:
    """Tools of the workflow that all do the same."""

    async def call(self, call: ToolCall, staged: StagedCall, context: CallContext) -> ToolOutcome:
        if call.name == SEARCH:
            return ToolOutcome("Nothing was found.", True, ToolFailed.code)
        return ToolOutcome("played")


class Kept:
    """The one workflow there is."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def workflow(self, project: ProjectId, name: str) -> Workflow | None:
        return self._workflow if name == "v1" else None


# -- what is drawn -----------------------------------------------------------------------------------------------------

LOOKUP = WorkflowTool(ToolSpec("lookup", "Looks something up.", {"type": "object"}), ToolKind.MOCK)
_edges = st.lists(st.sampled_from((*AGENTS, "Nobody")), max_size=4, unique=True).map(tuple)


@st.composite
def members(draw: st.DrawFn, name: str) -> Member:
    return Member(
        AgentSpec(name, f"You are {name}.", tools=draw(st.sampled_from([(), ("*",)]))),
        description=draw(st.sampled_from(["", "Does things."])),
        control=draw(st.sampled_from(Control)),
        visibility=draw(st.sampled_from(Visibility)),
        step=draw(st.integers(0, 3)) == 0,
        calls_max=draw(st.sampled_from([None, None, 0, 1, 2])),
        agents=draw(_edges),
        pipelines=draw(st.lists(st.sampled_from((*LINES, "No line")), max_size=2, unique=True).map(tuple)),
        tools=draw(st.sampled_from([(), ("lookup",)])),
        sources=draw(st.sampled_from([(), ("s1",)])),
    )


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Any that can begin: what is merely unwise about them, such as nobody who speaks to the user, is drawn too."""
    cast = tuple(draw(members(name)) for name in AGENTS[: draw(st.integers(1, len(AGENTS)))])
    names = [member.name for member in cast]
    lines = tuple(
        Pipeline(name, tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=STEPS_MAX))))
        for name in LINES[: draw(st.integers(0, len(LINES)))]
    )
    starts = [member.name for member in cast if not member.step] + [line.name for line in lines]
    return Workflow("flow", draw(st.sampled_from(starts or names[:1])), cast, (LOOKUP,), lines)


_ids = st.sampled_from(["c1", "c2", "call_r1_1", "call_r1_2"])
_calls = st.one_of(
    st.tuples(st.just(TRANSFER), st.sampled_from((*AGENTS, *LINES, "Nobody")).map(transfer_text), _ids),
    st.tuples(st.just(TRANSFER), st.sampled_from(["{}", "[]", "oops", f'{{"{TARGET}": 5}}']), _ids),
    st.tuples(st.sampled_from(["lookup", "look", "nothing", SEARCH]), st.sampled_from(["{}", '{"a":1}', "oops"]), _ids),
)
_texts = st.sampled_from(["", "Well.", "It is so."])
acts = st.one_of(
    st.builds(Act, _texts),
    st.builds(Act, _texts, st.lists(_calls, min_size=1, max_size=3).map(tuple)),
    st.builds(lambda name: Act("", ((TRANSFER, transfer_text(name), "c1"),)), st.sampled_from((*AGENTS, *LINES))),
)
speaking = acts.filter(lambda act: act.text or act.calls)
_spoken = st.builds(Act, st.sampled_from(["Well.", "It is so."]))
stagings = st.builds(
    Staging,
    st.just("v1"),
    st.sampled_from([None, "", *AGENTS, "Nobody"]),
    st.sampled_from([{}, {"look": "Say anything."}]),
    st.booleans(),
)

# -- what must hold ----------------------------------------------------------------------------------------------------


async def take_turn(scene: Scene, staging: Staging, *asked: Message) -> list[Event]:
    await scene.drive(ev.TurnReceived(asked or (said("user", "Go."),), staging=staging))
    return check_tape(await scene.events())


def check_tape(events: list[Event]) -> list[Event]:
    """What every tape of a workflow's run holds; the events without those that a reset made void."""
    assert [event for event in events if ev.is_end(event)] == events[-1:]
    calls: dict[str, ToolCall] = {}
    results: dict[str, ev.ToolReturned] = {}
    last: ev.ToolReturned | None = None
    for event in events:
        made = event.calls if isinstance(event, ev.ReplyFinished) else ()
        made = (event.call,) if isinstance(event, ev.CallAdded) else made
        for call in made:
            assert call.id not in calls
            calls[call.id] = call
        if isinstance(event, ev.ReplyFinished):
            assert not (event.text and event.internal)
        elif isinstance(event, ev.ToolReturned):
            assert event.call_id in calls and event.call_id not in results
            results[event.call_id] = event
            if event.code != NOT_HANDED_OVER:
                last = event
        elif isinstance(event, ev.HandedOver):
            assert last is not None and calls[last.call_id].name == TRANSFER
            assert (last.content, last.is_error) == (transfer_text(event.to_agent), False)
            last = None
    if isinstance(events[-1], ev.RunCompleted):
        assert calls.keys() == results.keys()
    check_answer(events)
    return events


def check_answer(events: Sequence[Event]) -> None:
    """What completes ends with a text for the user, by an agent that has the word."""
    turn = turn_of(events)
    if not isinstance(turn.end, ev.RunCompleted):
        assert isinstance(turn.end, ev.RunFailed)
        return
    last = turn.answered[-1]
    assert last.role == "assistant" and last.text and not last.calls
    words = [event.to_agent for event in events if isinstance(event, ev.HandedOver)]
    assert last.name == words[-1] if words else last.name in AGENTS


def turn_of(events: Sequence[Event]) -> Any:
    received = ev.TurnReceived((said("user", "Go."),))
    entries = [ev.Entry(seq, RunId("r1"), 1.0, event) for seq, event in enumerate((received, *events), start=1)]
    (turn,) = Transcript(entries).turns()
    return turn


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """What providers ask for: each result right behind its call, each call answered, and only of tools that are offered
    to who called them."""
    for prompt in prompts:
        due: set[str] = set()
        for message in prompt.messages:
            found = {part.call_id for part in message.parts if isinstance(part, ToolResult)}
            assert (message.role == "tool") == bool(found)
            assert found <= due and (found or not due)
            due = (due - found) | {call.id for call in message.calls}
        assert not due
        ids = [call.id for message in prompt.messages for call in message.calls]
        assert len(ids) == len(set(ids))


def check_words(workflow: Workflow, events: Sequence[Event]) -> None:
    """The word goes from who has it, steps of a pipeline in order, and back to who waits for the report."""
    inside = {member.name: member.internal for member in workflow.members}
    lines = {line.name: line.steps for line in workflow.pipelines}
    waiting: list[tuple[str, str, int]] = []
    speaker = ""
    for handing in (event for event in events if isinstance(event, ev.HandedOver)):
        before, to, line = handing.from_agent, handing.to_agent, handing.pipeline
        assert before == (speaker or before)
        if handing.how is Handing.STEPPED:
            if not waiting:
                assert line == workflow.start
                waiting.append(("", line, 0))
            caller, at_work, at = waiting.pop()
            assert (at_work, to) == (line, lines[line][at + 1])
            waiting.append((caller, line, at + 1))
        elif handing.how is Handing.RETURNED:
            caller, at_work, at = waiting.pop()
            assert to == caller and (not at_work or at == len(lines[at_work]) - 1)
        elif handing.how is Handing.ENTERED:
            assert to == lines[line][0]
            waiting.append((before, line, 0))
        elif handing.how is Handing.CALLED:
            assert inside[to]
            waiting.append((before, "", 0))
        elif handing.how is Handing.RESTARTED:
            assert to == workflow.start
            waiting = []
        else:
            assert not inside[to]
        speaker = to


def replies(events: Sequence[Event]) -> int:
    return sum(isinstance(event, ev.ReplyFinished) for event in events)


def scene_with(workflow: Workflow, model: Actor, budget: Budget, store: MemoryStore | None = None) -> Any:
    return scene_of(
        model,
        store=store,
        workflows=Kept(workflow),
        workflow_tools=Played(),
        tools=LedgerTools({"look": "seen"}),
        budget=budget,
    )


# -- properties --------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(workflow=workflows(), script=st.lists(acts, max_size=12), last=acts, staging=stagings)
async def test_every_turn_ends_within_a_bound_and_what_completes_has_an_answer(
    workflow: Workflow, script: list[Act], last: Act, staging: Staging
) -> None:
    model = Actor(script, last)
    async with scene_with(workflow, model, BUDGET) as scene:
        events = await take_turn(scene, staging)
        assert replies(events) <= REPLIES_MAX
        forward = [event for event in events if isinstance(event, ev.HandedOver) and event.how not in _BACK]
        assert len(forward) <= SWITCHES_MAX
        check_words(workflow, events)
        check_prompts(model.prompts)


_BACK = (Handing.RETURNED, Handing.STEPPED)


@settings(max_examples=150, deadline=None)
@given(workflow=workflows(), script=st.lists(speaking, max_size=12), staging=stagings)
async def test_once_models_stop_handing_over_and_say_something_the_turn_completes(
    workflow: Workflow, script: list[Act], staging: Staging
) -> None:
    async with scene_with(workflow, Actor(script, Act("At last.")), PATIENT) as scene:
        events = await take_turn(scene, staging)
        assert isinstance(events[-1], ev.RunCompleted)


@settings(max_examples=60, deadline=None)
@given(
    workflow=workflows(), script=st.lists(speaking, max_size=8), staging=stagings, again=st.lists(_spoken, max_size=2)
)
async def test_a_crash_after_any_entry_leaves_a_turn_that_ends_with_an_answer(
    workflow: Workflow, script: list[Act], staging: Staging, again: list[Act]
) -> None:
    """…whatever the model says then, as long as it says something."""
    async with scene_with(workflow, Actor(script, Act("At last.")), BUDGET) as scene:
        whole = await take_turn(scene, staging)
    received = ev.TurnReceived((said("user", "Go."),), staging=staging)
    for cut in range(1, len(whole)):  # the claim comes with the turn
        store = MemoryStore(FixedClock())
        async with scene_with(workflow, Actor(again, Act("After all.")), PATIENT, store) as scene:
            accepted = await scene.accept(received)
            assert accepted.claim is not None
            if whole[1:cut]:
                await store.append(accepted.claim, whole[1:cut], after=accepted.claim.seq)
            await scene.driver.drive(await store.reclaim(RunId("r1")))
            events = check_resumed(await scene.events())
            assert isinstance(events[-1], ev.RunCompleted), (cut, events[-1])


def check_resumed(events: list[Event]) -> list[Event]:
    """As `check_tape`, of what is left once void entries are gone."""
    left: list[tuple[int, Event]] = []
    for seq, event in enumerate(events, start=3):
        if isinstance(event, ev.AttemptReset):
            left = [each for each in left if each[0] < event.from_seq]
        else:
            left.append((seq, event))
    return check_tape([event for _, event in left])


THEIRS = ToolSpec("nothing", "The caller's own.", {"type": "object"})


@settings(max_examples=100, deadline=None)
@given(workflow=workflows(), script=st.lists(speaking, max_size=10), staging=stagings, whole=st.booleans())
async def test_a_turn_that_waits_for_its_caller_goes_on_with_the_agent_that_called(
    workflow: Workflow, script: list[Act], staging: Staging, whole: bool
) -> None:
    """…whether the caller sends the results alone or all that it heard."""
    staging = msgspec.structs.replace(staging, last=None)
    model = Actor(script, Act("At last."))
    async with scene_with(workflow, model, PATIENT) as scene:
        messages: tuple[Message, ...] = (said("user", "Go."),)
        for number in range(1, len(script) + 2):
            run = f"r{number}"
            received = ev.TurnReceived(messages, staging=staging, client_tools=(THEIRS,), whole=whole)
            await scene.drive(received, run)
            turn = Transcript(await scene.tape()).turns()[-1]
            if not isinstance(turn.end, ev.RunNeedsClient):
                break
            results = tuple(Message("tool", (ToolResult(call.id, "ok"),)) for call in turn.end.calls)
            told = [msgspec.structs.replace(each, name="") for each in turn.answered if not each.is_internal]
            messages = (*turn.asked, *told, *results) if whole else results
            asked = len(model.prompts)
            caller = turn.answered[-1].name or next(each.name for each in reversed(turn.answered) if each.name)
        else:
            raise AssertionError("it never ended")
        assert isinstance(turn.end, ev.RunCompleted)
        assert turn.answered[-1].text and turn.answered[-1].name in AGENTS
        if number > 1:
            assert model.prompts[asked].messages[0].text.startswith(f"You are {caller}.")
        check_prompts(model.prompts)


# -- what they were written for --------------------------------------------------------------------------------------


async def test_two_agents_that_hand_over_to_each_other_for_ever_are_stopped_and_answer() -> None:
    """By the bound on hand-overs; then neither is offered the tool any more."""
    pair = Workflow(
        "pair", "Ann", (Member(AgentSpec("Ann", ""), agents=("Bob",)), Member(AgentSpec("Bob", ""), agents=("Ann",)))
    )

    class Tennis(Actor):
        async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
            self.prompts.append(prompt)
            tool = next((tool for tool in prompt.tools if tool.name == TRANSFER), None)
            if tool is None:
                yield ReplyDone("Enough.", usage=Usage())
                return
            to = tool.parameters["properties"][TARGET]["enum"][0]
            yield ReplyDone("", (ToolCall(CallId("c"), TRANSFER, transfer_text(to)),))

    async with scene_with(pair, Tennis((), Act()), PATIENT) as scene:
        events = await take_turn(scene, Staging("v1"))
        assert sum(isinstance(event, ev.HandedOver) for event in events) == SWITCHES_MAX
        assert isinstance(events[-1], ev.RunCompleted)
        assert turn_of(events).answered[-1].text == "Enough."


@pytest.mark.parametrize("last", [None, "", "Ann", "Nobody"])
async def test_who_comes_without_a_question_is_greeted(last: str | None) -> None:
    flow = Workflow("flow", "Ann", (Member(AgentSpec("Ann", "")),), greeting="Hello there.")
    model = Actor((), Act("No."))
    async with scene_with(flow, model, BUDGET) as scene:
        events = await take_turn(scene, Staging("v1", last), said("system", "It rains."))
        assert (turn_of(events).answered[-1].text, model.prompts) == ("Hello there.", [])
