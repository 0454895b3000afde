"""Simulations around a workflow that is played: who says what, when it ends, and what comes of it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import count

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import BackendFailed, LimitReached, NotFound, Unavailable
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage
from dragoman.core.names import CallId, ProjectId, RunId, Tape
from dragoman.core.operations import Outcome, Started, StartTurn
from dragoman.core.records import Record
from dragoman.core.simulations import (
    Checks,
    Line,
    ProfileDraft,
    Scenario,
    Simulation,
    SimulationResult,
    SimulationRun,
    Status,
    Suite,
    Verdict,
)
from dragoman.core.workflows import WorkflowWanted
from dragoman.models.catalogue import Catalogue
from dragoman.runtime import simulating
from dragoman.runtime.playing import ENDED
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from dragoman.runtime.simulating import Simulator
from dragoman.runtime.simulation_runs import SimulationRuns
from dragoman.runtime.test_profiles import TestProfiles
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P = ProjectId("p")
WORKFLOW = "a" * 24
PASS = '{"verdict": "pass", "details": "Fine."}'
FAIL = '{"verdict": "fail", "details": "Rude."}'


class Player:
    """A model that plays the user with `says`, one after the other, and judges with `verdicts`."""

    def __init__(self, says: Sequence[str] = (), verdicts: Sequence[str] = (PASS,)) -> None:
        self.says = says
        self.verdicts = list(verdicts)
        self.prompts: list[Prompt] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        if "You judge" in prompt.messages[0].text:
            yield ReplyDone(self.verdicts.pop(0))
            return
        said = sum(message.role == "assistant" for message in prompt.messages)
        yield ReplyDone(self.says[said] if said < len(self.says) else ENDED)

    async def close(self) -> None: ...


class StandIn(Player):
    """A router: it says what is plain."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        yield ReplyDone(prompt.plain)


HANDED = '{"assistant": "Billing"}'
NOWHERE = ToolCall(CallId("c0"), "transfer_to_agent", "{}")


def answer_of(turn: StartTurn, *answered: Message, end: ev.RunEnd | None = None) -> Outcome:
    started = Started(turn.conversation, Tape(1), RunId("r"), 1, True, True)
    return Outcome(started, end or ev.RunCompleted(Usage(10, 5)), "", 1, (), Usage(10, 5), answered)


class Workflow:
    """Answers with what was asked. `during` is awaited in each turn."""

    def __init__(self) -> None:
        self.turns: list[StartTurn] = []
        self.during: Callable[[StartTurn], Awaitable[None]] | None = None
        self.end: ev.RunEnd | None = None
        self.at_once = 0
        self.most_at_once = 0

    async def take(self, turn: StartTurn) -> Outcome:
        self.turns.append(turn)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.during is not None:
                await self.during(turn)
        finally:
            self.at_once -= 1
        return answer_of(
            turn,
            Message("assistant", (NOWHERE,), name="Front Desk"),
            Message("tool", (ToolResult(NOWHERE.id, "no", is_error=True),)),
            Message("assistant", (Text("Think.", hidden=True),), name="Researcher"),
            Message("assistant", (Text(f"You said: {turn.messages[-1].text}"),), name="Billing"),
            end=self.end,
        )


class StubbornRecords(MemoryRecords):
    """Refuses writes of runs from the nth on."""

    left = 10_000

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if record.kind == "simulation_run":
            self.left -= 1
            if self.left < 0:
                raise Unavailable("The disk is full.")
        return await super().put(record, expect=expect)


class Place:
    def __init__(self, model: Player) -> None:
        numbers = count(1)
        self.clock = FixedClock(1000.0)
        self.records = StubbornRecords(self.clock)
        self.profiles = TestProfiles(self.records, new_id=lambda: f"{next(numbers):024x}")
        self.runs = SimulationRuns(self.records, self.clock)
        self.workflow = Workflow()
        self.stop = asyncio.Event()
        self.told: list[SimulationResult] = []
        models = Catalogue({"main": model, "small": model}, "main")
        self.simulator = Simulator(
            self.workflow.take, models, self.profiles, self.runs, self.clock, new_id=lambda: f"{next(numbers):024x}"
        )

    async def run(self, suite: Suite, *, attempts: int = 1, concurrency: int = 4) -> SimulationRun:
        return await self.simulator.run(
            P,
            suite,
            name="suite",
            workflow=WORKFLOW,
            stop=self.stop,
            told=self.told.append,
            attempts=attempts,
            concurrency=concurrency,
        )

    async def one(self, simulation: Simulation) -> SimulationResult:
        run = await self.run(Suite((simulation,)))
        (result,) = run.results
        return result


LATE = Simulation("late", Scenario("late", "You wait for a lamp."), pass_criteria="It says sorry.")
SAYS = replace(LATE, says=("One?", "Two?"), turns=2)


async def test_user_and_workflow_alternate_until_the_turns_are_taken_and_the_judge_says_what_it_was():
    model = Player(["Where is it?", "When then?", "Never?"])
    place = Place(model)
    result = await place.one(replace(LATE, turns=2))

    assert (result.verdict, result.details) == (Verdict.PASS, "Fine.")
    assert result.transcript == (
        Line("user", "Where is it?"),
        Line("internal", "Think.", "Researcher"),
        Line("agent", "You said: Where is it?", "Billing"),
        Line("user", "When then?"),
        Line("internal", "Think.", "Researcher"),
        Line("agent", "You said: When then?", "Billing"),
    )
    assert result.usage == Usage(20, 10)
    assert place.told == [result]
    assert "It says sorry." in model.prompts[-1].messages[1].text


async def test_each_turn_is_stateless_and_brings_the_history_and_who_spoke_last():
    place = Place(Player())
    await place.one(SAYS)
    first, second = place.workflow.turns

    assert [turn.workflow for turn in (first, second)] == [
        WorkflowWanted(WORKFLOW, "", ""),
        WorkflowWanted(WORKFLOW, "", "Billing"),
    ]
    assert all(turn.ephemeral and not turn.deltas and turn.origin == "simulation" for turn in (first, second))
    assert first.conversation != second.conversation
    assert [message.full_text for message in second.messages] == ["One?", "Think.", "You said: One?", "Two?"]


async def test_the_user_may_be_done_early_and_may_say_good_bye_in_the_same_breath():
    place = Place(Player(["Where?"]))
    assert len([line for line in (await place.one(LATE)).transcript if line.role == "user"]) == 1
    place = Place(Player(["Where?", f"Thanks, bye. {ENDED}", "more"]))
    result = await place.one(LATE)
    assert [line.text for line in result.transcript if line.role == "user"] == ["Where?", "Thanks, bye."]


@pytest.mark.parametrize("said", ["", "  ", ENDED])
async def test_a_user_who_says_nothing_is_an_error_and_asks_no_judge(said: str):
    place = Place(Player([said], verdicts=()))
    result = await place.one(LATE)
    assert (result.verdict, result.details) == (Verdict.ERROR, "The model that plays the user said nothing.")
    assert (result.transcript, place.workflow.turns) == ((), [])


async def test_says_come_first_word_by_word_and_then_the_model_goes_on():
    model = Player(["never said", f"{ENDED} never said either", "And now?"])
    place = Place(model)
    result = await place.one(replace(SAYS, says=("One?", f"Two {ENDED}"), turns=4))
    said = [line.text for line in result.transcript if line.role == "user"]
    assert said == ["One?", f"Two {ENDED}", "And now?"]


async def test_checks_that_do_not_hold_fail_it_and_ask_no_judge():
    model = Player(verdicts=())
    result = await Place(model).one(replace(SAYS, checks=Checks(contains=("sorry",), last_agent="Front Desk")))
    assert result.verdict is Verdict.FAIL
    assert result.details == ('The user was not told "sorry". The last to speak was Billing and not Front Desk.')
    assert model.prompts == []


async def test_checks_alone_need_no_model():
    model = Player(verdicts=())
    result = await Place(model).one(replace(SAYS, pass_criteria="", checks=Checks(contains=("you said: two?",))))
    assert (result.verdict, result.details, model.prompts) == (Verdict.PASS, "All checks hold.", [])


@pytest.mark.parametrize(
    ("verdicts", "verdict", "details"),
    [
        ((FAIL,), Verdict.FAIL, "Rude."),
        (("Well done!", PASS), Verdict.PASS, "Fine."),
        (("?", "?"), Verdict.ERROR, "The judge gave no verdict that can be read, also when asked again."),
    ],
)
async def test_a_judge_is_asked_twice_at_most(verdicts: Sequence[str], verdict: Verdict, details: str):
    model = Player(verdicts=verdicts)
    result = await Place(model).one(SAYS)
    assert (result.verdict, result.details) == (verdict, details)
    assert model.verdicts == []


async def test_without_a_language_model_the_user_says_the_scenario_and_nothing_is_judged():
    result = await Place(StandIn()).one(LATE)
    assert [line.text for line in result.transcript if line.role == "user"] == ["You wait for a lamp."]
    assert result.verdict is Verdict.ERROR
    assert result.details.startswith("It takes a language model to judge")


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (ev.RunFailed("step_limit", "It went round in circles.", Usage()), "It went round in circles."),
        (ev.RunCancelled("somebody", Usage()), "The run was stopped."),
    ],
)
async def test_a_turn_that_is_not_answered_is_an_error(end: ev.RunEnd, why: str):
    place = Place(Player(verdicts=()))
    place.workflow.end = end
    result = await place.one(SAYS)
    assert (result.verdict, result.details) == (Verdict.ERROR, f"Turn 1 was not answered: {why}")
    assert result.transcript[-1] == Line("agent", "You said: One?", "Billing")
    assert len(place.workflow.turns) == 1


@pytest.mark.parametrize("error", [BackendFailed("The model is away."), LimitReached("Too many.", limit="x")])
async def test_errors_of_one_simulation_are_its_result_and_the_others_go_on(error: Exception):
    place = Place(Player(verdicts=[PASS]))

    async def break_some(turn: StartTurn) -> None:
        if turn.messages[-1].text == "break":
            raise error

    place.workflow.during = break_some
    run = await place.run(Suite((replace(SAYS, name="broken", says=("break",), turns=1), SAYS)))
    assert [(result.simulation, result.verdict) for result in run.results] == [
        ("broken", Verdict.ERROR),
        ("late", Verdict.PASS),
    ]
    assert run.results[0].details == error.args[0]
    assert (run.status, run.aggregate.total, run.planned) == (Status.COMPLETED, 2, 2)


async def test_profiles_are_lent_or_found_and_their_context_is_known_to_who_plays_the_user():
    model = Player(["Hello"], verdicts=[PASS] * 3)
    place = Place(model)
    kept = await place.profiles.create(P, name="Kept", context="Name: Bo.")
    suite = Suite(
        (replace(LATE, profile="ana"), replace(LATE, profile=kept.id), LATE),
        (ProfileDraft("ana", "Name: Ana.", True, "Late."),),
    )
    run = await place.run(suite, concurrency=1)
    assert run.aggregate.passed == 3
    wanted = [turn.workflow.test_profile for turn in place.workflow.turns if turn.workflow is not None]
    lent = await place.profiles.get(P, wanted[0])
    assert lent is not None and (lent.context, lent.mock_tools, lent.mock_prompt) == ("Name: Ana.", True, "Late.")
    assert wanted[1:] == [kept.id, ""]
    told = [prompt.messages[0].text for prompt in model.prompts if len(prompt.messages) == 2 and prompt.plain != ENDED]
    assert [("Name: Ana." in text, "Name: Bo." in text) for text in told if "You play" in text] == [
        (True, False),
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("suite", "what"),
    [
        (Suite((replace(SAYS, profile="nobody"),)), "test_profile"),
        (Suite((replace(SAYS, profile="f" * 24),)), "test_profile"),
        (Suite((SAYS,), user_model="gone"), "model"),
        (Suite((SAYS,), judge_model="gone"), "model"),
    ],
)
async def test_what_is_not_there_is_found_out_before_anything_is_said(suite: Suite, what: str):
    place = Place(Player())
    with pytest.raises(NotFound) as error:
        await place.run(suite)
    assert error.value.what == what
    assert place.workflow.turns == []
    (kept,) = await place.runs.ls(P)
    assert (kept.status, kept.detail, kept.completed_at) == (Status.ERROR, error.value.detail, 1000.0)


async def test_models_may_be_named():
    place = Place(Player())
    run = await place.run(Suite((SAYS,), user_model="small", judge_model="small"))
    assert run.aggregate.passed == 1


async def test_each_is_repeated_and_the_results_come_in_order_however_long_they_took():
    place = Place(Player(verdicts=[PASS] * 6))

    async def slow(turn: StartTurn) -> None:
        for _ in range(20 if turn.messages[-1].text == "slow" else 0):
            await asyncio.sleep(0)

    place.workflow.during = slow
    run = await place.run(
        Suite((replace(SAYS, name="a", says=("slow",), turns=1), replace(SAYS, name="b"))), attempts=3
    )
    order = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    assert [(result.simulation, result.attempt) for result in run.results] == order
    assert [(result.simulation, result.attempt) for result in place.told] != order
    assert await place.runs.ls(P) == (run,)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_so_many_are_at_work_at_once(concurrency: int):
    place = Place(Player(verdicts=[PASS] * 8))
    await place.run(Suite((SAYS,)), attempts=8, concurrency=concurrency)
    assert place.workflow.most_at_once == concurrency


async def test_what_was_done_is_told_when_it_is_stopped():
    place = Place(Player(verdicts=[PASS] * 4))

    async def stop_at_the_third(turn: StartTurn) -> None:
        if len(place.told) == 2:
            place.stop.set()
            await asyncio.Event().wait()

    place.workflow.during = stop_at_the_third
    run = await place.run(Suite((SAYS,)), attempts=4, concurrency=1)
    assert (run.status, run.planned, [result.attempt for result in run.results]) == (Status.CANCELLED, 4, [1, 2])
    assert await place.runs.ls(P) == (run,)
    assert place.workflow.at_once == 0


async def test_a_run_at_work_is_written_now_and_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulating, "BEAT_S", 0.0)
    place = Place(Player(verdicts=[PASS] * 2))
    seen: list[SimulationRun] = []

    async def look(turn: StartTurn) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        seen.extend(await place.runs.ls(P))

    place.workflow.during = look
    await place.run(Suite((SAYS,)), attempts=2, concurrency=1)
    assert {run.status for run in seen} == {Status.RUNNING}
    assert [len(run.results) for run in seen] == [0, 0, 1, 1]


async def test_a_store_that_is_full_ends_nothing_once_it_has_begun(caplog: pytest.LogCaptureFixture):
    place = Place(Player())
    place.records.left = 1
    run = await place.run(Suite((SAYS,)))
    assert (run.status, run.aggregate.passed) == (Status.COMPLETED, 1)
    assert "could not be written: The disk is full." in caplog.text
    place.records.left = 0
    with pytest.raises(Unavailable):
        await place.run(Suite((SAYS,)))


async def test_a_fault_of_ours_is_no_result_and_is_kept_as_an_error():
    place = Place(Player())

    async def bug(turn: StartTurn) -> None:
        raise ZeroDivisionError

    place.workflow.during = bug
    with pytest.raises(ExceptionGroup):
        await place.run(Suite((SAYS,)))
    (kept,) = await place.runs.ls(P)
    assert (kept.status, kept.detail) == (Status.ERROR, "It broke for a reason that is ours.")


async def test_what_is_kept_last_is_the_end_however_slow_a_write_before_it() -> None:
    """A write goes on in its store when who waits for it is cancelled."""
    written: list[SimulationRun] = []

    async def write(run: SimulationRun) -> None:
        await asyncio.sleep(0.05)
        written.append(run)

    async def keep(run: SimulationRun) -> None:
        await asyncio.shield(asyncio.create_task(write(run)))

    async def simulate(at: int, attempt: int) -> SimulationResult:
        return SimulationResult("s", attempt, Verdict.PASS, "", ())

    run = SimulationRun("1", "suite", "w", Status.RUNNING, 1, 0.0)
    running = simulating._Running(run, simulate, keep, lambda _: None)  # pyright: ignore[reportPrivateUsage]
    assert await running.through(1, 1, concurrency=1, stop=asyncio.Event()) is Status.COMPLETED
    assert len(written) == 1
