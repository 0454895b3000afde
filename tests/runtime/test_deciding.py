"""Runs that wait, and those who decide and answer: over a memory store, with the process that attends to its runs."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.errors import Conflict, Expired, NotFound
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, Principal, ProjectId, RunId, Scope
from dragoman.core.operations import CancelRun
from dragoman.core.waits import (
    AnswerClientTool,
    ClaimClientTool,
    DecideApproval,
    ListApprovals,
    ListWaitingCalls,
    Settled,
    WaitingApproval,
    WaitingApprovals,
    WaitingCall,
)
from dragoman.runtime import deciding, fuses
from dragoman.runtime.attending import Attending
from dragoman.runtime.deciding import Decisions
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.machine import TRIES_MAX
from dragoman.runtime.ports import LEASE_S
from dragoman.runtime.waiting import GRACE_S, arguments_hash
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import Scene, kinds, scene_of, until, within
from tests.support import FixedClock

R1 = RunId("r1")
C1, C2 = CallId("c1"), CallId("c2")
AGENT = AgentSpec("helper", "", ask=("send",), deny=("wipe",), approval_s=60.0)
SEND = ToolCall(C1, "send", '{"to":"ops"}')
HASH = arguments_hash(SEND)
LOCAL = ToolSpec("local", "", {}, toolset="client", held_s=30.0)
ANN = Principal(ADMIN.project, "k1", "ann", frozenset({Scope.CHAT_RUN}), subject="ann")
BOB = Principal(ADMIN.project, "k2", "bob", frozenset({Scope.CHAT_RUN}), subject="bob")


def yes(**changes: Any) -> DecideApproval:
    return replace(DecideApproval(R1, C1, approved=True, arguments_hash=HASH), **changes)


def no() -> DecideApproval:
    return yes(approved=False)


class Stage:
    """A process whose runs are attended to, and decisions over its store."""

    def __init__(self, scene: Scene, clock: FixedClock, tools: LedgerTools, model: ScriptedReplies) -> None:
        self.scene = scene
        self.clock = clock
        self.tools = tools
        self.model = model
        self.attending = Attending(scene.store, scene.runs, clock)
        self.decisions = Decisions((scene.store, MemoryStore(clock)), clock)

    async def asked(self, kind: type[ev.Event], run: str = "r1") -> Any:
        """The first event of a kind on the tape, once it is there."""
        async with asyncio.timeout(5):
            while True:
                for event in await self.scene.events(run):
                    if isinstance(event, kind):
                        return event
                await asyncio.sleep(0)

    async def nudge(self) -> None:
        """Something that means nothing is asked of the run: it looks at the clock again."""
        assert await self.scene.store.ask(R1, ev.ClientToolClaimed(CallId("nothing")))

    async def events(self, run: str = "r1") -> Sequence[ev.Event]:
        return await self.scene.events(run)

    def effects(self, tool: str = "send") -> int:
        return sum(count for (name, _), count in self.tools.effects.items() if name == tool)


@asynccontextmanager
async def stage_of(
    *replies: Any, store: MemoryStore | None = None, clock: FixedClock | None = None, **settings: Any
) -> AsyncGenerator[Stage]:
    clock = clock or FixedClock()
    tools: LedgerTools = settings.pop("tools", None) or LedgerTools(
        {"send": "sent", "look": "seen", "wipe": "wiped"}, {"send": Repeat.ONCE}
    )
    model = ScriptedReplies(*(replies or (call_reply(("send", SEND.arguments)), text_reply("done"))))
    store = store or MemoryStore(clock)
    async with scene_of(model, store=store, clock=clock, tools=tools, agents={"helper": AGENT}, **settings) as scene:
        stage = Stage(scene, clock, tools, model)
        scene.life.spawn(stage.attending.keep_attending())
        yield stage


def client_stage(*calls: tuple[str, str], **settings: Any) -> Any:
    return stage_of(call_reply(*(calls or (("local", "{}"),))), text_reply("done"), **settings)


# -- approvals -------------------------------------------------------------------------------------------------------


async def test_a_call_runs_once_it_is_approved_and_not_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dragoman.runtime")
    async with stage_of(call_reply(("send", SEND.arguments), ("look", "{}")), text_reply("done")) as s:
        started = await s.scene.start()
        requested = await s.asked(ev.ApprovalRequested)
        assert requested == ev.ApprovalRequested(SEND, HASH, s.clock.now() + 60.0)
        await s.asked(ev.ToolReturned)  # what need not be approved does not wait for what must be
        assert (s.effects("look"), s.effects("send")) == (1, 0)
        assert await s.decisions.decide(ANN, yes()) == Settled(R1, started.conversation)
        outcome = await s.scene.outcome(started)
        assert isinstance(outcome.end, ev.RunCompleted) and outcome.text == "done"
        assert s.effects() == 1
        told = kinds(await s.events())
        assert told.index("approval_decided") < told.index("run_completed")
    expected = f"run r1: call c1 of send (arguments {HASH}) was approved by ann"
    assert [record.message for record in caplog.records if "approved" in record.message] == [expected]
    assert "ops" not in caplog.text


async def test_a_denied_call_is_not_run_and_the_model_is_told() -> None:
    async with stage_of() as s:
        started = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.decisions.decide(BOB, no())
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)
        assert s.effects() == 0
        result = s.model.prompts[1].messages[-1].parts[0]
        assert "bob was asked about this call of send and denied it" in str(result)


async def test_what_the_operator_denies_is_refused_without_asking_anybody() -> None:
    async with stage_of(call_reply(("wipe", "{}")), text_reply("done")) as s:
        await s.scene.outcome(await s.scene.start())
        returned = await s.asked(ev.ToolReturned)
        assert (returned.code, s.effects("wipe")) == ("denied", 0)
        assert "approval_requested" not in kinds(await s.events())
        assert "wipe" in [tool.name for tool in s.model.prompts[0].tools]


async def test_the_same_decision_again_is_no_error_and_another_one_is() -> None:
    async with stage_of() as s:
        started = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.decisions.decide(ANN, yes())
        assert (await s.decisions.decide(BOB, yes())).repeated
        with pytest.raises(Conflict, match="The call was approved already"):
            await s.decisions.decide(BOB, no())
        await s.scene.outcome(started)
        assert (await s.decisions.decide(ANN, yes())).repeated  # also when the run has ended
        assert kinds(await s.events()).count("approval_decided") == 1


async def test_of_two_who_decide_at_once_one_is_told_that_the_other_was_first() -> None:
    async with stage_of() as s:
        started = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        told = await asyncio.gather(
            s.decisions.decide(ANN, no()), s.decisions.decide(BOB, yes()), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in told) == ["Conflict", "Settled"]
        await s.scene.outcome(started)
        assert s.effects() == isinstance(told[1], Settled)


@pytest.mark.parametrize(
    ("operation", "error", "words"),
    [
        (yes(arguments_hash="other"), Conflict, "Other arguments are meant"),
        (yes(call=C2), NotFound, "Nobody asked for approval of a call c2"),
        (yes(run=RunId("r9")), NotFound, "There is no run r9"),
        (yes(conversation=ConversationId("d")), NotFound, "There is no run r1"),
        (yes(private=True), NotFound, "There is no run r1"),
    ],
)
async def test_what_was_not_asked_cannot_be_decided(operation: DecideApproval, error: Any, words: str) -> None:
    async with stage_of() as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        with pytest.raises(error, match=words):
            await s.decisions.decide(BOB, operation)
        assert "approval_decided" not in kinds(await s.events())
        await s.scene.runs.cancel(ADMIN, CancelRun(R1))


async def test_another_projects_run_is_not_there() -> None:
    async with stage_of() as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        with pytest.raises(NotFound, match="There is no run r1"):
            await s.decisions.decide(replace(ADMIN, project=ProjectId("other")), yes())
        await s.scene.runs.cancel(ADMIN, CancelRun(R1))


async def test_an_owner_and_an_admin_decide_about_private_runs() -> None:
    async with stage_of() as s:
        started = await s.scene.start()  # by the admin
        await s.asked(ev.ApprovalRequested)
        await s.decisions.decide(ADMIN, yes(private=True, conversation=started.conversation))
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)


async def test_a_decision_that_comes_too_late_is_refused_and_the_call_counts_as_denied() -> None:
    async with stage_of() as s:
        started = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        s.clock.move(60.0)  # the deadline, within the grace: the tape decides
        with pytest.raises(Expired, match="The time for this call is over"):
            await s.decisions.decide(ANN, yes())
        s.clock.move(GRACE_S)
        with pytest.raises(Expired, match="The time for this call is over"):
            await s.decisions.decide(ANN, yes())
        assert kinds(await s.events()).count("approval_decided") == 1
        await s.nudge()
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)
        returned = await s.asked(ev.ToolReturned)
        assert (returned.code, s.effects()) == ("denied", 0)
        with pytest.raises(Expired, match="The run has ended"):
            await s.decisions.decide(ANN, yes())


async def test_what_was_written_in_time_is_found_on_the_tape_before_the_call_is_given_up() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with scene_of(
        ScriptedReplies(call_reply(("send", SEND.arguments)), text_reply("done")),
        store=store,
        clock=clock,
        tools=LedgerTools({"send": "sent"}),
        agents={"helper": AGENT},
    ) as scene:  # nobody attends: no bell reaches the run
        stage = Stage(scene, clock, scene.tools, ScriptedReplies())
        started = await scene.start()
        await stage.asked(ev.ApprovalRequested)
        clock.move(59.9)
        await stage.decisions.decide(ANN, yes())
        clock.move(0.1 + GRACE_S)
        for live in scene.runs._live.values():  # pyright: ignore[reportPrivateUsage]
            live.inbox.put(())  # its time is over
        assert isinstance((await scene.outcome(started)).end, ev.RunCompleted)
        assert stage.effects() == 1


# -- client tools ----------------------------------------------------------------------------------------------------


async def test_the_callers_result_goes_to_the_model_and_the_run_goes_on() -> None:
    async with client_stage() as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        requested = await s.asked(ev.ClientToolRequested)
        assert requested == ev.ClientToolRequested(ToolCall(C1, "local", "{}"), s.clock.now() + 30.0, "client")
        s.clock.move(2.0)
        assert not (await s.decisions.answer(ANN, AnswerClientTool(R1, C1, "mine"))).repeated
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)
        assert await s.asked(ev.ToolReturned) == ev.ToolReturned(C1, "mine", duration_ms=2000)
        assert (await s.decisions.answer(BOB, AnswerClientTool(R1, C1, "mine"))).repeated
        with pytest.raises(Conflict, match="another result"):
            await s.decisions.answer(BOB, AnswerClientTool(R1, C1, "other"))


async def test_calls_of_client_tools_are_requested_one_after_the_other() -> None:
    async with client_stage(("local", '{"n":1}'), ("local", '{"n":2}')) as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        with pytest.raises(NotFound, match="does not wait for the result of a call c2"):
            await s.decisions.answer(ANN, AnswerClientTool(R1, C2, "early"))
        await s.decisions.answer(ANN, AnswerClientTool(R1, C1, "one"))
        async with asyncio.timeout(5):
            while kinds(await s.events()).count("client_tool_requested") < 2:
                await asyncio.sleep(0)
        await s.decisions.answer(ANN, AnswerClientTool(R1, C2, "two", is_error=True))
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)
        results = [event for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert [(each.content, each.code) for each in results] == [("one", ""), ("two", "tool_failed")]


async def test_a_caller_who_does_not_answer_costs_a_timeout() -> None:
    async with client_stage() as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        s.clock.move(30.0 + GRACE_S)
        with pytest.raises(Expired):
            await s.decisions.answer(ANN, AnswerClientTool(R1, C1, "late"))
        await s.nudge()
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)
        assert (await s.asked(ev.ToolReturned)).code == "timeout"


async def test_one_of_several_ends_takes_a_call_up_and_only_that_one_may_answer_under_its_name() -> None:
    async with client_stage() as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        with pytest.raises(Conflict, match="Take up the call before you answer it"):
            await s.decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x", claimed_by="laptop"))
        assert not (await s.decisions.claim(ADMIN, ClaimClientTool(R1, C1, "laptop"))).repeated
        assert (await s.decisions.claim(ADMIN, ClaimClientTool(R1, C1, "laptop"))).repeated
        with pytest.raises(Conflict, match="Somebody else has taken up this call"):
            await s.decisions.claim(ADMIN, ClaimClientTool(R1, C1, "desktop"))
        with pytest.raises(Conflict, match="Somebody else has taken up this call"):
            await s.decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x", claimed_by="desktop"))
        await s.decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x", claimed_by="laptop"))
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)


async def test_what_has_its_result_cannot_be_taken_up() -> None:
    async with client_stage() as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        await s.decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x"))
        with pytest.raises(Conflict, match="The call has its result already"):
            await s.decisions.claim(ADMIN, ClaimClientTool(R1, C1, "laptop"))
        await s.scene.outcome(started)
        with pytest.raises(NotFound):
            await s.decisions.claim(ADMIN, ClaimClientTool(R1, C2, "laptop"))


async def test_calls_that_are_waited_for_are_listed_for_the_owner_of_the_conversation() -> None:
    async with client_stage() as s:
        await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        s.clock.move(1.0)
        other = await s.scene.start(conversation="d", client_tools=(replace(LOCAL, toolset="tunnel"),))
        at = s.clock.now()
        first = WaitingCall(R1, ConversationId("c"), ToolCall(C1, "local", "{}"), "client", at - 1.0, at + 29.0)
        async with asyncio.timeout(5):
            while len((listed := await s.decisions.waiting(ADMIN, ListWaitingCalls())).calls) < 2:
                await asyncio.sleep(0)
        assert [call.toolset for call in listed.calls] == ["client", "tunnel"] and listed.calls[0] == first
        assert (await s.decisions.waiting(ADMIN, ListWaitingCalls("client"))).calls == (first,)
        assert (await s.decisions.waiting(BOB, ListWaitingCalls())).calls == ()
        await s.decisions.claim(ADMIN, ClaimClientTool(R1, C1, "laptop"))
        claimed = replace(first, claimed_by="laptop")
        assert (await s.decisions.waiting(ADMIN, ListWaitingCalls("client"))).calls == (claimed,)
        await s.decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x"))
        assert (await s.decisions.waiting(ADMIN, ListWaitingCalls("client"))).calls == ()
        s.clock.move(30.0)
        assert (await s.decisions.waiting(ADMIN, ListWaitingCalls())).calls == ()
        await s.scene.runs.cancel(ADMIN, CancelRun(other.run))


async def test_approvals_are_listed_for_the_owner_of_the_conversation_and_for_an_admin() -> None:
    async with stage_of(call_reply(("send", '{"to": "ops", "by": "\u202eme", "to": "dev"}')), text_reply("done")) as s:
        first = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        s.clock.move(1.0)
        await s.scene.start(conversation="d")
        at = s.clock.now()
        async with asyncio.timeout(5):
            while len((listed := await s.decisions.approvals(ADMIN, ListApprovals())).approvals) < 2:
                await asyncio.sleep(0)
        requested = await s.asked(ev.ApprovalRequested)
        shown = '{"by":"\\u202eme","to":"dev"}'  # as it is hashed: the key that counts, and nothing that turns the line
        assert listed.approvals[0] == WaitingApproval(
            R1, ConversationId("c"), ADMIN.owner, C1, "send", shown, requested.arguments_hash, at - 1.0, at + 59.0
        )
        assert [approval.run for approval in listed.approvals] == [R1, "r2"] and not listed.more
        owner = replace(ADMIN, scopes=frozenset({Scope.TOOLS_APPROVE}))
        assert await s.decisions.approvals(owner, ListApprovals()) == listed
        assert await s.decisions.approvals(BOB, ListApprovals()) == WaitingApprovals(())
        assert (
            await s.decisions.approvals(replace(ADMIN, project=ProjectId("other")), ListApprovals())
        ).approvals == ()
        await s.decisions.decide(owner, replace(no(), arguments_hash=requested.arguments_hash, private=True))
        await s.scene.outcome(first)
        assert [approval.run for approval in (await s.decisions.approvals(owner, ListApprovals())).approvals] == ["r2"]
        s.clock.move(60.0)
        assert (await s.decisions.approvals(owner, ListApprovals())).approvals == ()
        await s.scene.runs.cancel(ADMIN, CancelRun(RunId("r2")))


async def test_a_list_of_approvals_looks_at_so_many_runs_and_says_that_there_are_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deciding, "RUNS_LOOKED_AT_MAX", 1)
    async with stage_of() as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        assert not (await s.decisions.approvals(ADMIN, ListApprovals())).more
        await s.scene.start(conversation="d")
        listed = await s.decisions.approvals(ADMIN, ListApprovals())
        assert ([approval.run for approval in listed.approvals], listed.more) == ([R1], True)
        for run in (R1, RunId("r2")):
            await s.scene.runs.cancel(ADMIN, CancelRun(run))


async def test_runs_that_are_not_kept_are_found_too() -> None:
    clock = FixedClock()
    ephemeral = MemoryStore(clock)
    async with client_stage(store=ephemeral, clock=clock) as s:
        decisions = Decisions((MemoryStore(clock), ephemeral), clock)
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ClientToolRequested)
        assert len((await decisions.waiting(ADMIN, ListWaitingCalls())).calls) == 1
        await decisions.answer(ADMIN, AnswerClientTool(R1, C1, "x"))
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)


def test_each_operation_has_its_handler() -> None:
    decisions = Decisions((), FixedClock())
    wanted = {DecideApproval, ClaimClientTool, AnswerClientTool, ListWaitingCalls, ListApprovals}
    assert decisions.handlers().keys() == wanted


# -- waiting ---------------------------------------------------------------------------------------------------------


async def test_cancelling_ends_a_run_that_waits_at_once() -> None:
    async with stage_of() as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        view = await within(s.scene.runs.cancel(ADMIN, CancelRun(R1)))
        assert view.status == "cancelled" and s.effects() == 0


async def test_a_wish_that_came_by_another_process_ends_a_run_that_waits() -> None:
    async with stage_of() as s:
        started = await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.scene.store.ask(R1, ev.CancelAsked("me"))
        outcome = await s.scene.outcome(started)
        assert isinstance(outcome.end, ev.RunCancelled) and outcome.end.cancelled_by == "me"


async def test_what_was_heard_is_not_read_again_with_each_heartbeat() -> None:
    async with stage_of() as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.nudge()
        await s.attending.hear()
        before = s.scene.store.called.count("read_run")
        for _ in range(5):
            await s.attending.hear()
            await s.attending.renew()
        assert s.scene.store.called.count("read_run") == before
        await s.scene.runs.cancel(ADMIN, CancelRun(R1))


async def test_a_process_that_stops_hands_the_run_back_and_the_next_waits_until_the_same_moment() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with stage_of(store=store, clock=clock) as first:
        await first.scene.start()
        requested = await first.asked(ev.ApprovalRequested)
        await first.scene.runs.hand_back()
    clock.move(30.0)
    async with stage_of(store=store, clock=clock, ids="other") as second:
        assert await second.scene.recovery.sweep() == 1
        await second.decisions.decide(ANN, yes())
        await second.scene.settled()
        events = await second.events()
        assert [event for event in events if isinstance(event, ev.ApprovalRequested)] == [requested]
        assert isinstance(events[-1], ev.RunCompleted) and second.effects() == 1


async def test_a_run_that_waits_outlives_any_number_of_processes() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with stage_of(store=store, clock=clock) as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.scene.runs.hand_back()
    for number in range(TRIES_MAX + 2):
        async with stage_of(store=store, clock=clock, ids=f"n{number}") as s:
            await s.scene.recovery.sweep()
            await until(lambda s=s: s.scene.store.called.count("read_run") > 0)
            await s.scene.runs.hand_back()
    clock.move(LEASE_S + 1)
    async with stage_of(store=store, clock=clock, ids="last") as s:
        await s.scene.recovery.sweep()
        await s.decisions.decide(ANN, yes())
        await s.scene.settled()
        events = await s.events()
        assert isinstance(events[-1], ev.RunCompleted) and s.effects() == 1
        assert kinds(events).count("run_claimed") == TRIES_MAX + 4
        assert kinds(events).count("approval_requested") == 1


async def test_an_approval_that_came_while_nobody_drove_the_run_is_found() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with stage_of(store=store, clock=clock) as s:
        await s.scene.start()
        await s.asked(ev.ApprovalRequested)
        await s.scene.runs.hand_back()
        await s.decisions.decide(ANN, yes())
    clock.move(3600.0)
    async with stage_of(store=store, clock=clock, ids="other") as s:
        await s.scene.recovery.sweep()
        await s.scene.settled()
        assert isinstance((await s.events())[-1], ev.RunCompleted) and s.effects() == 1


@pytest.mark.parametrize("point", ["approval.decided", "clienttool.answered"])
async def test_what_was_committed_and_not_told_is_a_repeat_the_next_time(point: str) -> None:
    opened = stage_of() if point == "approval.decided" else client_stage()
    async with opened as s:
        started = await s.scene.start(client_tools=(LOCAL,))
        await s.asked(ev.ApprovalRequested if point == "approval.decided" else ev.ClientToolRequested)

        async def bring() -> Settled:
            if point == "approval.decided":
                return await s.decisions.decide(ANN, yes())
            return await s.decisions.answer(ANN, AnswerClientTool(R1, C1, "x"))

        fuses.arm(f"{point}=raise")
        try:
            with pytest.raises(FuseBlown):
                await bring()
        finally:
            fuses.arm("")
        assert (await bring()).repeated
        assert isinstance((await s.scene.outcome(started)).end, ev.RunCompleted)


@pytest.mark.parametrize("point", ["approval.requested", "clienttool.requested"])
async def test_a_run_that_breaks_off_after_it_asked_has_committed_what_it_asked_and_the_reply(point: str) -> None:
    fuses.arm(f"{point}=raise")
    try:
        async with stage_of() if point == "approval.requested" else client_stage() as s:
            await s.scene.outcome(await s.scene.start(client_tools=(LOCAL,)))
            told = kinds(await s.events())
            assert told[told.index("reply_finished") + 1] in ("approval_requested", "client_tool_requested")
    finally:
        fuses.arm("")
