"""A crash at every write of a turn that a workflow answers: it asks an internal agent that acts, runs a pipeline, is
refused a hand-over, and ends with another agent's word. Each hand-over stands whole on the tape or not at all, what may
be done once is done once, and the answer is for the user. The crash is played as in `test_fuses.py`."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Repeat
from dragoman.core.events import Entry
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import StartTurn
from dragoman.core.workflows import TRANSFER, Control, Pipeline, Workflow, WorkflowWanted
from dragoman.dialects.rowboat.stream import Stream
from dragoman.runtime.ports import Prompt, ReplyPiece
from dragoman.runtime.workflow import NOT_HANDED_OVER, transfer_text
from tests.crash.test_elastic_fuses import Full
from tests.crash.test_fuses import Fused, stores
from tests.parts import ADMIN, LedgerTools, house_of
from tests.runtime.workflows import InTurn, calls, hand, internal, member, say, step

__all__ = ["stores"]

CONVERSATION = ConversationId("5d1f7b1c4a7e4f7e9d1c0a1b")
ANSWER = "It is done."
LIVES_MAX = 80
WORKFLOW = Workflow(
    "relay",
    "Front",
    (
        member("Front", agents=("Scout", "Clerk"), pipelines=("Line",)),
        internal("Scout"),
        step("One"),
        step("Two"),
        member("Clerk", control=Control.TO_START),
    ),
    pipelines=(Pipeline("Line", ("One", "Two")),),
)
SAID = (
    hand("Scout", text="I ask."),
    calls("look", "send", text="I look."),
    say("It is there."),
    hand("Line", id="t2"),
    say("First."),
    calls("send"),
    say("Second."),
    calls(":Nobody"),
    hand("Clerk", id="t3"),
    say(ANSWER),
)
HANDED = [
    ("Front", "Scout", "called"),
    ("Scout", "Front", "returned"),
    ("Front", "One", "entered"),
    ("One", "Two", "stepped"),
    ("Two", "Front", "returned"),
    ("Front", "Clerk", "transferred"),
]


def tools() -> LedgerTools:
    return LedgerTools({"look": "seen", "send": "sent"}, {"look": Repeat.PURE, "send": Repeat.ONCE})


def turn(*, deltas: bool = False) -> StartTurn:
    return StartTurn(CONVERSATION, (said("user", "do it"),), deltas=deltas, origin="rowboat", workflow=WorkflowWanted())


async def publish(opened: Any, home: Path, workflow: Workflow = WORKFLOW) -> str:
    """The version's id."""
    async with (
        opened() as store,
        house_of(home, InTurn(*SAID), store=store, access=store, tools=tools()) as house,
    ):
        version = await house.workflows.add(ADMIN.project, workflow, source="{}", publish=True)
        return version.id


async def crash(opened: Any, home: Path, ledger: LedgerTools, nth: int, *, after: bool, turn: StartTurn | None) -> bool:
    """One life of the process, which ends at its nth write; whether it was cut short at all."""
    async with opened() as store:
        fused = Fused(store, nth, after=after)
        living = asyncio.create_task(live(fused, store, home, ledger, turn))
        blown = asyncio.create_task(fused.blown.wait())
        done, _ = await asyncio.wait({living, blown}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert done, "the process neither ended nor crashed"
        cut_short = fused.blown.is_set()
        for task in (living, blown):
            task.cancel()
        results = await asyncio.gather(living, blown, return_exceptions=True)
        if not cut_short and isinstance(results[0], BaseException):
            raise results[0]
        return cut_short


async def live(fused: Any, store: Any, home: Path, ledger: LedgerTools, turn: StartTurn | None) -> None:
    async with house_of(home, InTurn(*SAID), store=fused, access=store, tools=ledger) as house:
        if turn is not None:
            await house.desk.outcome(await house.desk.answer(ADMIN, turn))
        else:
            await asyncio.wait_for(house.runs[0].settled(), 5)


async def tape_of(opened: Any) -> Sequence[Entry]:
    async with opened() as store:
        info = await store.get(ADMIN.project, CONVERSATION)
        return () if info is None else await store.read(info.tape, after=0)


def check(entries: Sequence[Entry], ledger: LedgerTools, version: str) -> None:
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    events = [entry.event for entry in entries]
    kinds = Counter(map(type, events))
    assert isinstance(events[0], ev.ConversationCreated) and events[0].workflow == version
    assert isinstance(events[-1], ev.RunCompleted), events[-1]
    assert kinds[ev.RunCompleted] == 1
    replies = [event for event in events if isinstance(event, ev.ReplyFinished)]
    assert [reply.text or reply.internal for reply in replies] == [reply.text for reply in SAID]
    assert replies[-1].text == ANSWER
    handed = [event for event in events if isinstance(event, ev.HandedOver)]
    assert [(event.from_agent, event.to_agent, event.how.value) for event in handed] == HANDED
    check_pairs(events)
    called = [event.call.id for event in events if isinstance(event, ev.CallAdded)]
    called += [call.id for reply in replies for call in reply.calls]
    returned = [event.call_id for event in events if isinstance(event, ev.ToolReturned)]
    assert sorted(returned) == sorted(called), "a call without a result, or with two"
    assert len(set(called)) == len(called)
    assert all(count == 1 for (name, _), count in ledger.effects.items() if name == "send")
    check_stream(entries)


def check_pairs(events: Sequence[ev.Event]) -> None:
    """Each transfer that was granted is followed at once by who has the word now, and it is that agent that speaks."""
    transfers = {event.call.id for event in events if isinstance(event, ev.CallAdded) and event.call.name == TRANSFER}
    transfers |= {
        call.id
        for event in events
        if isinstance(event, ev.ReplyFinished)
        for call in event.calls
        if call.name == TRANSFER
    }
    speaker = "Front"
    for at, event in enumerate(events):
        if isinstance(event, ev.ReplyStarted):
            assert event.agent == speaker
        elif isinstance(event, ev.ToolReturned) and event.call_id in transfers:
            follows = events[at + 1]
            assert isinstance(follows, ev.HandedOver) != (event.code == NOT_HANDED_OVER)
            if isinstance(follows, ev.HandedOver):
                assert event.content == transfer_text(follows.to_agent)
                assert follows.from_agent == speaker
                speaker = follows.to_agent


def check_stream(entries: Sequence[Entry]) -> None:
    """Whoever reads the turn on its wire hears whole pairs, and the answer at last."""
    stream = Stream()
    told = b"".join(stream.entry(entry) for entry in entries)
    frames = [msgspec.json.decode(frame.partition(b"data: ")[2]) for frame in told.split(b"\n\n")[:-1]]
    assert frames[-1]["type"] == "done" and frames[-1]["turn"]["output"][-1]["content"] == ANSWER
    messages = [frame["data"] for frame in frames[:-1]]
    assert messages == frames[-1]["turn"]["output"]
    made = [call["id"] for message in messages for call in message.get("toolCalls") or ()]
    assert sorted(made) == sorted(message["toolCallId"] for message in messages if message["role"] == "tool")
    assert not any("Nobody" in str(message) for message in messages)


@pytest.mark.parametrize("deltas", [False, True], ids=["whole", "deltas"])
@pytest.mark.parametrize("after", [False, True], ids=["before_commit", "after_commit"])
async def test_a_turn_survives_a_crash_at_any_write(stores: Any, tmp_path: Path, after: bool, deltas: bool) -> None:
    version = await publish(stores, tmp_path)
    for nth in range(1, LIVES_MAX):
        ledger = tools()
        if not await crash(stores, tmp_path, ledger, nth, after=after, turn=turn(deltas=deltas)):
            check(await tape_of(stores), ledger, version)
            assert nth > 12, "the turn has fewer writes than it must have"
            return
        if await tape_of(stores):
            await crash(stores, tmp_path, ledger, 10**6, after=False, turn=None)
            check(await tape_of(stores), ledger, version)
        else:
            assert nth == 1 and not after, "what was committed is gone"
        async with stores() as store:
            await store.delete(ADMIN.project, CONVERSATION)
    raise AssertionError("the turn never ended")


async def test_a_turn_survives_a_crash_in_every_life(stores: Any, tmp_path: Path) -> None:
    """Each life gets a few writes: enough for one reply, and each must get at least that much further."""
    version = await publish(stores, tmp_path)
    ledger = tools()
    await crash(stores, tmp_path, ledger, 2, after=False, turn=turn())
    for _ in range(LIVES_MAX):
        if not await crash(stores, tmp_path, ledger, 8, after=False, turn=None):
            break
    check(await tape_of(stores), ledger, version)


async def test_what_is_published_meanwhile_answers_neither_the_run_nor_the_conversation(
    stores: Any, tmp_path: Path
) -> None:
    """The run was begun by one version, the process died, and another was published before the next start."""
    version = await publish(stores, tmp_path)
    ledger = tools()
    assert await crash(stores, tmp_path, ledger, 5, after=True, turn=turn())
    other = msgspec.structs.replace(WORKFLOW, start="Clerk", members=WORKFLOW.members[-1:], pipelines=())
    await publish(stores, tmp_path, other)
    await crash(stores, tmp_path, ledger, 10**6, after=False, turn=None)
    check(await tape_of(stores), ledger, version)
    await crash(stores, tmp_path, ledger, 10**6, after=False, turn=turn())
    received = [entry.event for entry in await tape_of(stores) if isinstance(entry.event, ev.TurnReceived)]
    assert [event.staging.workflow for event in received if event.staging] == [version, version]


class Watching(InTurn):
    """Looks at the tape whenever it is asked for a reply."""

    def __init__(self, store: Any) -> None:
        super().__init__(*SAID)
        self._store = store
        self.handed: list[int] = []
        """Hand-overs that were committed by then."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        info = await self._store.get(ADMIN.project, CONVERSATION)
        entries = await self._store.read(info.tape, after=0)
        self.handed.append(sum(isinstance(entry.event, ev.HandedOver) for entry in entries))
        async for piece in super().reply(prompt, stream=stream):
            yield piece


async def test_readers_know_who_has_the_word_before_it_is_asked(stores: Any, tmp_path: Path) -> None:
    await publish(stores, tmp_path)
    async with stores() as store:
        model = Watching(store)
        async with house_of(tmp_path, model, store=store, access=store, tools=tools()) as house:
            await house.desk.outcome(await house.desk.answer(ADMIN, turn()))
    assert model.handed == [0, 1, 1, 2, 3, 4, 4, 5, 5, 6]


async def test_a_disk_that_is_full_for_a_moment_costs_a_turn_nothing(stores: Any, tmp_path: Path) -> None:
    version = await publish(stores, tmp_path)
    for nth in range(1, LIVES_MAX, 3):
        ledger = tools()
        async with stores() as store:
            full = Full(store, nth)
            async with house_of(tmp_path, InTurn(*SAID), store=full, access=store, tools=ledger) as house:
                await house.desk.outcome(await house.desk.answer(ADMIN, turn()))
        check(await tape_of(stores), ledger, version)
        async with stores() as store:
            await store.delete(ADMIN.project, CONVERSATION)
        if not full.refused:
            assert nth > 6, "the turn has fewer writes than it must have"
            return
    raise AssertionError("the turn never ended")
